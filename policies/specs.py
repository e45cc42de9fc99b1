"""Texts that name a policy: ``PREFIX:TARGET,key=value,...``, e.g. ``sb3:ppo.zip,deterministic=false``."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import yaml

from v2w_gym.config import from_dict

T = TypeVar("T")
_OPTION = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


def parse_spec(spec: str, options: type[T]) -> tuple[str, T]:
    """What stands behind the prefix, and the options after it.

    Args:
        spec: ``PREFIX:TARGET,key=value,...``; values are YAML, several numbers are divided by slashes, e.g.
            ``mean=0.5/0.5/0.5``. ``PREFIX:key=value,...`` and ``PREFIX`` have an empty target.
        options: a dataclass with a default for every field.

    Raises:
        ValueError: an option that there is not (near misses are suggested), or a value of another kind.
    """
    prefix, _, rest = spec.partition(":")
    parts = rest.split(",")
    first = len(parts)
    while first and _OPTION.fullmatch(parts[first - 1]):
        first -= 1
    values = {}
    for part in parts[first:]:
        key, _, text = part.partition("=")
        values[key] = _value(text)
    return ",".join(parts[:first]), from_dict(options, values, where=f"the options of {prefix}:")


def _value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
        numbers = [yaml.safe_load(part) for part in text.split("/")] if "/" in text else []
    except yaml.YAMLError:
        return text
    return numbers if numbers and all(isinstance(n, int | float) for n in numbers) else value
