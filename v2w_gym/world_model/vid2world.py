"""The world model put together: codec, network, schedule, sampler behind ``init``, ``step``, ``decode``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from v2w_gym.config import config_hash, from_dict, load, to_dict
from v2w_gym.shapes import FramesLike, check_action, frames_to_tensor
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.diffusion import ScheduleConfig
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.unet import VideoUNet


class Vid2World:
    """A strictly causal action-conditioned video-diffusion world model (arXiv 2505.14357).

    Three pure functions over a ``WorldState``; the model itself holds weights and settings only.

    Args:
        codec: frames to latents and back.
        unet: the denoising network; must be causal and read actions.
        frame_size: ``(h, w)`` in pixels.
        schedule: noise schedule.
        sampler: how a frame is sampled.

    Raises:
        ValueError: a network that is not causal or reads no actions, or does not fit the codec.
    """

    def __init__(
        self,
        codec: FrameCodec,
        unet: VideoUNet,
        frame_size: tuple[int, int],
        schedule: ScheduleConfig | None = None,
        sampler: SamplerConfig | None = None,
    ) -> None:
        if unet.config.latent_channels != codec.latent_channels:
            raise ValueError(
                f"codec makes {codec.latent_channels} latent channels, "
                f"network reads {unet.config.latent_channels}"
            )
        self.codec, self.unet = codec.eval(), unet.eval()
        self.frame_size = (int(frame_size[0]), int(frame_size[1]))
        self.dynamics = LatentDynamics(self.unet, schedule, sampler)
        self.action_dim, self.window = int(unet.config.action_dim), self.dynamics.window
        self._weights_hash = ""

    @property
    def device(self) -> torch.device:
        """Where the weights and the states live."""
        return self.codec.mean.device

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that name weights, schedule and sampler."""
        if not self._weights_hash:
            digest = hashlib.sha256()
            for part in (self.codec, self.unet):
                for name, tensor in sorted(part.state_dict().items()):
                    digest.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
            self._weights_hash = digest.hexdigest()
        settings = config_hash(self.dynamics.sampler.config) + config_hash(self.dynamics.diffusion.config)
        return hashlib.sha256((self._weights_hash + settings).encode()).hexdigest()[:12]

    @torch.no_grad()
    def init(self, frames: FramesLike, actions: Any, seeds: Sequence[int]) -> WorldState:
        """Begin episodes from context.

        Args:
            frames: ``(b, f, h, w, 3)`` uint8, RGB 0..255, at least one frame.
            actions: ``(b, f-1, a)`` in -1..1; action i moves frame i to frame i+1.
            seeds: one integer per slot, the key of all noise of its episode.

        Returns:
            The state whose newest frame is the last context frame.

        Raises:
            ValueError: shapes, dtypes or ranges that do not fit.
        """
        context = frames_to_tensor(frames, self.frame_size)
        if context.ndim != 5 or not context.shape[1] or len(seeds) != len(context):
            raise ValueError(
                "frames must be (b, f, h, w, 3) with one seed per slot, "
                f"got {tuple(context.shape)} and {len(seeds)} seeds"
            )
        batch, length = context.shape[:2]
        checked = check_action(actions, (batch, length - 1, self.action_dim))
        latents = self.codec.encode(context.flatten(0, 1).to(self.device)).unflatten(0, (batch, length))
        return self.dynamics.init(latents, torch.from_numpy(checked).to(self.device), seeds)

    def step(self, state: WorldState, action: Any) -> WorldState:
        """Imagine one frame more; ``state`` is left as it was.

        Args:
            state: from ``init`` or ``step``.
            action: ``(b, a)`` in -1..1.

        Raises:
            ValueError: shape or range of the action; before anything is computed.
        """
        checked = check_action(action, (len(state.seed), self.action_dim))
        return self.dynamics.step(state, torch.from_numpy(checked).to(self.device))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Latents ``(b, c, h, w)`` to frames ``(b, h, w, 3)`` uint8."""
        return self.codec.decode(latent)

    def save_pretrained(self, path: str | Path) -> None:
        """Write ``codec/``, ``unet/``, ``scheduler/`` and the model's part of ``world.json`` to ``path``."""
        folder = Path(path)
        self.codec.save_pretrained(folder / "codec")
        self.unet.save_pretrained(folder / "unet")
        for part in ("codec", "unet"):
            _forget_origin(folder / part / "config.json")
        (folder / "scheduler").mkdir(parents=True, exist_ok=True)
        schedule = json.dumps(to_dict(self.dynamics.diffusion.config), indent=2)
        (folder / "scheduler" / "scheduler_config.json").write_text(schedule + "\n")
        world = folder / "world.json"
        values = json.loads(world.read_text()) if world.exists() else {}
        values |= {
            "frame_size": list(self.frame_size),
            "window": self.window,
            "sampler": to_dict(self.dynamics.sampler.config),
        }
        world.write_text(json.dumps(values, indent=2) + "\n")

    @classmethod
    def from_pretrained(
        cls, path: str | Path, device: str | torch.device = "cpu", sampler: Mapping[str, Any] | None = None
    ) -> Vid2World:
        """Read a world folder, or download one by its hub id.

        Args:
            path: folder, or hub id ``owner/name``.
            device: where to put it.
            sampler: settings that replace those of ``world.json``; see ``SamplerConfig``.
        """
        folder = Path(path)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(str(path)))
        world = json.loads((folder / "world.json").read_text())
        model = cls(
            FrameCodec.from_pretrained(folder / "codec"),
            VideoUNet.from_pretrained(folder / "unet", low_cpu_mem_usage=False).float(),
            tuple(world["frame_size"]),
            load(ScheduleConfig, folder / "scheduler" / "scheduler_config.json"),
            from_dict(SamplerConfig, {**world.get("sampler", {}), **(sampler or {})}, "sampler"),
        )
        for parameter in (*model.codec.parameters(), *model.unet.parameters()):
            # off the mapped file: alignment decides which kernel runs
            parameter.data = parameter.data.clone()
        return model.to(device)

    def to(self, device: str | torch.device) -> Vid2World:
        """Move the weights; states made before stay where they were."""
        self.codec.to(device)
        self.unet.to(device)
        return self


def _forget_origin(path: Path) -> None:
    """Drop the path that diffusers loaded a model from: it says nothing of the model."""
    values = json.loads(path.read_text())
    values.pop("_name_or_path", None)
    path.write_text(json.dumps(values, indent=2) + "\n")
