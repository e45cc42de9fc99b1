"""The three released models: where they lie, how their actions tell them apart, their shipped sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Preset:
    """One released model.

    Attributes:
        title: what to call it.
        hub: its repository on the Hugging Face hub.
        action_dim: components of an action that it reads.
        others: further repositories of the same layout, from the paper's ablations.
    """

    title: str
    hub: str
    action_dim: int
    others: tuple[str, ...] = ()


PRESETS: Mapping[str, Preset] = {
    "rt1": Preset(
        "RT-1",
        "thuml/Vid2World-RT1",
        13,
        tuple(f"thuml/Vid2World-RT1-{name}" for name in ("30k", "Masked", "Shift", "NAG", "Masked-NAG")),
    ),
    "csgo": Preset("CS:GO", "thuml/Vid2World-CSGO", 51),
    "recon": Preset("RECON", "thuml/Vid2World-RECON", 3),
}
"""By the names of the domains."""

_SIZES = Path(__file__).parents[2] / "configs" / "released"


def shipped(domain: str) -> Path:
    """The file of sizes and sampler values that ships for a domain.

    Raises:
        ValueError: an unknown domain.
    """
    if domain not in PRESETS:
        raise ValueError(f"unknown domain {domain!r}; known: {', '.join(PRESETS)}")
    return _SIZES / f"{domain}.yaml"


def domain_of(action_dim: int) -> str | None:
    """The domain whose actions have that many components, or None."""
    return next((name for name, preset in PRESETS.items() if preset.action_dim == action_dim), None)


def check_domain(domain: str | None, action_dim: int, what: str) -> None:
    """See that a model that reads ``action_dim`` components can be of ``domain``; None is any.

    Raises:
        ValueError: an unknown domain, or another one than the model's.
    """
    if domain is None:
        return
    shipped(domain)
    if PRESETS[domain].action_dim != action_dim:
        fits = domain_of(action_dim)
        hint = f"they are those of {PRESETS[fits].title}: domain {fits!r}" if fits else "no domain has these"
        raise ValueError(
            f"{what} reads actions of {action_dim} components, but {PRESETS[domain].title} has "
            f"{PRESETS[domain].action_dim}; {hint}"
        )
