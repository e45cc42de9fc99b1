"""One resumable training loop for every stage: warm-up and cosine, moving average, curve, samples.

Batch and noise of a step are a function of (seed, step, rank), so a resumed run is the run that was never
stopped; a stage that draws for several steps at once, as ``lessons`` does, draws anew if stopped between.
Under ``torchrun --nproc-per-node N`` every process draws its own batch and the gradients are averaged; on a
CPU, N processes of one thread each lose less to other programs than one process of N threads.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from tqdm import tqdm

from v2w_gym.training.optimizer import Kind, Optimizer
from v2w_gym.world_model.halves import Precision

Losses = dict[str, torch.Tensor]


@dataclass(frozen=True)
class LoopConfig:
    """How to optimise.

    Attributes:
        steps: optimiser steps in all.
        batch_size: items per step and process; what an item is, the stage says.
        learning_rate: peak value; reached after ``warmup`` steps, then a cosine down to a twentieth.
        warmup: steps.
        fresh_rate: how many times as fast weights learn that the start of a fine-tuning did not have.
        optimizer: "adamw", or "muon" for the hidden weight matrices; see ``optimizer.py``.
        weight_decay: of weight matrices.
        grad_clip: largest norm of the gradient.
        ema: decay of the moving average of the weights; the average is what is saved as the result.
        seed: of the weights, the batches and the noise.
        precision: "bf16" runs the network under autocast.
        device: where the network is trained: "cpu", "cuda", or "auto", a GPU where there is one. Batches and
            noise are drawn on the CPU, so that they are the same everywhere.
        threads: CPU threads; 0 leaves torch's choice.
        checkpoint_every: steps between checkpoints.
        sample_every: steps between samples to look at.
        max_minutes: stop (with a checkpoint) after this long; 0 means never.
    """

    steps: int
    batch_size: int
    learning_rate: float = 3e-4
    warmup: int = 200
    fresh_rate: float = 1.0
    optimizer: Kind = "adamw"
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    precision: Precision = "bf16"
    device: str = "auto"
    threads: int = 0
    checkpoint_every: int = 500
    sample_every: int = 2000
    max_minutes: float = 0.0


class Loop:
    """Optimise ``module`` and keep everything needed to go on after a kill in ``out``.

    ``fresh`` names the parameters to which ``fresh_rate`` applies.

    ``out`` holds ``checkpoint.pt`` (weights, average, optimiser, step), ``losses.jsonl``, ``losses.png``
    and whatever ``sample`` writes.
    """

    def __init__(
        self, module: nn.Module, config: LoopConfig, out: str | Path, fresh: Collection[str] = ()
    ) -> None:
        self.config, self.out = config, Path(out)
        self.ranks, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.device = _device(config.device, int(os.environ.get("LOCAL_RANK", "0")))
        self.module = module.to(self.device)
        self.out.mkdir(parents=True, exist_ok=True)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimizer = Optimizer(module, config.optimizer, config.weight_decay, fresh, config.fresh_rate)
        self.average = [p.detach().clone() for p in self.parameters]
        self.step = 0
        self._earlier = self._logged()
        if self.ranks > 1 and not distributed.is_initialized():
            distributed.init_process_group("gloo" if self.device.type == "cpu" else "nccl")
        self._resume()
        if self.ranks > 1:
            for parameter in self.parameters:
                distributed.broadcast(parameter.data, src=0)

    def fit(
        self,
        batch: Callable[[np.random.Generator, int], Any],
        loss: Callable[[Any, torch.Generator], Losses],
        sample: Callable[[Path, int], None] | None = None,
    ) -> bool:
        """Run to ``config.steps``; returns False if the time limit stopped it before.

        Args:
            batch: draws a batch of the given size.
            loss: named losses; the entry ``"loss"`` is minimised.
            sample: writes something to look at; called with the averaged weights in place.
        """
        started, recent = time.monotonic(), []
        bar = tqdm(
            total=self.config.steps,
            initial=self.step,
            desc=self.out.name,
            mininterval=5.0,
            disable=self.rank > 0,
        )
        while self.step < self.config.steps:
            rng = np.random.default_rng((self.config.seed, self.step, self.rank))
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            recent.append(self._optimise(loss(batch(rng, self.config.batch_size), generator)))
            bar.update()
            if self.step % 50 == 0:
                means = _means(recent)
                self._log({"step": self.step, "minutes": self._minutes(started), **means})
                bar.set_postfix({k: f"{v:.4f}" for k, v in means.items()}, refresh=False)
                recent = []
            if self.step % self.config.checkpoint_every == 0:
                self.save()
            if sample and self.rank == 0 and self.step % self.config.sample_every == 0:
                self.with_average(lambda: sample(self.out, self.step))
            if self._out_of_time(started):
                break
        bar.close()
        if recent:
            self._log({"step": self.step, "minutes": self._minutes(started), **_means(recent)})
        self.save()
        self._plot()
        return self.step >= self.config.steps

    def with_average(self, call: Callable[[], Any]) -> Any:
        """Call with the moving average in place of the weights."""
        current = [p.detach().clone() for p in self.parameters]
        self._assign(self.average)
        self.module.eval()
        try:
            return call()
        finally:
            self._assign(current)
            self.module.train()

    def finish(self, network: Any, name: str = "unet") -> None:
        """Write the averaged weights of ``network`` to ``out/name`` in the diffusers layout."""
        if self.rank == 0:
            self.with_average(lambda: network.save_pretrained(self.out / name))

    def save(self) -> None:
        """Write the checkpoint; a kill while writing leaves the one before."""
        if self.rank > 0:
            return
        state = {
            "step": self.step,
            "module": self.module.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.out / "checkpoint.partial"
        torch.save(state, partial)
        os.replace(partial, self.out / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.module.load_state_dict(state["module"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def _optimise(self, losses: Losses) -> dict[str, float]:
        config = self.config
        ramp = min(1.0, (self.step + 1) / max(1, config.warmup))
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / config.steps))
        self.module.zero_grad(set_to_none=True)
        losses["loss"].backward()
        self._average_gradients()
        norm = nn.utils.clip_grad_norm_(self.parameters, config.grad_clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient is not finite at step {self.step}; losses: {losses}")
        self.optimizer.step(config.learning_rate * ramp * (0.05 + 0.95 * cosine))
        self.step += 1
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        return {k: float(v.detach()) for k, v in losses.items()}

    def _average_gradients(self) -> None:
        if self.ranks == 1:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])  # of whatever memory format
        distributed.all_reduce(flat)
        parts = (flat / self.ranks).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def _out_of_time(self, started: float) -> bool:
        """Whether the time limit is over, by the clock of the first process, so that all stop at one step."""
        if not self.config.max_minutes:
            return False
        over = torch.tensor(time.monotonic() - started > 60 * self.config.max_minutes, device=self.device)
        if self.ranks > 1:
            distributed.broadcast(over, src=0)
        return bool(over)

    def _assign(self, values: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)

    def _minutes(self, started: float) -> float:
        """What the run has taken until now, earlier starts included."""
        return self._earlier + (time.monotonic() - started) / 60

    def _logged(self) -> float:
        """Minutes that earlier starts have logged."""
        path = self.out / "losses.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return float(json.loads(lines[-1])["minutes"]) if lines else 0.0

    def _log(self, line: dict[str, float]) -> None:
        if self.rank > 0:
            return
        with (self.out / "losses.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _plot(self) -> None:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        path = self.out / "losses.jsonl"
        if self.rank > 0 or not path.exists():
            return
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        if len(lines) < 2:  # no curve
            return
        figure, axes = plt.subplots(figsize=(7, 4))
        for key in lines[0].keys() - {"step", "minutes"}:
            axes.plot([line["step"] for line in lines], [line[key] for line in lines], label=key)
        axes.set(xlabel="optimiser step", ylabel="loss", yscale="log", title=self.out.name)
        axes.legend()
        figure.savefig(self.out / "losses.png", dpi=120, bbox_inches="tight")
        plt.close(figure)


def _means(losses: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in losses])) for name in losses[0]}


def _device(name: str, index: int) -> torch.device:
    """The device of a process; several on one machine take one GPU each."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name, index) if name == "cuda" else torch.device(name)
