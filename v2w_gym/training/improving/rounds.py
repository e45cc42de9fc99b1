"""The rounds: play in reality, learn, check, imagine. See ``docs/improve.md``.

A round has a folder, ``round-1`` and so on::

    play/             the episodes; learn/ and heldout/ are copies of its two parts
    finetune/         checkpoint, curve and result of the fine-tuning
    world/            the new world, whether it is taken over or not
    policy/           the training in imagination, if there is one
    steps.json        results of the steps that are done

Each step goes on from what it finds, so the whole can be stopped at any moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from v2w_gym.data.episode import EpisodeFolder
from v2w_gym.envs.world import World
from v2w_gym.training.imagination.trainer import train
from v2w_gym.training.improving import learning, play
from v2w_gym.training.improving.config import ImproveConfig, imagination
from v2w_gym.training.improving.notes import Notes
from v2w_gym.training.improving.parts import Fidelity, Reality, Referee
from v2w_gym.training.improving.table import told_of, write_table
from v2w_gym.training.improving.validation import check, remember
from v2w_gym.training.improving.verdict import SETS, objections
from v2w_gym.world_model.vid2world import Vid2World


@dataclass(frozen=True)
class Standing:
    """What a round begins with.

    Attributes:
        world: folder of the world.
        policy: as ``policies.resolve`` takes it.
    """

    world: Path
    policy: str


class Improvement:
    """A run in a folder.

    Args:
        config: settings.
        out: the folder.
        reality: where the policies play.
        referee: compares worlds with it.

    Raises:
        FileNotFoundError, ValueError, ImportError: as ``validation.check`` and ``validation.remember``;
            nothing is recorded then.
    """

    def __init__(self, config: ImproveConfig, out: Path, reality: Reality, referee: Referee) -> None:
        self.config, self.out, self.reality, self.referee = config, out, reality, referee
        world = World.open(config.world)
        self.first = Standing(world.folder, config.policy)
        self.plays = config.rounds + (config.train != "none")  # the last policy is played, too
        check(config, world, reality, self.plays)
        model = world.model()
        assert isinstance(model, Vid2World)  # checked just now
        remember(config, model.hash, out)

    def run(self) -> str | None:
        """Go through the rounds, or go on with them.

        Returns:
            None once all is done, else what there is to do before the same call goes on.
        """
        standing = self.first
        for number in range(1, self.plays + 1):
            notes = Notes(self.folder(number) / "steps.json")
            missing = self._play(number, standing, notes)
            if missing is None and number <= self.config.rounds:
                missing = self._learn(number, standing, notes)
            self._tell()
            if missing is not None:
                return missing
            standing = after(standing, notes, self.folder(number))
        return None

    def folder(self, number: int) -> Path:
        """Of a round."""
        return self.out / f"round-{number}"

    def _play(self, number: int, standing: Standing, notes: Notes) -> str | None:
        """Episodes of the standing policy, and how the standing world imagines them."""
        folder, asked = self.folder(number), []
        config, world = self.config.play, World.open(standing.world).config

        def record() -> dict[str, Any] | None:
            request = self.reality.play(standing.policy, folder / "play", number)
            if request is not None:
                asked.append(request)
                return None
            episodes = play.read_play(folder / "play", world)
            counts = play.divide(
                folder / "play",
                folder / "learn",
                folder / "heldout",
                config.heldout,
                self.config.seed + number,
            )
            played = play.own(episodes)
            told = {
                "real": play.success_of(played),
                "episodes": len(played),
                "others": len(episodes) - len(played),
            }
            return {"policy": standing.policy, **told, "learn": counts[0], "heldout": counts[1]}

        if notes.once("play", record) is None:
            return asked[0]
        notes.once("imagined_before", lambda: self._imagined(number, standing.world, standing.policy))
        notes.once("fidelity_before", lambda: self._fidelity(number, standing.world))
        return None

    def _learn(self, number: int, standing: Standing, notes: Notes) -> str | None:
        """The new world, its check, and the policy that it makes."""
        folder, old = self.folder(number), World.open(standing.world)
        plays = [self.folder(i) / "learn" for i in range(1, number + 1)]
        world = folder / "world"

        def finetune() -> dict[str, Any] | None:
            done = learning.learn(self.config, old, plays, number, folder / "finetune")
            return {"steps": self.config.finetune.loop.steps} if done else None

        def build() -> dict[str, Any]:
            if not world.exists():
                learning.build(self.config, old, folder / "finetune" / "unet", plays, world)
            return {}

        if notes.once("finetune", finetune) is None:
            return "fine-tuning was stopped by finetune.loop.max_minutes; run the same command again to go on"
        notes.once("build", build)
        notes.once("fidelity_after", lambda: self._fidelity(number, world))
        notes.once("imagined_after", lambda: self._imagined(number, world, standing.policy))
        taken = notes.once("verdict", lambda: self._verdict(number, notes, world))
        if self.config.train != "none":
            assert taken is not None  # it always has a result
            where = world if taken["taken_over"] else standing.world
            notes.once("train", lambda: self._train(number, where, standing.policy, plays))
        return None

    def _imagined(self, number: int, world: Path, policy: str) -> dict[str, Any]:
        """Imagined success from the first frames of the round's play; each of them has a real outcome."""
        played = play.own(EpisodeFolder(self.folder(number) / "play"))
        return {"success": self.referee.success(world, policy, played)}

    def _fidelity(self, number: int, world: Path) -> dict[str, Any]:
        folders = {"new": self.folder(number) / "heldout", "old": Path(self.config.heldout)}
        limits = {"new": None, "old": self.config.check.episodes}
        found = {}
        for name in SETS:
            episodes = list(EpisodeFolder(folders[name], limits[name]))
            found[name] = asdict(self.referee.fidelity(world, episodes))
        return found

    def _verdict(self, number: int, notes: Notes, world: Path) -> dict[str, Any]:
        before, after = ({name: Fidelity(**notes.steps[step][name]) for name in SETS} for step in _CHECKS)
        # small losses must not add up over the rounds
        began = Notes(self.folder(1) / "steps.json").steps["fidelity_before"]
        found = objections({**before, "old": Fidelity(**began["old"])}, after, self.config.check)
        verdict = {"taken_over": not found, "objections": found}
        learning.write_card(world, told_of(number, {**notes.steps, "verdict": verdict}))
        return verdict

    def _train(self, number: int, world: Path, policy: str, plays: list[Path]) -> dict[str, Any]:
        data = (*self.config.data, *map(str, plays))
        train(imagination(self.config, str(world), data, policy, number), self.folder(number) / "policy")
        return {"policy": _trained(self.folder(number))}

    def _tell(self) -> None:
        files = [self.folder(number) / "steps.json" for number in range(1, self.plays + 1)]
        write_table(self.out, [Notes(file) for file in files if file.exists()])


_CHECKS = ("fidelity_before", "fidelity_after")


def after(standing: Standing, notes: Notes, folder: Path) -> Standing:
    """What the next round begins with."""
    steps: Mapping[str, Any] = notes.steps
    if steps.get("verdict", {}).get("taken_over"):
        standing = replace(standing, world=folder / "world")
    return replace(standing, policy=_trained(folder)) if "train" in steps else standing


def _trained(folder: Path) -> str:
    """The policy that a round made."""
    return f"latent:{folder / 'policy' / 'policy.safetensors'}"


def improve(config: ImproveConfig, out: str | Path, reality: Reality, referee: Referee) -> str | None:
    """Improve a world, and the policy in it, by rounds of play; or go on with that.

    Args:
        config: settings.
        out: folder of the rounds, of ``improve.json`` and of ``improve.png``.
        reality: where the policies play; ``realities.open_reality`` opens those that come with the package.
        referee: compares worlds with reality, e.g. ``evaluation.fidelity.Replays``.

    Returns:
        None once all is done, else what there is to do before the same call goes on.

    Raises:
        FileNotFoundError: a folder, or a part of the world, is missing.
        ValueError: settings, recordings or a policy that do not fit the world, or another run in ``out``.
        ImportError: a package that reality or policy needs is missing.
    """
    return Improvement(config, Path(out), reality, referee).run()
