"""Train a policy in imagination: ``v2w imagine``.

Chance in an update is a function of (seed, update), and at a checkpoint all branches begin anew, so a run
that was killed and goes on from its checkpoint is the run that was never stopped.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from v2w_gym.config import to_dict
from v2w_gym.policies.latent import LatentPolicy
from v2w_gym.training.imagination.alarm import ExploitationAlarm
from v2w_gym.training.imagination.config import ImaginationConfig
from v2w_gym.training.imagination.journal import Journal, write_whole
from v2w_gym.training.imagination.learner import Learner
from v2w_gym.training.imagination.probing import look
from v2w_gym.training.imagination.rollout import Branches, unroll
from v2w_gym.training.imagination.setting import Stage, set_up
from v2w_gym.world_model.vid2world import Vid2World

_FREE = ("updates", "max_minutes", "tensorboard", "threads", "device")
"""Settings that may change between two starts of a run."""


def claim(config: ImaginationConfig, out: Path) -> None:
    """Make ``out`` the folder of a run with these settings, or see that it is.

    Raises:
        ValueError: it holds a run with other settings.
    """
    path = out / "settings.json"
    now = {name: value for name, value in to_dict(config).items() if name not in _FREE}
    if path.exists():
        before = json.loads(path.read_text())
        if changed := [name for name, value in now.items() if before.get(name) != value]:
            raise ValueError(
                f"{out} holds a run with another {', '.join(changed)}; give it the same settings, or "
                "another --out"
            )
    write_whole(path, json.dumps(now, indent=1) + "\n")


@dataclass
class _Best:
    """The best look so far, and how many have passed since."""

    score: float = -1.0
    looks: int = 0


class Trainer:
    """A run and all that its next update depends on.

    ``out`` holds ``settings.json``, ``checkpoint.pt``, ``progress.jsonl``, ``progress.png``,
    ``start.safetensors`` (before the first update), ``policy.safetensors`` (the best look) and
    ``last.safetensors``.

    Args:
        config: settings.
        stage: the parts.
        learner: with the actor.
        out: folder.
        model: whose codec policies are saved with; None saves none.

    Raises:
        ValueError: ``out`` holds a run with other settings.
    """

    def __init__(
        self, config: ImaginationConfig, stage: Stage, learner: Learner, out: Path, model: Vid2World | None
    ) -> None:
        self.config, self.stage, self.learner, self.out, self.model = config, stage, learner, out, model
        self.alarm, self.best = ExploitationAlarm(config.alarm), _Best()
        self.branches: Branches | None = None
        self.stopped = ""
        claim(config, out)
        self._resume()
        self.journal = Journal(out, learner.updates, config.tensorboard)
        self._earlier, self._began = self.journal.minutes, time.monotonic()

    def fit(self) -> bool:
        """Run to ``config.updates``; False if the time limit, the alarm or patience stopped it before."""
        config, learner = self.config, self.learner
        with tqdm(
            total=config.updates,
            initial=learner.updates,
            desc=self.out.name,
            unit="update",
            mininterval=5.0,
        ) as bar:
            if learner.updates == 0:
                self._keep("start")
                self._look(bar)
            while learner.updates < config.updates and not self.stopped:
                self._go_on(bar)
        self._keep("last")
        self.journal.close()
        return learner.updates >= config.updates

    def _go_on(self, bar: Any) -> None:
        """An update, and the look and the checkpoint that follow it."""
        config, told = self.config, self._update()
        now = self.learner.updates
        bar.update()
        self.journal.write(now, {"minutes": self._minutes(), **told})
        bar.set_postfix(success=f"{told['success']:.2f}", returns=f"{told['return']:.2f}", refresh=False)
        over = now >= config.updates
        if now % config.look.every == 0 or over:
            self._look(bar)
        if now % config.checkpoint_every == 0 or self.stopped or over:
            self._save()
            if config.max_minutes and not over and self._seconds() > 60 * config.max_minutes:
                self.stopped = self.stopped or "time"
        if self.stopped:
            self.journal.write(now, {"minutes": self._minutes(), "stopped": self.stopped})

    def _update(self) -> dict[str, float]:
        config, update = self.config, self.learner.updates
        rng = np.random.default_rng((config.seed, 3, update))
        device = self.stage.branch_from.latents.device
        acting = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        shuffling = torch.Generator().manual_seed(int(rng.integers(2**62)))
        began = time.monotonic()
        branches = self._renewed(rng, everything=update % config.checkpoint_every == 0)
        renewed = time.monotonic()
        batch, self.branches = unroll(self.stage.dream, self.learner.actor, branches, config.unroll, acting)
        imagined = time.monotonic()
        told = self.learner.update(batch, shuffling)
        after, running = batch["next"], batch["running"]
        ended = (after["done"] & running).sum()
        return {
            **told,
            "success": float((after["terminated"] & running).sum() / ended.clamp(min=1)),
            "ended": float(ended),
            "credibility": float(after["credibility"][running].mean()),
            "running": float(running.float().mean()),
            "seconds_renew": renewed - began,
            "seconds_imagine": imagined - renewed,
            "seconds_learn": time.monotonic() - imagined,
        }

    def _renewed(self, rng: np.random.Generator, everything: bool) -> Branches:
        """The branches, new ones in place of those that have ended.

        When all are new, they get lengths of all kinds, lest they end together ever after.
        """
        config, stage = self.config, self.stage
        size = config.slots
        if self.branches is not None and not everything:
            rows = torch.nonzero(self.branches.ended)[:, 0]
            size = len(rows)
            if not size:
                return self.branches
        latents, actions = stage.branch_from.draw(rng, size, stage.moments, config.first)
        seeds = rng.integers(2**31, size=size).tolist()
        state = stage.dream.dynamics.init(latents, actions, seeds)
        all_new = self.branches is None or everything
        left = rng.integers(1 if all_new else config.longest, config.longest + 1, size)
        fresh = Branches.of(state, torch.from_numpy(left).to(latents.device))
        if self.branches is None or everything:
            return fresh
        self.branches.assign(rows, fresh)
        return self.branches

    def _look(self, bar: Any) -> None:
        config, stage = self.config, self.stage
        starts = stage.heldout.part(np.arange(min(config.look.episodes, len(stage.heldout))))
        found = look(stage.dream, stage.auditor, self.learner.actor, starts, stage.horizon)
        trusts = {"credibility": found.credibility, "agreement": found.agreement}
        real = self._real(starts.files) if config.look.real else None
        if real is not None:  # a policy that does better in reality exploits nothing
            trusts["reality"] = 1.0 - max(0.0, float(np.mean(found.won[: len(real)])) - float(np.mean(real)))
        alarms = self.alarm.look(found.success, trusts)
        for alarm in alarms:
            bar.write(f"alarm at update {self.learner.updates}: {alarm}")
        self.best.looks += 1
        if found.confirmed >= self.best.score:  # of equal ones the last, which has learned more
            waited = 0 if found.confirmed > self.best.score else self.best.looks
            self.best = _Best(found.confirmed, waited)
            self._keep("policy")
        if alarms and config.alarm.stop:
            self.stopped = "alarm"
        elif config.look.patience and self.best.looks >= config.look.patience:
            self.stopped = "patience"
        told: dict[str, Any] = {
            "minutes": self._minutes(),
            "look_success": found.success,
            "look_confirmed": found.confirmed,
            "look_credibility": found.credibility,
            "look_agreement": found.agreement,
        }
        if real is not None:
            told["look_real"] = float(np.mean(real))
        if alarms:
            told["alarm"] = [str(alarm) for alarm in alarms]
        self.journal.write(self.learner.updates, told)
        self.journal.draw_now_and_then()
        reality = "" if real is None else f", real {np.mean(real):.2f}"
        bar.write(
            f"look at update {self.learner.updates}: success {found.success:.2f}, confirmed "
            f"{found.confirmed:.2f}, credibility {found.credibility:.2f}{reality}"
        )

    def _real(self, files: tuple[Path, ...]) -> list[bool]:
        """Outcomes in Meta-World from the starts of the first held-out recordings."""
        from v2w_gym.data.episode import Episode
        from v2w_gym.data.reality import run_policy

        found: list[bool] = []
        for file in files[: self.config.look.real]:
            episode = Episode.load(file)
            found += run_policy(self._policy(), [episode.seed], episode.task).values()
        return found

    def _policy(self) -> LatentPolicy:
        assert self.model is not None  # else there would be no reality to speak of
        return LatentPolicy(self.learner.actor, self.model.codec, self.model.frame_size)

    def _keep(self, name: str) -> None:
        if self.model is not None:
            notes = {"world": self.model.hash, "updates": str(self.learner.updates)}
            self._policy().save(self.out / f"{name}.safetensors", notes)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _minutes(self) -> float:
        return round(self._earlier + self._seconds() / 60, 3)

    def _save(self) -> None:
        """Write the checkpoint; a kill while writing leaves the one before."""
        state = {
            "learner": self.learner.state_dict(),
            "alarm": self.alarm.state_dict(),
            "best": [self.best.score, self.best.looks],
            "stopped": self.stopped,
        }
        partial = self.out / "checkpoint.partial"
        torch.save(state, partial)
        os.replace(partial, self.out / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        device = self.stage.branch_from.latents.device
        state = torch.load(path, weights_only=True, map_location=device)
        self.learner.load_state_dict(state["learner"])
        self.alarm.load_state_dict(state["alarm"])
        self.best = _Best(*state["best"])
        self.stopped = state["stopped"]


def train(config: ImaginationConfig, out: str | Path) -> bool:
    """Train (or go on training) a policy; see :class:`Trainer` for what ``out`` holds.

    Returns:
        Whether all updates are made.

    Raises:
        FileNotFoundError: no such world or recordings.
        ValueError: settings that do not fit the world, or another run in ``out``.
        ImportError: TensorBoard is wanted and not installed.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(out)
    claim(config, out)  # before anything that takes long, and that the next call would take for its own
    stage, actor, model = set_up(config, out)
    return Trainer(config, stage, Learner(actor, config.learner), out, model).fit()
