"""What judges a whole clip: the seam that vision-language models, classifiers of videos and people share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from v2w_gym.data.episode import FrameArray

Verdict = Literal["success", "failure", "unscorable"]


@dataclass(frozen=True)
class Clip:
    """What a judge sees of an episode, or of its beginning.

    Attributes:
        frames: ``(f, h, w, 3)`` uint8, 0..255, in order, the start context's last frame first.
        instruction: what the policy was asked to do.
        fps: frames per second of real time.
    """

    frames: FrameArray
    instruction: str
    fps: float = 5.0


@dataclass(frozen=True)
class Judgement:
    """What a judge says of one clip.

    Attributes:
        probability: of success, 0..1; None where the judge could not tell, which is never a failure.
        reason: why it could not tell, or what it said; None where there is nothing to say.
        votes: probabilities of single votes, where it casts several; None for one that could not be read.
        progress: how far the task got, 0..1, where the judge grades it.
        tokens: read and written, all votes together; 0 where nothing counts them.
        cost: of them, in the currency of the judge's prices; None where no price is known.
    """

    probability: float | None
    reason: str | None = None
    votes: tuple[float | None, ...] = ()
    progress: float | None = None
    tokens: int = 0
    cost: float | None = None

    def __post_init__(self) -> None:
        for name in ("probability", "progress"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} of a judgement must lie in 0..1 or be None, got {value}")

    def verdict(self, threshold: float) -> Verdict:
        """Success from ``threshold`` on; without a probability unscorable."""
        if self.probability is None:
            return "unscorable"
        return "success" if self.probability >= threshold else "failure"


def check_threshold(threshold: float) -> None:
    """See to it that success can be told from failure by ``threshold``.

    Raises:
        ValueError: every clip would be a success, or none.
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold must lie above 0 and up to 1, got {threshold}")


class ClipJudge(Protocol):
    """Batched judge of clips, without a memory of its own."""

    @property
    def threshold(self) -> float:
        """Probability from which a clip counts as success."""
        ...

    @property
    def hash(self) -> str:
        """Names everything that its judgements hang on: weights or model name, prompt, choice of frames."""
        ...

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        """One judgement per clip, in order.

        An outage, a refusal or a reply that cannot be read is a judgement without a probability that says
        why; only a mistake of the caller (frames of a wrong shape, an empty clip) raises ``ValueError``.
        """
        ...


def judgements(judge: ClipJudge, clips: Sequence[Clip]) -> list[Judgement]:
    """What ``judge`` says of each clip; where it raises, that is why nobody can say.

    Raises:
        ValueError: clips that it does not take.
    """
    try:
        found = judge.judge(clips)
        if len(found) != len(clips):
            raise RuntimeError(f"it gave {len(found)} judgements of {len(clips)} clips")
    except ValueError:
        raise  # a mistake of ours or of the user's, which asking again would not mend
    except Exception as error:
        return [Judgement(None, f"the judge failed: {type(error).__name__}: {error}")] * len(clips)
    return found
