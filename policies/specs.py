"""Texts that name a policy: ``PREFIX:TARGET,key=value,...``, e.g. ``sb3:ppo.zip,deterministic=false``."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import yaml

from v2w_gym.config import from_dict

T = TypeVar("T")
_OPTION = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


def split_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """What stands behind the prefix, and the values of the options after it.

    Args:
        spec: ``PREFIX:TARGET,key=value,...``; values are YAML, several numbers are divided by slashes, e.g.
            ``mean=0.5/0.5/0.5``. ``PREFIX:key=value,...`` and ``PREFIX`` have an empty target.
    """
    parts = spec.partition(":")[2].split(",")
    first = len(parts)
    while first and _OPTION.fullmatch(parts[first - 1]):
        first -= 1
    options = (part.partition("=") for part in parts[first:])
    return ",".join(parts[:first]), {key: _value(text) for key, _, text in options}


def parse_spec(spec: str, options: type[T]) -> tuple[str, T]:
    """As ``split_spec``, with the options as a dataclass that has a default for every field.

    Raises:
        ValueError: an option that there is not (near misses are suggested), or a value of another kind.
    """
    target, values = split_spec(spec)
    return target, from_dict(options, values, where=f"the options of {spec.partition(':')[0]}:")


def _value(text: str) -> Any:
    try:
        numbers = [yaml.safe_load(part) for part in text.split("/")]
        several = len(numbers) > 1 and all(isinstance(number, int | float) for number in numbers)
        return numbers if several else yaml.safe_load(text)
    except yaml.YAMLError:
        return text
