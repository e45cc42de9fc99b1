"""Does the world move as the action says? Three probes, two of them with the action reader as their ruler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import FrameArray
from v2w_gym.evaluation.audit.evidence import Evidence, Played
from v2w_gym.evaluation.audit.finding import Bound, Finding, judged, not_run, over_episodes
from v2w_gym.evaluation.audit.reader import FEWEST_EPISODES, ActionReader, ReaderConfig
from v2w_gym.evaluation.metrics import squared_error

Floats = npt.NDArray[np.float64]

STILL = "still"  # the behaviour of recordings in which nothing is done
READABLE = 0.3  # R2 on real frames from which a component of the action counts as read

NULL_ACTION = ("null_action", "does the scene stand still when nothing is done?")
DIRECTION = ("direction", "does each action, and its mirror image, move the hand the way it should?")
DISTANCE = ("distance", "do full and half actions move it as far as they should?")
INVERSE = ("inverse_dynamics", "can the action be read from imagined frames as well as from real ones?")

STANDS = Bound(None, 0.1, "a tenth of what a recorded episode changes is a movement that is plain to see")
WAY = Bound(0.9, None, "that is an angle of 26 degrees, and the next of six directions is 90 away")
FAR = Bound(
    0.8, 1.25, "beyond a quarter too far or too near, a policy tuned here overshoots or falls short there"
)
RECOVERED = Bound(0.8, None, "of what the frames tell of the action in reality, a fifth may be lost")

RECORD_PROBES = (
    "--probes DIR (v2w audit records them if the world is of Meta-World; else record behaviour 'still')"
)
RECORD_DIRECTIONS = "--directions DIR (v2w audit records them if the world is of Meta-World)"


def null_action(evidence: Evidence) -> Finding:
    """Change from the first frame while nothing is done, beyond the recorded one.

    As root mean square over pixels and steps, in units of what a held-out episode changes in reality.
    """
    still = [] if evidence.probes is None else [e.behaviour == STILL for e in evidence.probes.episodes]
    if evidence.probes is None or not any(still):
        why = f"no recorded episodes of behaviour {STILL!r}"
        return not_run(*NULL_ACTION, STANDS, why, RECORD_PROBES)
    imagined = _change(evidence.probes.replay.frames[still])
    recorded = _change(evidence.probes.recorded[still])
    usual = float(np.sqrt(_change(evidence.heldout.recorded).mean()))

    def excess(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        rise = np.sqrt(weights @ imagined / total) - np.sqrt(weights @ recorded / total)
        return np.asarray(rise / usual)

    here, there = np.sqrt(imagined.mean()), np.sqrt(recorded.mean())
    says = (
        f"{here:.1f} grey levels of change imagined, {there:.1f} recorded; {usual:.1f} in a held-out episode"
    )
    return judged(*NULL_ACTION, STANDS, over_episodes(excess, len(imagined)), says, episodes=len(imagined))


def _change(frames: FrameArray) -> Floats:
    """Mean squared change ``(n,)`` of frames ``(n, f, h, w, 3)`` from the first one of each."""
    first = np.broadcast_to(frames[:, :1], frames[:, 1:].shape)
    return np.asarray(squared_error(frames[:, 1:], first).mean(axis=1))


@dataclass(frozen=True)
class Ruler:
    """The action reader, and how well it reads held-out real frames.

    Attributes:
        reader: learned from recorded episodes that are not replayed.
        real: its readings ``(n, steps, a)`` of the replayed episodes as recorded.
        imagined: likewise as imagined.
        r2_real: share of each component's variance ``(a,)`` that it reads from real frames.
        readable: bool ``(a,)``, the components that it reads well enough to judge by.
        names: of the components.
    """

    reader: ActionReader
    real: Floats
    imagined: Floats
    r2_real: Floats
    readable: npt.NDArray[np.bool_]
    names: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """What it is and how well it reads."""
        return {
            "learned_from_episodes": self.reader.episodes,
            "seconds": round(self.reader.seconds, 1),
            "r2_real": _by_name(self.names, self.r2_real),
            "readable_from": READABLE,
            "readable": [name for name, yes in zip(self.names, self.readable, strict=True) if yes],
        }


def make_ruler(evidence: Evidence, config: ReaderConfig | None = None) -> Ruler | str:
    """Train the reader; a text, which says why, where it would not be fit to judge anything."""
    lessons, played = evidence.lessons, evidence.heldout
    if len(lessons) < FEWEST_EPISODES:
        return (
            f"the action reader needs {FEWEST_EPISODES} held-out episodes beside those that are replayed, "
            f"there are {len(lessons)}"
        )
    reader = ActionReader(lessons, config)
    real, imagined = reader.read(played.recorded), reader.read(played.replay.frames)
    r2 = _r2(real, played.actions, np.ones((1, len(real))))[0]
    readable = np.nan_to_num(r2, nan=-1.0) >= READABLE
    if not readable.any():
        best = np.nanmax(r2) if np.isfinite(r2).any() else float("nan")
        return (
            f"the action reader itself reads no component of the action from real frames that it has not "
            f"seen (best R2 {best:.2f}, {READABLE:g} needed), so it must not judge imagined ones"
        )
    return Ruler(reader, real, imagined, r2, readable, evidence.world.config.action.names)


MORE_LESSONS = (
    "a folder --heldout with more episodes (300 beside those replayed is plenty), or a lower --episodes"
)


def inverse_dynamics(evidence: Evidence, ruler: Ruler | str) -> Finding:
    """R2 of the reader on imagined frames over that on the real ones, mean over the readable components."""
    if isinstance(ruler, str):
        return not_run(*INVERSE, RECOVERED, ruler, MORE_LESSONS)
    actions, readable = evidence.heldout.actions, ruler.readable

    def ratio(weights: Floats) -> Floats:
        imagined, real = (_r2(x, actions, weights)[:, readable] for x in (ruler.imagined, ruler.real))
        return np.asarray((imagined / real).mean(axis=1))

    r2_imagined = _r2(ruler.imagined, actions, np.ones((1, len(actions))))[0]
    each = ", ".join(
        f"{name} {i:.2f} of {r:.2f}{'' if fit else ' (not judged)'}"
        for name, i, r, fit in zip(ruler.names, r2_imagined, ruler.r2_real, readable, strict=True)
    )
    return judged(
        *INVERSE,
        RECOVERED,
        over_episodes(ratio, len(actions)),
        f"R2 from imagined of R2 from real frames: {each}",
        r2_imagined=_by_name(ruler.names, r2_imagined),
        r2_real=_by_name(ruler.names, ruler.r2_real),
    )


def _r2(read: Floats, actions: npt.NDArray[np.float32], weights: Floats) -> Floats:
    """Explained share of the variance ``(r, a)``, each episode counted ``weights`` ``(r, n)`` times."""
    steps = actions.shape[1]
    error = weights @ np.square(read - actions).sum(axis=1)
    total, squares = weights @ actions.sum(axis=1), weights @ np.square(actions).sum(axis=1, dtype=np.float64)
    spread = squares - total**2 / (weights.sum(axis=1, keepdims=True) * steps)
    constant = spread <= 1e-9 * np.maximum(squares, 1.0)
    return np.where(constant, np.nan, 1 - error / np.where(constant, 1.0, spread))


def _by_name(names: Sequence[str], values: Floats) -> dict[str, float | None]:
    return {n: None if np.isnan(v) else round(float(v), 4) for n, v in zip(names, values, strict=True)}


def directions(evidence: Evidence, ruler: Ruler | str) -> list[Finding]:
    """Where constant actions take the hand: the way it goes, and how far."""
    played, probes = evidence.directions, ((DIRECTION, WAY), (DISTANCE, FAR))
    if played is None:
        why = "no recorded episodes of constant actions"
        return [not_run(*probe, bound, why, RECORD_DIRECTIONS) for probe, bound in probes]
    if isinstance(ruler, str):
        return [not_run(*probe, bound, ruler, MORE_LESSONS) for probe, bound in probes]
    real, imagined = travel(played, ruler)
    together, lengths = (real * imagined).sum(axis=1), np.linalg.norm(real, axis=1)
    cosine = together / np.maximum(lengths * np.linalg.norm(imagined, axis=1), 1e-9)
    mean = over_episodes(lambda w: w @ cosine / w.sum(axis=1), len(real))
    worst = int(cosine.argmin())
    return [
        judged(
            *DIRECTION,
            WAY,
            mean,
            f"mean cosine of the imagined and the recorded way {mean.value:.2f} over {len(real)} episodes, "
            f"worst {cosine[worst]:.2f} ({played.episodes[worst].behaviour})",
            components=[n for n, yes in zip(ruler.names, ruler.readable, strict=True) if yes],
            episodes=[
                {"behaviour": e.behaviour, "seed": e.seed, "real": r, "imagined": i, "cosine": float(c)}
                for e, r, i, c in zip(
                    played.episodes, real.round(3).tolist(), imagined.round(3).tolist(), cosine, strict=True
                )
            ],
        ),
        _distance(played, together, lengths),
    ]


def _distance(played: Played, together: Floats, lengths: Floats) -> Finding:
    """How far, from the products of recorded and imagined ways ``(n,)`` and the lengths of the recorded."""
    far = np.abs(played.actions).max(axis=(1, 2)).astype(np.float64).round(3)
    if len(np.unique(far)) < 2:
        why = f"all constant actions that were recorded have one size, {far[0]:g}"
        return not_run(*DISTANCE, FAR, why, RECORD_DIRECTIONS)
    slope = over_episodes(lambda w: w @ together / np.maximum(w @ lengths**2, 1e-9), len(far))
    by_size = {f"{size:g}": _slope(together[far == size], lengths[far == size]) for size in np.unique(far)}
    sizes = ", ".join(f"{ratio:.2f} for actions of {size}" for size, ratio in by_size.items())
    says = f"{slope.value:.2f} as far as recorded ({sizes})"
    return judged(*DISTANCE, FAR, slope, says, by_size=by_size)


def _slope(together: Floats, lengths: Floats) -> float:
    return round(float(together.sum() / max(np.square(lengths).sum(), 1e-9)), 3)


def travel(played: Played, ruler: Ruler) -> tuple[Floats, Floats]:
    """How far each episode goes as recorded and as imagined, ``(n, readable a)``, in full actions."""
    real = ruler.reader.read(played.recorded)[..., ruler.readable].sum(axis=1)
    imagined = ruler.reader.read(played.replay.frames)[..., ruler.readable].sum(axis=1)
    return real, imagined
