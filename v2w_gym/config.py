"""Frozen dataclasses from JSON or YAML: unknown keys are errors, values round-trip, all have a hash."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")  # YAML 1.1 takes 5e-4 for text


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass ``cls`` from plain values, nested dataclasses included.

    Args:
        cls: a dataclass.
        values: plain JSON values; a missing key takes the field's default.
        where: path of the values, used in messages.

    Raises:
        ValueError: an unknown or missing key; near-miss names are suggested.
    """
    where = where or cls.__name__
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping of keys to values, got {type(values).__name__}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1) if isinstance(key, str) else []
            hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {sorted(fields)}"
            raise ValueError(f"unknown key {key!r} in {where}{hint}")
    hints = typing.get_type_hints(cls)
    built = {k: _coerce(hints[k], v, f"{where}.{k}") for k, v in values.items()}
    missing = [
        f.name
        for f in fields.values()
        if f.name not in built
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where} lacks the key(s) {missing}")
    return cls(**built)


def _coerce(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        inner = [a for a in arguments if a is not type(None)]
        return _coerce(inner[0], value, where) if len(inner) == 1 else _any_of(inner, value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list, got {value!r}")
        item = arguments[0] if arguments else Any
        return tuple(_coerce(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} must be a mapping of keys to values, got {value!r}")
        return {k: _coerce(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{where} must be one of {list(arguments)}, got {value!r}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    if hint in (int, float, str, bool) and (
        not isinstance(value, hint) or (hint is int and isinstance(value, bool))
    ):
        raise ValueError(f"{where} must be {hint.__name__}, got {value!r}")
    return value


def _any_of(hints: list[Any], value: Any, where: str) -> Any:
    refusals = []
    for hint in hints:
        try:
            return _coerce(hint, value, where)
        except ValueError as error:
            refusals.append(str(error))
    raise ValueError("; or ".join(refusals))


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON values of a dataclass; tuples become lists, so that it round-trips through a file."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(config))))


def load(cls: type[T], path: str | Path, overrides: Mapping[str, Any] | None = None) -> T:
    """Read a JSON or YAML file into the dataclass ``cls``; ``overrides`` replace top-level keys."""
    try:
        values = yaml.safe_load(Path(path).read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is neither JSON nor YAML: {error}") from error
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} must hold a mapping of keys to values, got {type(values).__name__}")
    return from_dict(cls, {**values, **(overrides or {})}, where=str(path))


def config_hash(config: Any) -> str:
    """Twelve hexadecimal digits that name the values of a dataclass."""
    return hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:12]
