"""Who says that an imagined frame is a success: the world's detector on decoded frames, or a small network
that learned from it to read latents, which saves the decoding.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from v2w_gym.data.episode import Episode
from v2w_gym.policies.actor import LatentTrunk
from v2w_gym.rewards.base import SuccessDetector, judge
from v2w_gym.training.imagination.recordings import Recordings
from v2w_gym.world_model.base import WorldModel

_CHUNK = 256  # latents at once
_LIKELY = 0.05  # probability from which a frame is drawn more often


@dataclass(frozen=True)
class JudgeConfig:
    """How a network learns to read success from latents.

    Attributes:
        episodes: recorded ones to learn from; every tenth only checks.
        steps: of the optimiser.
        batch_size: latents per step; half of them are none of the plain failures.
        learning_rate: at the beginning; it falls to zero as a cosine.
        noise: largest deviation of the noise on a latent; imagined ones are a little off.
        channels: width of the two convolutions.
    """

    episodes: int = 1000
    steps: int = 2000
    batch_size: int = 128
    learning_rate: float = 2e-3
    noise: float = 0.3
    channels: tuple[int, ...] = (32, 48)

    def __post_init__(self) -> None:
        if min(self.episodes, self.batch_size) < 2 or self.steps < 1 or self.noise < 0:
            raise ValueError(
                "a judge needs episodes and batch_size of at least 2, steps of at least 1 and a noise of at "
                f"least 0, got {self.episodes}, {self.batch_size}, {self.steps} and {self.noise:g}"
            )


class Decoded:
    """The world's own detector, on decoded latents.

    Args:
        model: decodes.
        detector: judges; one without memory.
    """

    def __init__(self, model: WorldModel, detector: SuccessDetector) -> None:
        self.model, self.detector = model, detector

    @property
    def threshold(self) -> float:
        """See ``rollout.LatentJudge``."""
        return self.detector.threshold

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``rollout.LatentJudge``."""
        scores = judge(self.detector, self.model.decode(latents))
        return torch.as_tensor(scores, device=latents.device).float()


class LatentHead(nn.Module):
    """A network that reads success from a latent.

    Args:
        shape: ``(c, h, w)`` of a latent.
        channels: width of the two convolutions.
        threshold: probability from which a latent counts as success.
    """

    def __init__(self, shape: tuple[int, ...], channels: tuple[int, ...], threshold: float) -> None:
        super().__init__()
        self.trunk = LatentTrunk(shape, channels, squeeze=16, hidden=64)
        self.head = nn.Linear(64, 1)
        self.threshold = threshold

    def logits(self, latents: torch.Tensor) -> torch.Tensor:
        """``(b,)`` for latents ``(b, c, h, w)``."""
        logits: torch.Tensor = self.head(self.trunk(latents))[:, 0]
        return logits

    @torch.no_grad()
    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``rollout.LatentJudge``."""
        return torch.sigmoid(self.logits(latents))


def distilled(
    recordings: Recordings, detector: SuccessDetector, config: JudgeConfig, seed: int, path: Path
) -> tuple[LatentHead, float]:
    """A head that says of latents what the detector says of the recorded frames.

    Args:
        recordings: with files; where their latents lie the head will.
        detector: the teacher.
        config: how to learn.
        seed: of everything random.
        path: file in which the head is kept for the next call with the same arguments.

    Returns:
        The head, and the share of frames of checking episodes on which both give the same verdict.

    Raises:
        ValueError: fewer than two episodes.
    """
    if len(recordings) < 2:
        raise ValueError(
            f"the judge needs at least 2 episodes to branch from, got {len(recordings)}; record more: "
            "v2w record --help"
        )
    rows = np.linspace(0, len(recordings) - 1, min(config.episodes, len(recordings))).astype(int)
    chosen = recordings.part(rows)
    named = f"{detector.hash} {config} {seed} {[file.name for file in chosen.files]}"
    key = hashlib.sha256(named.encode()).hexdigest()[:12]
    device = recordings.latents.device
    torch.manual_seed(seed)
    head = LatentHead(recordings.shape, config.channels, detector.threshold).to(device)
    if path.exists() and (kept := torch.load(path, weights_only=True, map_location=device))["key"] == key:
        head.load_state_dict(kept["weights"])
        return head.eval(), float(kept["agreement"])
    scores = _scores(chosen, detector).to(device)
    checks = torch.arange(len(chosen), device=device) % 10 == 0
    _learn(head, chosen.latents[~checks].flatten(0, 1), scores[~checks].flatten(), config, seed)
    agreement = _agreement(head.eval(), chosen.latents[checks].flatten(0, 1), scores[checks].flatten())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({"key": key, "weights": head.state_dict(), "agreement": agreement}, partial)
    os.replace(partial, path)
    return head, agreement


def _scores(recordings: Recordings, detector: SuccessDetector) -> torch.Tensor:
    """What the detector says of each recorded frame, ``(n, f)`` float32."""
    bar = tqdm(recordings.files, desc="judge: labels", unit="ep", mininterval=5)
    return torch.stack([torch.as_tensor(detector.score(Episode.load(file).frames)).float() for file in bar])


def _agreement(head: LatentHead, latents: torch.Tensor, scores: torch.Tensor) -> float:
    said = torch.cat([head(part.float()) for part in latents.split(_CHUNK)])
    return float(((said >= head.threshold) == (scores >= head.threshold)).float().mean())


def _learn(
    head: LatentHead, latents: torch.Tensor, scores: torch.Tensor, config: JudgeConfig, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    likely = torch.nonzero(scores >= _LIKELY)[:, 0].cpu()
    pools = [torch.arange(len(scores)), likely if len(likely) else torch.arange(len(scores))]
    half = config.batch_size // 2
    for _ in tqdm(range(config.steps), desc="judge: learning", mininterval=5):
        rows = torch.cat([pool[torch.randint(len(pool), (half,), generator=draw)] for pool in pools])
        x = latents[rows.to(latents.device)].float()
        size = torch.rand(len(x), 1, 1, 1, generator=draw) * config.noise
        x = x + (size * torch.randn(x.shape, generator=draw)).to(x)
        loss = F.binary_cross_entropy_with_logits(head.logits(x), scores[rows.to(scores.device)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
