"""The settings of a training in imagination."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from v2w_gym.policies.actor import ActorConfig
from v2w_gym.training.imagination.alarm import AlarmConfig
from v2w_gym.training.imagination.cloning import CloneConfig
from v2w_gym.training.imagination.judging import JudgeConfig
from v2w_gym.training.imagination.learner import LearnerConfig
from v2w_gym.training.imagination.probing import ProbeConfig
from v2w_gym.training.imagination.rollout import Doubt


@dataclass(frozen=True)
class ImaginationConfig:
    """What to train, in which world, and for how long.

    Attributes:
        data: folders of recorded episodes to branch from; they may be those that the world was trained on.
        world: registered id, folder or hub id.
        limit: at most so many episodes of each folder; None takes all.
        heldout: share of the episodes that is kept for looks.
        updates: of actor and critic, in all.
        slots: branches side by side.
        unroll: steps imagined in all of them for an update.
        longest: steps after which a branch is given up for a new one.
        moments: a branch begins at one of the first so many frames of a recording, and is given all before it
            as history, at most the world's window.
        first: probability that it begins at the very first frame, as real episodes do.
        reward: who says what a success is: "latent", a network that learned it from the world's detector, or
            "decoded", that detector itself, on decoded frames, which costs more. The other one audits.
        doubt: what becomes of frames that are not credible, see ``rollout.Dream``.
        sampler: of the world, a preset or values, e.g. ``{steps: 1}``; None takes the world's.
        init: a policy file of an earlier training to start from.
        clone: what the actor imitates first; None starts from scratch, or from ``init``.
        actor: sizes of the actor.
        learner: how it learns.
        judge: how the network learns that reads success from latents.
        look: looks at held-out starts.
        alarm: when imagination is said to be exploited.
        seed: of everything random.
        device: where everything runs.
        threads: CPU threads; 0 leaves torch's choice.
        checkpoint_every: updates between checkpoints; all branches begin anew after each.
        max_minutes: stop at the first checkpoint after so long; 0 means never.
        tensorboard: whether to write events for TensorBoard.
    """

    data: tuple[str, ...]
    world: str = "Vid2World-DrawerClose-v0"
    limit: int | None = None
    heldout: float = 0.05
    updates: int = 400
    slots: int = 64
    unroll: int = 8
    longest: int = 24
    moments: int = 12
    first: float = 0.3
    reward: Literal["latent", "decoded"] = "latent"
    doubt: Doubt = "cut"
    sampler: str | Mapping[str, Any] | None = None
    init: str | None = None
    clone: CloneConfig | None = None
    actor: ActorConfig = field(default_factory=ActorConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    look: ProbeConfig = field(default_factory=ProbeConfig)
    alarm: AlarmConfig = field(default_factory=AlarmConfig)
    seed: int = 0
    device: str = "cpu"
    threads: int = 0
    checkpoint_every: int = 20
    max_minutes: float = 0.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        counts = ("updates", "slots", "unroll", "longest", "moments", "checkpoint_every")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not (0 < self.heldout < 1 and 0 <= self.first <= 1):
            raise ValueError(
                f"heldout must lie in 0..1 and first in 0..1, got {self.heldout:g} and {self.first:g}"
            )
        if self.init is not None and self.clone is not None:
            raise ValueError("init and clone both say what to start from; leave one of them out")
