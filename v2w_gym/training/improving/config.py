"""The settings of ``v2w improve``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from v2w_gym.config import from_dict
from v2w_gym.training.imagination.config import ImaginationConfig
from v2w_gym.training.loop import LoopConfig

_SET_BY_ROUNDS = ("world", "data", "init", "seed")


@dataclass(frozen=True)
class PlayConfig:
    """What is played in reality in each round.

    Attributes:
        reality: "metaworld" records by itself; "folder" waits for the episodes that you record.
        episodes: of the policy as it is; their success is its real success.
        disturbed: episodes more in which its actions are changed on their way, so that it gets lost; for the
            world to learn from. Meta-World only.
        heldout: share of all of them that the world does not learn from, and is checked on.
        first_seed: of the first episode of the first round; each round takes those that follow. Meta-World
            only.
        workers: processes, one renderer each. Meta-World only.
    """

    reality: Literal["metaworld", "folder"] = "metaworld"
    episodes: int = 80
    disturbed: int = 40
    heldout: float = 0.33
    first_seed: int = 800_000
    workers: int = 1

    def __post_init__(self) -> None:
        if self.episodes < 2 or self.disturbed < 0 or self.workers < 1 or self.first_seed < 0:
            raise ValueError(
                "play needs episodes >= 2, disturbed >= 0, workers >= 1 and first_seed >= 0, got "
                f"{self.episodes}, {self.disturbed}, {self.workers} and {self.first_seed}"
            )
        if not 0 < self.heldout < 1:
            raise ValueError(f"play.heldout must lie between 0 and 1, got {self.heldout:g}")
        if self.reality == "folder" and self.disturbed:
            raise ValueError(
                f"play.disturbed is for Meta-World, got {self.disturbed} with reality: folder; set it to 0"
            )

    @property
    def each(self) -> int:
        """Episodes of a round."""
        return self.episodes + self.disturbed


@dataclass(frozen=True)
class FinetuneConfig:
    """How the world learns from the play; see ``training.world_model.VideoConfig`` for what is not said here.

    Attributes:
        weight: an episode of the play is drawn so many times as often as one of the old recordings.
        loop: how to optimise; its seed is set by the rounds. Weights whose training ended at a low learning
            rate bear no high one: on the shipped world a peak of 2e-5 kept PSNR, 5e-5 cost .7 dB and 1e-4
            1.4 dB on old episodes.
        action_dropout: probability that a frame's action is dropped.
        terminal_probability: probability that a frame starts from pure noise.
        history_level: history frames are noised to a random level up to this one.
        own_history: share of the clips whose past is imagined by the model.
        own_reach: how many frames on, drawn from these.
    """

    weight: int = 20
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=200,
            batch_size=4,
            learning_rate=2e-5,
            warmup=20,
            optimizer="muon",
            ema=0.99,
            checkpoint_every=50,
        )
    )
    action_dropout: float = 0.1
    terminal_probability: float = 0.45
    history_level: int = 120
    own_history: float = 0.6
    own_reach: tuple[int, ...] = (4, 8, 16, 32)

    def __post_init__(self) -> None:
        if self.weight < 1:
            raise ValueError(f"finetune.weight must be at least 1, got {self.weight}")


@dataclass(frozen=True)
class CheckConfig:
    """When a fine-tuned world is not taken over.

    It must not be worse than the world before, neither on the held-out part of the new play nor on the old
    held-out episodes, by more than:

    Attributes:
        episodes: of the old held-out folder, at most.
        psnr_db: mean PSNR of replayed frames.
        agreement: share of episodes whose imagined verdict is that of reality.
        false_success: share of episodes that fail in reality and succeed in imagination.
    """

    episodes: int = 100
    psnr_db: float = 0.3
    agreement: float = 0.05
    false_success: float = 0.05

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"check.episodes must be at least 1, got {self.episodes}")
        if min(self.psnr_db, self.agreement, self.false_success) < 0:
            raise ValueError("the margins of check must not be negative")


@dataclass(frozen=True)
class ImproveConfig:
    """A loop of rounds.

    Attributes:
        policy: who plays first, as ``v2w rank --policy`` takes it.
        data: folders of the episodes that the world was trained on.
        heldout: folder of episodes that it was not trained on.
        world: registered id, folder or hub id.
        codec: folder of the codec that made the latents lying in ``data``, if that is not the world's own to
            the last bit; saves encoding them again. None takes the world's.
        rounds: how many.
        play: what is played in reality.
        finetune: how the world learns from it.
        check: when the new world is not taken over.
        train: "none", so that the policy stays as it is; or settings of ``v2w imagine`` less world, data,
            init and seed, by which it is improved in the new world. A policy that is none of ``v2w imagine``
            is cloned into one first.
        calibration: folder of episodes that no world is trained on, to teach each new world its credibility.
            None leaves the new worlds without.
        device: where worlds are checked.
        seed: of everything random.
    """

    policy: str
    data: tuple[str, ...]
    heldout: str
    world: str = "Vid2World-DrawerClose-v0"
    codec: str | None = None
    rounds: int = 2
    play: PlayConfig = field(default_factory=PlayConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    check: CheckConfig = field(default_factory=CheckConfig)
    train: Literal["none"] | Mapping[str, Any] = "none"
    calibration: str | None = None
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")
        if not self.data:
            raise ValueError("data must name at least one folder of old recordings, lest they be forgotten")
        if not isinstance(self.train, str):
            if taken := [key for key in _SET_BY_ROUNDS if key in self.train]:
                raise ValueError(f"train.{taken[0]} is set by the rounds; leave it out")
            imagination(self, self.world, self.data, self.policy, 0)


def imagination(
    config: ImproveConfig, world: str, data: tuple[str, ...], policy: str, number: int
) -> ImaginationConfig:
    """The settings of ``v2w imagine`` in a round.

    Args:
        config: with ``train``.
        world: where to imagine.
        data: what to branch from.
        policy: whom to improve; one of ``v2w imagine`` goes on, any other is cloned.
        number: of the round.

    Raises:
        ValueError: an unknown or missing key in ``config.train``.
    """
    assert not isinstance(config.train, str)
    values = {**config.train, "world": world, "data": data, "seed": config.seed + number}
    prefix, _, file = policy.partition(":")
    if prefix == "latent":
        values |= {"init": file, "clone": None}
    else:
        values["clone"] = {**(config.train.get("clone") or {}), "teacher": policy}
    return from_dict(ImaginationConfig, values, where="train")
