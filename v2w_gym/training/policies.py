"""Train image policies by cloning the scripted expert: ``v2w train policies``.

Two kinds of demonstrations: *clean* ones, in which the expert acts, and *recovery* ones, in which something
clumsy acts and the expert only says at each frame what it would do. Clean ones alone never show how to come
back. Every frame is labelled once per *aim*, where the expert believes the drawer to be. Each run saves its
weights at several stages, so that one run gives policies from barely trained to converged. Policies without a
network are fitted to a few of the same demonstrations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tqdm import tqdm

from v2w_gym.config import config_hash
from v2w_gym.data import behaviours
from v2w_gym.data.episode import FrameArray
from v2w_gym.data.metaworld import HORIZON, process_task
from v2w_gym.data.reality import TASK
from v2w_gym.policies.cnn import CnnConfig, CnnPolicy
from v2w_gym.policies.shallow import LinearPolicy, NearestPolicy, ReplayPolicy, save
from v2w_gym.training import augment
from v2w_gym.training.loop import Loop, LoopConfig, Losses


@dataclass(frozen=True)
class Aim:
    """Where the labelling expert believes the drawer to be.

    Attributes:
        name: what a run calls it.
        error: metres (x, y, z) from the true place.
        fixed_x: if given, the believed x, wherever the drawer is.
    """

    name: str
    error: tuple[float, ...] = (0.0, 0.0, 0.0)
    fixed_x: float | None = None


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        name: the weights are called ``<name>-<step>``.
        clean: how many clean demonstrations it may see.
        recovery: how many recovery demonstrations it may see.
        stages: steps at which weights are saved, multiples of ``stage_every``; the last is the run's length.
        aim: whose labels.
        seed: of weights and batches; added to the seed of the whole.
    """

    name: str
    clean: int
    recovery: int
    stages: tuple[int, ...]
    aim: str = "true"
    seed: int = 0


@dataclass(frozen=True)
class Shallow:
    """A policy without a network, fitted in one go.

    Attributes:
        name: of the weights.
        kind: "linear", "nearest" or "replay"; see ``policies.shallow``.
        demonstrations: the first it may see and the one after the last; a replay takes one.
        aim: whose labels.
        ridge: of "linear".
    """

    name: str
    kind: Literal["linear", "nearest", "replay"]
    demonstrations: tuple[int, ...]
    aim: str = "true"
    ridge: float = 1.0


@dataclass(frozen=True)
class PoliciesConfig:
    """What to train.

    Attributes:
        runs: the training runs.
        shallow: the policies without a network.
        weights: folder for the finished weights, one safetensors file per stage.
        aims: the labels to make.
        clean: demonstrations by the expert itself.
        recovery: demonstrations by clumsy behaviours, labelled by the expert.
        first_seed: seeds of the demonstrations begin here.
        seed: changes all weights and batches.
        batch_size: frames per step.
        learning_rate: peak value.
        stage_every: weights can be saved at multiples of this many steps.
        threads: CPU threads of the training.
        cnn: sizes of the networks.
    """

    runs: tuple[Run, ...]
    weights: str
    shallow: tuple[Shallow, ...] = ()
    aims: tuple[Aim, ...] = (Aim("true"),)
    clean: int = 100
    recovery: int = 150
    first_seed: int = 300_000
    seed: int = 0
    batch_size: int = 64
    learning_rate: float = 2e-3
    stage_every: int = 20
    threads: int = 1
    cnn: CnnConfig = field(default_factory=CnnConfig)


@dataclass(frozen=True)
class Demonstrations:
    """Frames and what each aim's expert would do there.

    Attributes:
        frames: ``(episodes, f, h, w, 3)`` uint8; the clean episodes come first.
        labels: ``(aims, episodes, f, a)`` float32 in -1..1.
    """

    frames: FrameArray
    labels: npt.NDArray[np.float32]


def demonstrate(config: PoliciesConfig) -> Demonstrations:
    """Record all demonstrations in Meta-World; a function of the config alone."""
    reality = process_task(TASK)
    frames, labels = [], []
    for index in tqdm(range(config.clean + config.recovery), desc="demonstrations", unit="ep"):
        seed = config.first_seed + index
        rng = np.random.default_rng((seed, 13))
        expert = behaviours.expert(TASK)
        act = expert if index < config.clean else behaviours.draw(rng, expert)[1]
        frame = reality.reset(seed)
        for t in range(HORIZON):
            frames.append(frame)
            labels.append([expert(t, _believed(reality.state, aim)) for aim in config.aims])
            frame, _ = reality.step(act(t, reality.state))
    shape = (-1, HORIZON)
    stacked = np.asarray(labels, dtype=np.float32)
    return Demonstrations(
        frames=np.stack(frames).reshape(*shape, *frames[0].shape),
        labels=np.moveaxis(stacked.reshape(*shape, *stacked.shape[1:]), 2, 0),
    )


def _believed(state: npt.NDArray[np.float64], aim: Aim) -> npt.NDArray[np.float64]:
    believed = state.copy()
    believed[4:7] += aim.error
    if aim.fixed_x is not None:
        believed[4] = aim.fixed_x
    return believed


@dataclass(frozen=True)
class _Key:
    aims: tuple[Aim, ...]
    clean: int
    recovery: int
    first_seed: int


def _cached_demonstrations(config: PoliciesConfig, out: Path) -> Demonstrations:
    """Demonstrations, kept in ``out`` for the next call."""
    key = config_hash(_Key(config.aims, config.clean, config.recovery, config.first_seed))
    path = out / f"demonstrations-{key}.npz"
    if not path.exists():
        made = demonstrate(config)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, frames=made.frames, labels=made.labels)
        partial.rename(path)
    with np.load(path) as file:
        return Demonstrations(file["frames"], file["labels"])


def train(config: PoliciesConfig, out: str | Path) -> bool:
    """Train (or go on training) all runs.

    Args:
        config: what to train, and where the weights go.
        out: folder for demonstrations, checkpoints and loss curves.
    """
    out = Path(out)
    _check(config)
    out.mkdir(parents=True, exist_ok=True)
    data = _cached_demonstrations(config, out)
    Path(config.weights).mkdir(parents=True, exist_ok=True)
    for shallow in config.shallow:
        fit_shallow(shallow, config, data)
    for run in config.runs:
        fit(run, config, data, out / run.name)
    return True


def _check(config: PoliciesConfig) -> None:
    aims = [aim.name for aim in config.aims]
    asked = [(run.name, run.aim) for run in config.runs] + [(s.name, s.aim) for s in config.shallow]
    for name, aim in asked:
        if aim not in aims:
            raise ValueError(f"run {name!r} asks for the aim {aim!r}; known: {aims}")
    for run in config.runs:
        if run.clean > config.clean or run.recovery > config.recovery:
            raise ValueError(f"run {run.name!r} asks for more demonstrations than are made")
        if any(stage % config.stage_every for stage in run.stages):
            raise ValueError(
                f"stages of run {run.name!r} must be multiples of {config.stage_every}: {run.stages}"
            )
    made = config.clean + config.recovery
    for shallow in config.shallow:
        asked_for, alone = shallow.demonstrations, shallow.kind == "replay"
        first, end = asked_for if len(asked_for) == 2 else (-1, -1)
        if not 0 <= first < end <= made or (alone and end - first > 1):
            raise ValueError(
                f"demonstrations of {shallow.name!r} must be [first, end] within 0..{made}, "
                f"{'one apart, ' if alone else ''}got {list(asked_for)}"
            )


def fit_shallow(shallow: Shallow, config: PoliciesConfig, data: Demonstrations) -> None:
    """Fit a policy without a network and save it to ``config.weights``."""
    chosen = range(*shallow.demonstrations)
    frames, labels = _labelled(chosen, shallow.aim, config, data)
    policy: LinearPolicy | NearestPolicy | ReplayPolicy
    if shallow.kind == "linear":
        policy = LinearPolicy.fit(frames, labels, shallow.ridge)
    elif shallow.kind == "nearest":
        policy = NearestPolicy.fit(frames, labels)
    else:
        policy = ReplayPolicy(labels)
    clean = sum(episode < config.clean for episode in chosen)
    notes = {"run": shallow.name, "step": "-", "clean": str(clean), "recovery": str(len(chosen) - clean)}
    save(policy, Path(config.weights) / f"{shallow.name}.safetensors", {**notes, "aim": shallow.aim})


def _labelled(
    chosen: Iterable[int], aim: str, config: PoliciesConfig, data: Demonstrations
) -> tuple[FrameArray, npt.NDArray[np.float32]]:
    """Frames ``(n, h, w, 3)`` of the chosen demonstrations, and what ``aim`` would have done ``(n, a)``."""
    rows, labels = list(chosen), data.labels[[a.name for a in config.aims].index(aim)]
    return data.frames[rows].reshape(-1, *data.frames.shape[2:]), labels[rows].reshape(-1, labels.shape[-1])


def fit(run: Run, config: PoliciesConfig, data: Demonstrations, out: Path) -> None:
    """Train one run on its share of ``data`` and save its stages to ``config.weights``."""
    weights = Path(config.weights)
    torch.manual_seed(config.seed + run.seed)
    policy = CnnPolicy(config.cnn)
    loop = Loop(policy, _loop_config(run, config), out)
    chosen = [*range(run.clean), *range(config.clean, config.clean + run.recovery)]
    frames, labels = _labelled(chosen, run.aim, config, data)

    def batch(rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = rng.integers(0, len(frames), size)
        return torch.from_numpy(frames[rows]), torch.from_numpy(labels[rows])

    def loss(batch: tuple[torch.Tensor, torch.Tensor], generator: torch.Generator) -> Losses:
        x = augment.light(batch[0], generator).permute(0, 3, 1, 2) / 127.5 - 1.0
        return {"loss": F.smooth_l1_loss(policy(x), batch[1], beta=0.2)}

    def stage(_: Path, step: int) -> None:
        if step in run.stages:
            notes = {
                "run": run.name,
                "step": str(step),
                "clean": str(run.clean),
                "recovery": str(run.recovery),
            }
            policy.save(weights / f"{run.name}-{step:04d}.safetensors", {**notes, "aim": run.aim})

    loop.fit(batch, loss, stage)


def _loop_config(run: Run, config: PoliciesConfig) -> LoopConfig:
    return LoopConfig(
        steps=max(run.stages),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup=50,
        ema=0.99,
        seed=config.seed + run.seed,
        precision="fp32",
        device="cpu",  # a GPU would wait for such a small network's data
        threads=config.threads,
        sample_every=config.stage_every,
    )
