"""Is credibility worth its name? ``v2w credibility check``.

Three questions. Does it fall where the world model has never been (area under the ROC curve, shift by shift)?
Does it order what was imagined by how wrong it turned out (rank correlation, per step and per episode)? Is it
cheap? All is asked of the environment that users step, with recorded actions, and intervals resample whole
episodes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from tqdm import tqdm

from v2w_gym.data.episode import Episode, EpisodeFolder
from v2w_gym.envs.vector import WorldModelVectorEnv
from v2w_gym.envs.world import World
from v2w_gym.evaluation.protocol import episode_seeds
from v2w_gym.evaluation.stats import CONFIDENCE, Estimate
from v2w_gym.training.calibration import reliability
from v2w_gym.world_model.credibility import Credibility

Floats = npt.NDArray[np.floating[Any]]
_DRAWS = 500
_BATCH = 32


@dataclass(frozen=True)
class Believed:
    """What became of ``n`` episodes that were replayed over ``steps`` actions.

    Attributes:
        credibility: ``(n, steps)`` in 0..1.
        error: ``(n, steps)`` root mean square error in grey levels, imagined against recorded frame.
    """

    credibility: Floats
    error: Floats

    @property
    def per_episode(self) -> Floats:
        """``(n,)`` mean credibility."""
        return np.asarray(self.credibility.mean(axis=1))

    @property
    def episode_error(self) -> Floats:
        """``(n,)`` root mean square error over all steps."""
        return np.asarray(np.sqrt(np.square(self.error).mean(axis=1)))


def taught(world: World) -> Credibility:
    """What ``world`` believes of itself.

    Raises:
        ValueError: nothing.
    """
    believer = world.believer()
    if not isinstance(believer, Credibility):
        raise ValueError(
            f"world {world.config.name!r} cannot tell what is credible; teach it: "
            f"v2w credibility fit --world {world.folder} --data FOLDER --calibration FOLDER"
        )
    return believer


def believed(world: World, episodes: Sequence[Episode], *, seed: int = 0, device: str = "cpu") -> Believed:
    """Step the environment through recorded actions, from the first recorded frame; open loop.

    Args:
        world: one that can tell what is credible.
        episodes: equally long, with actions.
        seed: of the noise.
        device: where the world model runs.

    Raises:
        ValueError: a world that cannot tell, or an episode without actions.
    """
    taught(world)
    found = []
    for begin in tqdm(range(0, len(episodes), _BATCH), desc="replay", unit="batch"):
        found.append(_played(world, episodes[begin : begin + _BATCH], seed, device))
    credibility, error = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Believed(credibility, error)


def _played(world: World, batch: Sequence[Episode], seed: int, device: str) -> tuple[Floats, Floats]:
    if any(episode.actions is None for episode in batch):
        raise ValueError("an episode without actions cannot be replayed; record it without --no-actions")
    frames = np.stack([episode.frames for episode in batch])
    actions = np.stack([episode.actions for episode in batch if episode.actions is not None])
    env = WorldModelVectorEnv(
        len(batch),
        world,
        autoreset_mode="disabled",
        terminate_on_success=False,
        horizon=actions.shape[1],
        obs_type="pixels",
        device=device,
    )
    seeds = episode_seeds(seed, [str(episode.seed) for episode in batch], "world")
    env.reset(options={"frames": frames[:, :1], "actions": actions[:, :0], "noise_seed": seeds})
    credibility, error = [], []
    for t in range(actions.shape[1]):
        pixels, _, _, _, infos = env.step(actions[:, t])
        difference = pixels.astype(np.float64) - frames[:, t + 1]
        error.append(np.sqrt(np.square(difference).mean(axis=(1, 2, 3))))
        credibility.append(infos["credibility"])
    env.close()
    return np.stack(credibility, axis=1), np.stack(error, axis=1)


def auroc(*, doubtful: npt.ArrayLike, sound: npt.ArrayLike) -> float:
    """Probability that one of ``doubtful`` is less credible than one of ``sound``; ties count half."""
    below, above = np.asarray(doubtful), np.asarray(sound)
    ranks = rankdata(np.concatenate([above, below]))
    return float((ranks[: len(above)].sum() - len(above) * (len(above) + 1) / 2) / (len(above) * len(below)))


def foresight(credibility: Floats, error: Floats) -> float:
    """Rank correlation (Spearman) of credibility with *small* error; 1 means a perfect order of ``(n,)``."""
    a, b = rankdata(credibility), rankdata(-error)
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else math.nan


def _resampled(measure: Callable[..., float], *counts: int) -> Estimate:
    """``measure`` of all rows, with the interval of ``measure`` of rows drawn again, ``counts`` each."""
    rng, tail = np.random.default_rng(0), 50 * (1 - CONFIDENCE)
    drawn = [measure(*(rng.integers(n, size=n) for n in counts)) for _ in range(_DRAWS)]
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Estimate(measure(*(np.arange(n) for n in counts)), float(low), float(high))


def check(
    world: World,
    heldout: str | Path,
    shifted: Mapping[str, str | Path],
    out: str | Path | None = None,
    *,
    episodes: int = 200,
    each: int = 64,
    device: str = "cpu",
) -> dict[str, Any]:
    """Hold the credibility of ``world`` against recordings.

    Args:
        world: one that can tell what is credible.
        heldout: folder of episodes like those it was trained on, which nothing was learned from.
        shifted: name to folder of episodes that it must not believe.
        out: folder for ``credibility.json``; None writes nothing.
        episodes: at most so many of ``heldout``.
        each: at most so many of each shift.
        device: where the world model runs.

    Returns:
        The report; ``format_check`` makes a text of it.

    Raises:
        ValueError: a world that cannot tell, or an episode without actions.
    """
    config = taught(world).config
    home = believed(world, list(EpisodeFolder(heldout, episodes)), device=device)
    away = {
        name: believed(world, list(EpisodeFolder(folder, each)), device=device)
        for name, folder in shifted.items()
    }
    report: dict[str, Any] = {
        "world": world.config.name,
        "world_model_hash": world.model(device).hash,
        "tolerance": config.tolerance,
        "credible_from": config.credible_from,
        "heldout": _at_home(home, config.tolerance, config.credible_from),
        "shifts": {name: _away(found, home, config.credible_from) for name, found in away.items()},
        "cost": cost(world, device=device),
    }
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=2, allow_nan=False)
        (Path(out) / "credibility.json").write_text(text + "\n")
    return report


def _at_home(home: Believed, tolerance: float, credible_from: float) -> dict[str, Any]:
    count = len(home.error)
    per_step = _resampled(lambda i: foresight(home.credibility[i].ravel(), home.error[i].ravel()), count)
    per_episode = _resampled(lambda i: foresight(home.per_episode[i], home.episode_error[i]), count)
    right = home.error <= tolerance
    reliable = reliability(home.credibility.ravel().astype(np.float64), right.ravel())
    return {
        "episodes": count,
        "credible": float((home.per_episode >= credible_from).mean()),
        "credibility": float(home.credibility.mean()),
        "right": float(right.mean()),
        "spearman_step": _values(per_step),
        "spearman_episode": _values(per_episode),
        "calibration_error": reliable["expected_calibration_error"],
        "reliability": reliable["bins"],
    }


def _away(found: Believed, home: Believed, credible_from: float) -> dict[str, Any]:
    a, b = found.per_episode, home.per_episode
    wrong = auroc(doubtful=-found.episode_error, sound=-home.episode_error)
    area = _resampled(lambda i, j: auroc(doubtful=a[i], sound=b[j]), len(a), len(b))
    return {
        "episodes": len(a),
        "credible": float((a >= credible_from).mean()),
        "credibility": float(a.mean()),
        "auroc": _values(area),
        "auroc_of_error": wrong,  # how far the shift shows in what it is about: the error itself
        "error": float(found.episode_error.mean()),
    }


def cost(world: World, *, slots: int = 32, steps: int = 8, device: str = "cpu") -> dict[str, float]:
    """Environment steps per second with and without credibility, taken in turns.

    On a processor these are seconds of its time, which nothing else that runs there can stretch.

    Args:
        world: one that can tell what is credible, with start contexts.
        slots: episodes side by side.
        steps: timed ones, each way.
        device: where the world model runs.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    envs = [
        WorldModelVectorEnv(slots, world, credibility=told, terminate_on_success=False, device=device)
        for told in (False, True)
    ]
    seconds: list[list[float]] = [[], []]
    for env in envs:
        env.reset(seed=0)
    for _ in range(steps + 1):
        for env, taken in zip(envs, seconds, strict=True):
            env.action_space.seed(0)
            action = env.action_space.sample()
            begin = clock()
            env.step(action)
            taken.append(clock() - begin)
    without, told = (float(np.median(taken[1:])) for taken in seconds)  # the first one warms up
    share = told / without - 1
    return {"steps_per_s_without": slots / without, "steps_per_s_with": slots / told, "share": share}


def format_check(report: Mapping[str, Any]) -> str:
    """The report as a text."""
    home, price = report["heldout"], report["cost"]
    lines = [
        f"world {report['world']}, model {report['world_model_hash']}; a frame is right within "
        f"{report['tolerance']:g} grey levels, an episode credible from {report['credible_from']:.2f}",
        "",
        f"held-out replay, {home['episodes']} episodes: {home['credible']:.0%} credible; mean credibility "
        f"{home['credibility']:.2f}, frames right {home['right']:.2f}, calibration error "
        f"{home['calibration_error']:.3f}",
        f"  rank correlation with small error: per step {_shown(home['spearman_step'])}, "
        f"per episode {_shown(home['spearman_episode'])}",
        f"  cost: {price['share']:.1%} of a step ({price['steps_per_s_without']:.0f} env steps/s without, "
        f"{price['steps_per_s_with']:.0f} with)",
    ]
    if report["shifts"]:
        heads = ("shift", "episodes", "credible", "mean", "AUROC [95 %]", "error")
        lines += ["", "{:18s} {:>8s} {:>8s} {:>5s}  {:20s} {:s}".format(*heads)]
    for name, entry in report["shifts"].items():
        lines.append(
            f"{name:18s} {entry['episodes']:8d} {entry['credible']:8.0%} {entry['credibility']:5.2f}  "
            f"{_shown(entry['auroc']):20s} {entry['error']:5.1f}"
        )
    return "\n".join(lines)


def _values(estimate: Estimate) -> dict[str, float | None]:
    """JSON values; one that is undefined, as the rank correlation of a single episode, is None."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(estimate).items()}


def _shown(estimate: Mapping[str, float | None]) -> str:
    value, low, high = (
        "-" if estimate[key] is None else f"{estimate[key]:.3f}" for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"
