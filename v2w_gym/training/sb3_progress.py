"""What a long training with Stable-Baselines3 needs: looks at held-out starts, the best model kept, a
learning curve, and checkpoints that no kill can damage.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import safe_mean
from tqdm import tqdm

from v2w_gym.data.starts import StartContexts
from v2w_gym.envs.vector import WorldModelVectorEnv
from v2w_gym.training.imagination.alarm import ExploitationAlarm
from v2w_gym.training.imagination.journal import Journal


@dataclass(frozen=True)
class HeldOutLook:
    """What became of one episode from each held-out start, the most likely action taken; all in 0..1.

    Attributes:
        look_success: share of episodes with a success.
        look_credibility: mean over their steps; 1 where the world cannot tell.
    """

    look_success: float
    look_credibility: float


def split_starts(starts: StartContexts, heldout: int) -> tuple[StartContexts, StartContexts]:
    """Starts to train from and ``heldout`` others, spread evenly over the list.

    Raises:
        ValueError: nothing would be left of either.
    """
    if not 0 < heldout < len(starts):
        raise ValueError(
            f"heldout must leave starts on both sides, so lie in 1..{len(starts) - 1}, got {heldout}"
        )
    chosen = {starts.ids[i] for i in np.linspace(0, len(starts) - 1, heldout).round().astype(int)}
    groups = ([i for i in starts.ids if i not in chosen], [i for i in starts.ids if i in chosen])
    train, held = (StartContexts(starts.by_id(i) for i in group) for group in groups)
    return train, held


def look(model: BaseAlgorithm, envs: WorldModelVectorEnv, starts: StartContexts) -> HeldOutLook:
    """Let the deterministic policy act once from each start; all looks meet the same noise.

    Args:
        model: who acts.
        envs: a slot per start, with ``autoreset_mode="disabled"`` and observations as ``model`` reads them.
        starts: of which ``envs`` knows the ids.
    """
    ids = list(starts.ids)
    observation, _ = envs.reset(options={"start": ids, "noise_seed": list(range(len(ids)))})
    over = won = np.zeros(len(ids), np.bool_)
    believed: list[Any] = []
    while not over.all():
        actions, _ = model.predict(observation, deterministic=True)
        observation, _, terminated, truncated, infos = envs.step(actions)
        believed += list(infos.get("credibility", np.ones(len(ids)))[~over])
        won = won | (infos["is_success"] & ~over)
        over = terminated | truncated
    return HeldOutLook(float(won.mean()), float(np.mean(believed)))


class Progress(BaseCallback):
    """Looks, keeps, tells and stops.

    Into ``out`` go ``checkpoints/STEPS/`` (``model.zip`` and, off-policy, ``replay.pkl``), ``best.zip`` (the
    best look), ``progress.jsonl`` (a line per look) and ``progress.png``. A checkpoint is written aside and
    then renamed, between two updates, so that its counters tell of nothing that was not learned from; the one
    before is deleted after that.

    Args:
        out: folder.
        envs: see :func:`look`.
        starts: held-out ones.
        every: environment steps between two looks, each of which ends in a checkpoint.
        patience: looks without a better one after which training stops; 0 never stops.
        stop_on_alarm: whether the exploitation alarm, which is told in any case, stops training, too.
    """

    def __init__(
        self,
        out: str | Path,
        envs: WorldModelVectorEnv,
        starts: StartContexts,
        *,
        every: int,
        patience: int = 0,
        stop_on_alarm: bool = False,
    ) -> None:
        super().__init__()
        self.out, self.envs, self.starts = Path(out), envs, starts
        self.every, self.patience, self.stop_on_alarm = every, patience, stop_on_alarm
        self.stopped = ""
        self._seconds = {"collect": 0.0, "learn": 0.0, "look": 0.0}

    def _on_training_start(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self._kept = self._began = self.model.num_timesteps
        self._best = getattr(self.model, "looks", {"success": -1.0, "steps": 0, "since": 0})
        self._journal = Journal(self.out, self._kept)
        self._alarm = ExploitationAlarm()
        for line in self._journal.lines():
            self._alarm.look(line["look_success"], {"credibility": line["look_credibility"]})
        self._keep_best()  # a kill may have come between a checkpoint and its copy
        total = self.locals["total_timesteps"]
        self._bar = tqdm(total=total, initial=self._kept, desc=self.out.name, unit="step", mininterval=1.0)
        self._start = self._mark = time.monotonic()

    def _on_rollout_start(self) -> None:
        self._clock("learn")
        if self.model.num_timesteps - self._kept >= self.every or not self._journal.lines():
            self._look()

    def _on_step(self) -> bool:
        self._bar.update(self.training_env.num_envs)
        return not self.stopped

    def _on_rollout_end(self) -> None:
        self._clock("collect")

    def _on_training_end(self) -> None:
        self._clock("learn")
        if not self.stopped and self.model.num_timesteps > self._kept:
            self._look()
        self._bar.close()
        self._journal.close()

    def _clock(self, what: str) -> None:
        now = time.monotonic()
        self._seconds[what] += now - self._mark
        self._mark = now

    def _look(self) -> None:
        found, steps = look(self.model, self.envs, self.starts), self.model.num_timesteps
        better = found.look_success > self._best["success"]
        fresh = {"success": found.look_success, "steps": steps, "since": 0}
        self._best = fresh if better else {**self._best, "since": self._best["since"] + 1}
        self._tell(found, steps)
        self.model.looks = self._best  # saved with the counters
        save_checkpoint(self.model, self.out)
        self._kept = steps
        self._keep_best()
        if self.patience and self._best["since"] >= self.patience:
            self.stopped = f"no better look in {self.patience}"
        self._clock("look")

    def _tell(self, found: HeldOutLook, steps: int) -> None:
        earned = self.model.ep_success_buffer
        spent = time.monotonic() - self._start
        self._journal.write(
            steps,
            {
                "minutes": round(self._journal.minutes + spent / 60, 3),
                "success": float(safe_mean(earned)) if earned else None,
                **asdict(found),
                "steps_per_second": round((steps - self._began) / max(spent, 1e-9), 1),
                **{f"seconds_{what}": round(value, 1) for what, value in self._seconds.items()},
            },
        )
        self._journal.draw_now_and_then()
        self._bar.set_postfix(heldout=f"{found.look_success:.2f}", best=f"{self._best['success']:.2f}")
        for alarm in self._alarm.look(found.look_success, {"credibility": found.look_credibility}):
            self._bar.write(str(alarm))
            if self.stop_on_alarm:
                self.stopped = str(alarm)

    def _keep_best(self) -> None:
        """Copy the newest checkpoint to ``best.zip`` if it is the best look."""
        newest = newest_checkpoint(self.out)
        if newest is not None and int(newest.name) == self._best["steps"] and self._best["success"] >= 0:
            shutil.copyfile(newest / "model.zip", self.out / "best.partial")
            os.replace(self.out / "best.partial", self.out / "best.zip")


def save_checkpoint(model: BaseAlgorithm, out: Path) -> Path:
    """Write a checkpoint, then delete older ones; a kill at any moment leaves a whole one.

    Returns:
        Its folder, named after the steps so far.
    """
    folder = out / "checkpoints"
    partial, target = folder / "partial", folder / f"{model.num_timesteps:010d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save(partial / "model.zip")
    if getattr(model, "replay_buffer", None) is not None:
        model.save_replay_buffer(partial / "replay.pkl")
    if not target.exists():
        os.rename(partial, target)
    for other in folder.iterdir():
        if other != target:
            shutil.rmtree(other)
    return target


def newest_checkpoint(out: str | Path) -> Path | None:
    """Folder of the newest whole checkpoint of a run; None if there is none."""
    return max((path for path in Path(out).glob("checkpoints/*") if path.name.isdigit()), default=None)


def resume(kind: type[BaseAlgorithm], checkpoint: Path, env: Any, seed: int, device: str) -> BaseAlgorithm:
    """Load a model with its counters, its optimisers and its replay buffer.

    Episodes begin anew, with another stream of chance: Stable-Baselines3 by itself would meet those of the
    run's beginning once more.

    Args:
        kind: class of the algorithm.
        checkpoint: a folder, see :func:`newest_checkpoint`.
        env: as at the beginning.
        seed: of the run.
        device: of the learner.
    """
    model: BaseAlgorithm = kind.load(checkpoint / "model.zip", env=env, device=device)
    if (checkpoint / "replay.pkl").exists():
        model.load_replay_buffer(checkpoint / "replay.pkl")
    rng = np.random.default_rng((seed, model.num_timesteps))
    model.set_random_seed(int(rng.integers(2**31)))
    return model
