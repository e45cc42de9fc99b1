"""Hold a world against recorded reality before anyone believes its rankings: ``v2w validate``.

Three questions. Replay: do held-out action sequences end as they ended? Optimism: do sequences that fail in
reality fail in imagination? Action following: does a constant action move the imagined hand as the real one?
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import Episode, EpisodeFolder
from v2w_gym.envs.world import World
from v2w_gym.evaluation.replay import Replay, psnr, replay
from v2w_gym.training.detector import confusion

Replayed = Callable[[Sequence[Episode]], Replay]
DIRECTIONS = ("+x", "-x", "+y", "-y", "+z", "-z")


@dataclass(frozen=True)
class Validation:
    """Where to find what is needed.

    Attributes:
        heldout: folder of held-out episodes, recorded like the training data.
        probes: folder of episodes of behaviours that never succeed; None leaves that question out.
        directions: folder made by ``record_directions``; None likewise.
        episodes: how many held-out episodes to replay.
        again: run them in reality again, with noise of this standard deviation in their actions, to see how
            far reality agrees with itself; needs Meta-World. None leaves that out.
    """

    heldout: str
    probes: str | None = None
    directions: str | None = None
    episodes: int = 100
    again: float | None = None


def validate(
    world: World,
    config: Validation,
    out: str | Path,
    *,
    device: str = "cpu",
    sampler: str | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Answer the three questions, write ``validation.json`` and films into ``out`` and return the answers.

    Args:
        world: the world in question.
        config: where to find what is needed.
        out: folder.
        device: where the world model runs.
        sampler: one of the world's presets by name, or values that replace those of its sampler.

    Raises:
        ValueError: an unknown preset or value of the sampler, or episodes that cannot be replayed.
    """
    replayed = functools.partial(replay, world, device=device, sampler=sampler)
    used = world.sampler(sampler)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    episodes = list(EpisodeFolder(config.heldout, config.episodes))
    played = replayed(episodes)
    report: dict[str, Any] = {
        "world": world.config.name,
        "sampler": used,
        "replay": _replay_report(played, episodes),
    }
    flags = np.stack([episode.success for episode in episodes])
    report["detector_on_imagined"] = confusion(world.detector(), played.frames, flags)
    save_comparison(out / "replay.mp4", [episode.frames for episode in episodes[:8]], played.frames[:8])
    if config.probes is not None:
        report["optimism"] = _optimism(replayed, list(EpisodeFolder(config.probes)), out)
    if config.directions is not None:
        report["action_following"] = _following(replayed, list(EpisodeFolder(config.directions)), out)
    if config.again is not None:
        from v2w_gym.data.reality import ends_alike

        alike = float(np.mean(ends_alike(episodes, config.again)))
        report["reality_again"] = {"action_noise": config.again, "verdict_agreement": alike}
    (out / "validation.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def _replay_report(played: Replay, episodes: Sequence[Episode]) -> dict[str, Any]:
    kinds = [episode.behaviour.split(">")[0] for episode in episodes]
    wrong = [
        {"seed": e.seed, "behaviour": e.behaviour, "real": bool(r), "imagined": bool(i)}
        for e, r, i in zip(episodes, played.real, played.imagined, strict=True)
        if r != i
    ]
    return {
        "episodes": len(episodes),
        "verdict_agreement": played.agreement,
        "psnr_mean_db": float(played.psnr.mean()),
        "psnr_by_step_db": [round(float(x), 2) for x in played.psnr.mean(axis=0)],
        "psnr_by_behaviour_db": {
            k: round(float(played.psnr[[kind == k for kind in kinds]].mean()), 2) for k in sorted(set(kinds))
        },
        "disagreements": wrong,
    }


def _optimism(replayed: Replayed, episodes: Sequence[Episode], out: Path) -> dict[str, Any]:
    played, report = replayed(episodes), {}
    for kind in sorted({episode.behaviour for episode in episodes}):
        rows = np.array([episode.behaviour == kind for episode in episodes])
        report[kind] = {
            "episodes": int(rows.sum()),
            "real_success": float(played.real[rows].mean()),
            "imagined_success": float(played.imagined[rows].mean()),
            "psnr_mean_db": round(float(played.psnr[rows].mean()), 2),
        }
        shown = np.flatnonzero(rows)[:8]
        save_comparison(out / f"probe-{kind}.mp4", [episodes[i].frames for i in shown], played.frames[shown])
    return report


def _following(replayed: Replayed, episodes: Sequence[Episode], out: Path) -> dict[str, Any]:
    """For each direction, which real direction the imagined motion looks most like, over the last frames."""
    played = replayed(episodes)
    names = [episode.behaviour for episode in episodes]
    real = np.stack([episode.frames for episode in episodes])
    likeness = np.array(
        [[psnr(imagined[4:], recorded[4:]).mean() for recorded in real] for imagined in played.frames]
    )
    nearest = [names[i] for i in likeness.argmax(axis=1)]
    save_comparison(out / "directions.mp4", list(real), played.frames)
    return {
        "right": sum(a == b for a, b in zip(names, nearest, strict=True)),
        "of": len(names),
        "looks_like": dict(zip(names, nearest, strict=True)),
        "psnr_db": {name: round(float(likeness[i, i]), 2) for i, name in enumerate(names)},
    }


def save_comparison(
    path: Path,
    real: Iterable[npt.NDArray[np.uint8]],
    imagined: Iterable[npt.NDArray[np.uint8]],
    zoom: int = 3,
) -> None:
    """A film of recorded episodes above, imagined ones below; each ``(f, h, w, 3)`` uint8."""
    rows = [np.concatenate(list(row), axis=2) for row in (real, imagined)]
    film = np.concatenate(rows, axis=1).repeat(zoom, axis=1).repeat(zoom, axis=2)
    imageio.mimwrite(path, list(film), fps=8, macro_block_size=1)


def record_directions(out: str | Path, steps: int = 8, seed: int = 0) -> None:
    """Record one episode of a constant full-speed action per direction; needs Meta-World."""
    from v2w_gym.data.metaworld import MetaWorldTask

    reality = MetaWorldTask()
    Path(out).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(DIRECTIONS):
        action = np.zeros(4, dtype=np.float32)
        action[i // 2] = 1.0 if name[0] == "+" else -1.0
        frames, flags = [reality.reset(seed)], [False]
        for _ in range(steps):
            frame, flag = reality.step(action)
            frames.append(frame)
            flags.append(flag)
        Episode(np.stack(frames), np.stack([action] * steps), np.array(flags), reality.task, name, seed).save(
            Path(out) / f"{i}.npz"
        )
    reality.close()


def record_probes(out: str | Path, episodes: int = 20, first_seed: int = 950_000, workers: int = 1) -> None:
    """Record ``episodes`` of every behaviour in ``behaviours.PROBES``; needs Meta-World."""
    from v2w_gym.data.behaviours import PROBES
    from v2w_gym.data.record import RecordConfig, record

    for i, kind in enumerate(PROBES):
        record(
            RecordConfig(
                out=str(out),
                episodes=episodes,
                first_seed=first_seed + 1000 * i,
                behaviour=kind,
                workers=workers,
            )
        )


def format_report(report: Mapping[str, Any]) -> str:
    """The answers as text."""
    r = report["replay"]
    lines = [
        f"replay of {r['episodes']} held-out episodes: verdict right in {r['verdict_agreement']:.1%}, "
        f"{r['psnr_mean_db']:.1f} dB on average, {r['psnr_by_step_db'][-1]:.1f} dB at the last step"
    ]
    if "reality_again" in report:
        a = report["reality_again"]
        lines.append(
            f"reality against itself, with noise of {a['action_noise']:g} in the actions: "
            f"verdict the same in {a['verdict_agreement']:.1%}"
        )
    for kind, p in report.get("optimism", {}).items():
        lines.append(
            f"optimism, {kind}: imagined success {p['imagined_success']:.2f}, real {p['real_success']:.2f} "
            f"({p['episodes']} episodes, {p['psnr_mean_db']:.1f} dB)"
        )
    if "action_following" in report:
        f = report["action_following"]
        lines.append(f"action following: {f['right']} of {f['of']} directions; looks like {f['looks_like']}")
    return "\n".join(lines)
