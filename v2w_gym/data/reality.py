"""Policies in reality: run them in Meta-World, table their true success, record what they do.

A policy is any object with ``act(observation)`` and, if it likes, ``seed(seeds)`` and
``reset(instruction, slots)``; all it ever gets to see is ``observation["pixels"]``.
"""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from v2w_gym.data.episode import ActionArray, Episode
from v2w_gym.data.metaworld import HORIZON, MetaWorldTask, process_task
from v2w_gym.data.starts import Context, StartContexts
from v2w_gym.shapes import check_action

TASK = "drawer-close-v3"
INSTRUCTION = "close the drawer"
_ACTION_DIM = 4
_CHUNK = 20  # episodes per job of a worker
SHAKE = 0.03
"""Standard deviation of the noise that a success should survive, in the unit of the actions."""


class PixelPolicy(Protocol):
    """The one thing that reality asks of a policy."""

    def act(self, observation: Mapping[str, Any]) -> npt.ArrayLike:
        """Actions ``(b, a)`` in -1..1 for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``."""
        ...


Load = Callable[[str], PixelPolicy]
Disturb = Callable[[ActionArray], ActionArray]


@dataclass(frozen=True)
class DisturbConfig:
    """How the actions of a recorded policy are changed on their way to the robot, so that it gets lost.

    Attributes:
        chance: probability that an episode is disturbed at all.
        lowest_gain: every action of the episode is multiplied by a number drawn from here to 1.
        bias: standard deviation of what is added to every action of the episode.
        noise: largest standard deviation of what is drawn anew at every action.
        late: in half of the disturbed episodes the policy sees what was up to so many actions ago. It then
            overshoots, to where it was never taught and the arm hides what it moves.
    """

    chance: float = 0.5
    lowest_gain: float = 0.4
    bias: float = 0.25
    noise: float = 0.8
    late: int = 8


def start_id(seed: int) -> str:
    """The id of the start context of a seed, e.g. ``"seed-0007"``."""
    return f"seed-{seed:04d}"


def make_starts(seeds: Sequence[int], task: str = TASK) -> StartContexts:
    """One context frame per seed, without actions: the first frame after a settled reset."""
    reality = process_task(task)
    none = np.zeros((0, _ACTION_DIM), dtype=np.float32)
    return StartContexts(Context(start_id(s), reality.reset(s)[None], none, s) for s in seeds)


def run_episode(
    policy: PixelPolicy,
    reality: MetaWorldTask,
    seed: int,
    name: str = "policy",
    disturb: Disturb | None = None,
    settle: bool = True,
    late: int = 0,
) -> Episode:
    """Let ``policy`` act for 32 actions from the start that ``seed`` places; it is seeded alike.

    Args:
        policy: sees pixels only, one slot.
        reality: the simulation.
        seed: places the scene.
        name: what the episode calls its behaviour.
        disturb: changes each action ``(a,)`` on its way to the robot; the episode holds what the robot did.
        settle: see :meth:`MetaWorldTask.reset`.
        late: the policy sees the frame of so many actions ago, or the first.

    Raises:
        ValueError: an action of the wrong shape, not finite or out of range.
    """
    for method, arguments in (("seed", ([seed],)), ("reset", ([INSTRUCTION], [0]))):
        if hasattr(policy, method):
            getattr(policy, method)(*arguments)
    frames, actions, success = [reality.reset(seed, settle)], [], [False]
    states = [reality.placement]
    for _ in range(HORIZON):
        seen = frames[max(0, len(frames) - 1 - late)][None].copy()
        action = check_action(policy.act({"pixels": seen}), (1, _ACTION_DIM))[0]
        action = disturb(action) if disturb else action
        frame, flag = reality.step(action)
        frames.append(frame)
        actions.append(action)
        success.append(flag)
        states.append(reality.placement)
    stacked = np.stack(frames), np.stack(actions), np.array(success)
    return Episode(*stacked, reality.task, name, seed, np.stack(states))


def ends_alike(episodes: Iterable[Episode], noise: float, seed: int = 0) -> list[bool]:
    """Run the actions of episodes again, a little changed: whether each ends as it was recorded.

    How far reality agrees with itself. Contact magnifies what no frame shows, so no model that reads frames
    can be expected to agree with it much further.

    Args:
        episodes: with actions and seeds.
        noise: standard deviation of what is added to each action.
        seed: of the noise.
    """
    alike = []
    for episode in episodes:
        assert episode.actions is not None  # recorded behaviour has them
        reality, rng = process_task(episode.task), np.random.default_rng((seed, episode.seed))
        reality.reset(episode.seed)
        flags = [reality.advance(action + rng.normal(0.0, noise, len(action))) for action in episode.actions]
        alike.append(any(flags) == episode.succeeded)
    return alike


def run_policy(
    policy: PixelPolicy, seeds: Iterable[int], task: str = TASK, noise: float = 0.0
) -> dict[str, bool]:
    """Run ``policy`` from every seed; the outcome of a start id says if the flag was up after any action.

    Args:
        policy: who acts.
        seeds: place the scene.
        task: Meta-World task name.
        noise: standard deviation of what is added to each action on its way to the robot.
    """
    reality, outcomes = process_task(task), {}
    for seed in seeds:
        shake = _shaker(seed, noise) if noise else None
        outcomes[start_id(seed)] = run_episode(policy, reality, seed, disturb=shake).succeeded
    return outcomes


def _shaker(seed: int, noise: float) -> Disturb:
    rng = np.random.default_rng((seed, 13))

    def shake(action: ActionArray) -> ActionArray:
        shaken: ActionArray = np.clip(action + rng.normal(0.0, noise, _ACTION_DIM), -1.0, 1.0)
        return shaken.astype(np.float32)

    return shake


def _run_job(job: tuple[Load, str, list[int], float]) -> dict[str, bool]:
    load, name, seeds, noise = job
    return run_policy(load(name), seeds, noise=noise)


def measure(
    names: Sequence[str],
    load: Load,
    out: str | Path,
    *,
    command: str,
    episodes: int = 100,
    workers: int = 2,
) -> dict[str, Any]:
    """Run policies on the start seeds and write the reality table to ``out``, after each policy.

    Each is run twice: as it is, and with its actions shaken by noise of ``SHAKE``. A success that does not
    survive that hangs on details that no frame shows, and is no fair question to a world model.

    Policies that ``out`` already lists and that are not in ``names`` stay as they are.

    Args:
        names: what ``load`` is called with, and the keys of the table.
        load: makes a policy from its name; a module-level function, since worker processes call it.
        out: a JSON file, e.g. ``reality.json`` of a world folder.
        command: the line that makes the table again; written into it.
        episodes: start seeds 0..episodes-1.
        workers: processes.
    """
    out = Path(out)
    known = json.loads(out.read_text())["policies"] if out.exists() else {}
    table: dict[str, Any] = {
        "command": command,
        "metaworld": importlib.metadata.version("metaworld"),
        "task": TASK,
        "episodes": episodes,
        "rule": "any",
        "policies": known,
    }
    chunks = [list(range(i, min(i + _CHUNK, episodes))) for i in range(0, episodes, _CHUNK)]
    with _pool(workers) as pool:
        jobs = [(load, name, seeds, noise) for name in names for noise in (0.0, SHAKE) for seeds in chunks]
        results = pool.imap(_run_job, jobs)
        for name in (bar := tqdm(names, desc="reality", unit="policy")):
            outcomes, shaken = ({k: v for _ in chunks for k, v in next(results).items()} for _ in range(2))
            rate, again = (sum(found.values()) / episodes for found in (outcomes, shaken))
            known[name] = {
                "success": rate,
                "episodes": episodes,
                "shaken": {"noise": SHAKE, "success": again},
                "outcomes": outcomes,
            }
            bar.write(f"{name:24s} {rate:.2f}   shaken {again:.2f}")
            partial = out.with_suffix(".partial")
            partial.write_text(json.dumps(table, indent=1) + "\n")
            os.replace(partial, out)
    return table


def record_policy(
    policy: PixelPolicy,
    name: str,
    out: str | Path,
    seeds: Iterable[int],
    disturb: DisturbConfig | None = None,
    task: str = TASK,
) -> None:
    """Write an episode of ``policy`` per seed into the folder ``out``; seeds that it holds are skipped.

    Args:
        policy: who acts.
        name: the episodes' behaviour is ``policy:<name>``.
        out: folder; the files are named as those of ``v2w record``.
        seeds: place the scenes and draw the disturbances.
        disturb: how far actions are changed on their way; half of the scenes are then left unsettled, see
            :meth:`MetaWorldTask.reset`. None leaves all as :func:`run_policy` has it.
        task: Meta-World task name.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = Path(out) / f"{task}-{seed:07d}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng((seed, 11))
        changed = _draw_disturbance(rng, disturb) if disturb and rng.random() < disturb.chance else None
        settle = disturb is None or bool(rng.random() < 0.5)
        late = _draw_late(seed, disturb) if disturb and changed else 0
        run_episode(policy, process_task(task), seed, f"policy:{name}", changed, settle, late).save(path)


def _draw_disturbance(rng: np.random.Generator, config: DisturbConfig) -> Disturb:
    gain = rng.uniform(config.lowest_gain, 1.0)
    bias = rng.normal(0.0, config.bias, _ACTION_DIM)
    noise = rng.uniform(0.0, config.noise)

    def disturb(action: ActionArray) -> ActionArray:
        changed = gain * action + bias + rng.normal(0.0, noise, _ACTION_DIM)
        return np.clip(changed, -1.0, 1.0).astype(np.float32)

    return disturb


def _draw_late(seed: int, config: DisturbConfig) -> int:
    rng = np.random.default_rng((seed, 12))  # its own: what else is drawn for a seed does not depend on it
    return int(rng.integers(config.late + 1)) if rng.random() < 0.5 else 0


def _record_job(job: tuple[Load, str, str, str, list[int], DisturbConfig | None]) -> int:
    load, spec, name, out, seeds, disturb = job
    record_policy(load(spec), name, out, seeds, disturb)
    return len(seeds)


def record_policies(
    specs: Mapping[str, str],
    load: Load,
    out: str | Path,
    seeds: Sequence[int],
    disturb: DisturbConfig | None = None,
    workers: int = 1,
) -> None:
    """Share ``seeds`` evenly among several policies and record them in worker processes; resumable.

    Args:
        specs: name of each policy to what ``load`` is called with.
        load: makes a policy; a module-level function, since worker processes call it.
        out: folder for the episode files.
        seeds: one episode each; seed ``i`` goes to policy ``i`` modulo their number.
        disturb: see :func:`record_policy`.
        workers: processes.
    """
    jobs = []
    for index, (name, spec) in enumerate(specs.items()):
        own = list(seeds[index :: len(specs)])
        jobs += [
            (load, spec, name, str(out), own[i : i + _CHUNK], disturb) for i in range(0, len(own), _CHUNK)
        ]
    with _pool(workers) as pool, tqdm(total=len(seeds), desc="record policies", unit="ep") as bar:
        for done in pool.imap_unordered(_record_job, jobs):
            bar.update(done)


def _pool(workers: int) -> Any:
    os.environ.setdefault("LP_NUM_THREADS", "0")  # the software renderer is faster without threads at 128 px
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # so is a small network on one frame; workers inherit both
    return multiprocessing.get_context("spawn").Pool(workers)
