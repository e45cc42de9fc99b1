"""Policies by name: shipped ones, yours as ``module:attr`` or ``path/to/file.py:attr``, and checkpoints."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any, cast

from v2w_gym.policies.base import Policy
from v2w_gym.policies.shipped import SHIPPED

MAKERS: dict[str, str] = {
    "sb3": "v2w_gym.policies.sb3:from_spec",
    "torch": "v2w_gym.policies.modules:from_spec",
    "replay": "v2w_gym.policies.recorded:from_spec",
    "planner": "v2w_gym.policies.planner:from_spec",
    "ws": "v2w_gym.policies.remote:from_spec",
    "wss": "v2w_gym.policies.remote:from_spec",
    "remote": "v2w_gym.policies.remote:from_spec",
    "latent": "v2w_gym.policies.latent:from_spec",
    "openvla": "v2w_gym.policies.openvla:from_spec",
    "lerobot": "v2w_gym.policies.lerobot:from_spec",
}
"""Prefix of a spec to the function that makes the policy, given the whole spec; imported when it is needed.

A prefix whose whole spec may be the prefix alone, such as ``planner``, needs no colon.
"""


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
            f"unknown policy {name!r}; {hint} Your own joins as module:attr or path/to/file.py:attr, "
            f"others by a prefix: {', '.join(f'{prefix}:...' for prefix in MAKERS)}"
        )
    return SHIPPED[name].make()


def resolve(spec: str) -> Policy:
    """A policy from a text.

    ==============================  ======================================================================
    spec                            policy
    ==============================  ======================================================================
    ``converged``                   a shipped one
    ``module:attr``                 an object with ``act(observation)``, or a class or function that makes
                                    one when called without arguments
    ``path/to/file.py:attr``        the same, from a file
    ``sb3:FILE.zip``                a model of Stable-Baselines3, see ``sb3.py``
    ``torch:FILE.pt2``              an exported or scripted torch module, see ``modules.py``
    ``replay:FOLDER``               recorded actions again, see ``recorded.py``
    ``planner``                     the cross-entropy method in the shipped world, see ``planner.py``
    ``ws://HOST:PORT``, ``wss://``  a policy server that speaks openpi's protocol, see ``remote.py``
    ``remote:FILE.yaml``            the same with all its options in a file
    ``latent:FILE.safetensors``     what ``v2w imagine`` trained on latents, see ``latent.py``
    ``openvla:FOLDER_OR_ID``        a vision-language-action model of transformers, see ``openvla.py``
    ``lerobot:FOLDER_OR_ID``        a policy of LeRobot with its processors, see ``lerobot.py``
    ==============================  ======================================================================

    ``MAKERS`` has every prefix. Options follow after commas: ``sb3:FILE.zip,deterministic=false``.

    Raises:
        ValueError: an unknown name, no such module, file or attribute, or something that cannot act; the
            message names the spec.
        ImportError: a package that this kind of policy needs is missing.
    """
    prefix, colon, _ = spec.partition(":")
    if prefix in MAKERS and (colon or spec not in SHIPPED):
        return _made(MAKERS[prefix], spec)
    if not colon:
        return load(spec)
    return _found(spec)


def _made(maker: str, spec: str) -> Policy:
    module, _, attribute = maker.partition(":")
    try:
        return cast(Policy, getattr(importlib.import_module(module), attribute)(spec))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"policy {spec!r}: {error}") from error


def _found(spec: str) -> Policy:
    """From ``module:attr`` or ``path/to/file.py:attr``."""
    source, _, attribute = spec.rpartition(":")
    module = _from_file(Path(source)) if source.endswith(".py") else _from_name(source)
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {source}:{near[0]}?" if near else ""
        raise ValueError(f"{source} has no {attribute!r}{hint}")
    found = getattr(module, attribute)
    if isinstance(found, type) or (callable(found) and not hasattr(found, "act")):
        found = _called(spec, found)
    if not callable(getattr(found, "act", None)):
        raise ValueError(
            f"policy {spec!r} must have a method act(observation) -> actions (b, a), "
            f"got {type(found).__name__}"
        )
    return cast(Policy, found)


def _called(spec: str, factory: Any) -> Any:
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
        near = difflib.get_close_matches(name, MAKERS, n=1)
        hint = f"; did you mean {near[0]}:...?" if near else ""
        raise ValueError(
            f"cannot import {name!r} ({error}){hint}; is it installed, or meant as a path/to/file.py:attr? "
            f"Prefixes with a meaning of their own: {', '.join(MAKERS)}"
        ) from error


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"no file {path}; give the path of a Python file, e.g. ./my_policy.py:MyPolicy")
    name = f"{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"  # hides no other
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickles look for what their classes refer to
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path} could not be run: {error!r}") from error
    return module
