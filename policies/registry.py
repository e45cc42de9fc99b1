"""Policies by name: the shipped ones, and yours by ``module:attr`` or ``path/to/file.py:attr``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from pathlib import Path
from typing import Any, cast

from v2w_gym.policies.base import Policy
from v2w_gym.policies.shipped import SHIPPED


def names() -> list[str]:
    """Names of the shipped policies, in a fixed order."""
    return list(SHIPPED)


def load(name: str) -> Policy:
    """A fresh shipped policy.

    Raises:
        ValueError: an unknown name; near misses are suggested.
    """
    if name not in SHIPPED:
        near = difflib.get_close_matches(name, SHIPPED, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"shipped: {names()}"
        raise ValueError(
            f"unknown policy {name!r}; {hint} Your own joins as module:attr or path/to/file.py:attr"
        )
    return SHIPPED[name].make()


def resolve(spec: str) -> Policy:
    """A policy from a shipped name, from ``module:attr`` or from ``path/to/file.py:attr``.

    ``attr`` is an object with ``act(observation)``, or a class or function that makes one when called without
    arguments.

    Raises:
        ValueError: an unknown name, no such module, file or attribute, or something that cannot act.
    """
    if ":" not in spec:
        return load(spec)
    source, _, attribute = spec.rpartition(":")
    module = _from_file(Path(source)) if source.endswith(".py") else _from_name(source)
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {source}:{near[0]}?" if near else ""
        raise ValueError(f"{source} has no {attribute!r}{hint}")
    found = getattr(module, attribute)
    if isinstance(found, type) or (callable(found) and not hasattr(found, "act")):
        found = _make(spec, found)
    if not callable(getattr(found, "act", None)):
        raise ValueError(
            f"policy {spec!r} must have a method act(observation) -> actions (b, a), "
            f"got {type(found).__name__}"
        )
    return cast(Policy, found)


def _make(spec: str, factory: Any) -> Any:
    try:
        return factory()
    except Exception as error:
        raise ValueError(
            f"policy {spec!r} could not be made by calling it without arguments: {error!r}; "
            "name an instance or a function without arguments instead"
        ) from error


def _from_name(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"cannot import {name!r} ({error}); is it installed, or meant as a path/to/file.py:attr?"
        ) from error


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"no file {path}; give the path of a Python file, e.g. ./my_policy.py:MyPolicy")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} could not be run: {error!r}") from error
    return module
