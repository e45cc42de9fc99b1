"""Realities that come with the package: Meta-World, and a folder that somebody with a robot fills."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from v2w_gym.envs.world import World
from v2w_gym.training.improving.config import PlayConfig
from v2w_gym.training.improving.parts import DISTURBED, Reality


@dataclass(frozen=True)
class MetaWorld:
    """Records in Meta-World, in worker processes."""

    config: PlayConfig

    def seeds(self, number: int) -> range:
        """Those of a round; undisturbed episodes come first."""
        first = self.config.first_seed + (number - 1) * self.config.each
        return range(first, first + self.config.each)

    def check(self, world: World, rounds: int, taken: frozenset[int]) -> None:
        """Raise unless Meta-World is installed and ``world`` imitates it, and no seed is taken."""
        from v2w_gym.data.metaworld import FRAME_SIZE, HORIZON

        for package in ("metaworld", "mujoco"):
            if importlib.util.find_spec(package) is None:
                raise ImportError('reality needs Meta-World: pip install "v2w_gym[metaworld]"')
        found = (*world.config.frame_size, len(world.config.action.names), world.config.horizon)
        if found != (FRAME_SIZE, FRAME_SIZE, 4, HORIZON):
            raise ValueError(
                f"Meta-World gives frames of {FRAME_SIZE}x{FRAME_SIZE} and {HORIZON} actions of 4 numbers, "
                f"world {world.config.name!r} has {found[0]}x{found[1]} and {found[3]} of {found[2]}; "
                "bring your own episodes with play.reality=folder play.disturbed=0"
            )
        played = range(self.seeds(1).start, self.seeds(rounds).stop)
        if clash := sorted(taken.intersection(played)):
            raise ValueError(
                f"seeds {played.start}..{played.stop - 1} would be played, but {clash[0]} is recorded or "
                "measured; choose another play.first_seed"
            )

    def play(self, policy: str, folder: Path, number: int) -> str | None:
        """Record what the folder lacks."""
        from v2w_gym.data.reality import DisturbConfig, record_policies
        from v2w_gym.policies.registry import resolve

        seeds, own, name = self.seeds(number), self.config.episodes, f"round-{number}"
        workers = self.config.workers
        record_policies({name: policy}, resolve, folder, seeds[:own], workers=workers)
        if self.config.disturbed:
            lost = {f"{name}{DISTURBED}": policy}
            always = DisturbConfig(chance=1.0, late=0)
            record_policies(lost, resolve, folder, seeds[own:], always, workers=workers)
        return None


@dataclass(frozen=True)
class Brought:
    """A folder that is filled by hand: the command stops until enough episodes lie there."""

    config: PlayConfig

    def check(self, world: World, rounds: int, taken: frozenset[int]) -> None:
        """Nothing can be said before there are episodes."""

    def play(self, policy: str, folder: Path, number: int) -> str | None:
        """Say what to record unless it is there."""
        folder.mkdir(parents=True, exist_ok=True)
        there = len(list(folder.glob("*.npz")))
        if there >= self.config.episodes:
            return None
        return (
            f"let the policy {policy} play in reality and put {self.config.episodes} episodes into {folder} "
            f"(there are {there}): one .npz each, with frames, actions, success, task, behaviour and seed; "
            "v2w_gym.data.episode.Episode(...).save(FILE) writes one, and docs/improve.md says more. Then "
            "run the same command again"
        )


def open_reality(config: PlayConfig) -> Reality:
    """The reality that the settings name."""
    return MetaWorld(config) if config.reality == "metaworld" else Brought(config)
