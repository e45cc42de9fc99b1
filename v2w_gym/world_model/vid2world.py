"""The world model put together: codec, network, schedule, sampler behind ``init``, ``step``, ``decode``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tensordict import TensorDict

from v2w_gym.config import config_hash, from_dict, load, to_dict
from v2w_gym.shapes import FramesLike, action_tensor, frames_to_tensor
from v2w_gym.world_model.codec import MOST, FrameCodec
from v2w_gym.world_model.diffusion import ScheduleConfig
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.halves import running_in
from v2w_gym.world_model.loading import SCHEDULE, read_module
from v2w_gym.world_model.parts import Chunks
from v2w_gym.world_model.released.source import located
from v2w_gym.world_model.room import SlotMemory, state_bytes
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.unet import VideoUNet

if TYPE_CHECKING:
    from v2w_gym.world_model.released.conditioner import Conditioner


class Vid2World:
    """A strictly causal action-conditioned video-diffusion world model (arXiv 2505.14357).

    Three pure functions over a ``WorldState``; the model itself holds weights and settings only.

    Args:
        codec: frames to latents and back.
        unet: the denoising network; must be causal and read actions.
        frame_size: ``(h, w)`` in pixels.
        schedule: noise schedule.
        sampler: how a frame is sampled.
        conditioner: frame to the tokens that the network reads; None for networks that read none.
        action_bound: actions lie in -bound..bound; None leaves their range to the environment.

    Raises:
        ValueError: a network that is not causal or reads no actions, or parts that do not fit each other.
    """

    def __init__(
        self,
        codec: FrameCodec,
        unet: VideoUNet,
        frame_size: tuple[int, int],
        schedule: ScheduleConfig | None = None,
        sampler: SamplerConfig | None = None,
        conditioner: Conditioner | None = None,
        action_bound: float | None = 1.0,
    ) -> None:
        if (conditioner is None) != (unet.config.cross_attention_dim == 0):
            raise ValueError(
                f"a network with cross_attention_dim {unet.config.cross_attention_dim} "
                f"{'needs a' if conditioner is None else 'takes no'} conditioner"
            )
        if unet.config.latent_channels != codec.latent_channels:
            raise ValueError(
                f"codec makes {codec.latent_channels} latent channels, "
                f"network reads {unet.config.latent_channels}"
            )
        self.codec, self.unet, self.conditioner = codec.eval(), unet.eval(), conditioner
        self.frame_size = (int(frame_size[0]), int(frame_size[1]))
        self.dynamics = LatentDynamics(self.unet, schedule, sampler, rebuild=self._rebuild)
        self.action_bound = action_bound
        self.action_dim, self.window = int(unet.config.action_dim), self.dynamics.window
        self._hash, self._state_bytes = "", 0
        self._chunks = Chunks(MOST)

    @property
    def device(self) -> torch.device:
        """Where the weights and the states live."""
        return self.codec.mean.device

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that name weights, schedule and sampler."""
        if not self._hash:
            digest = hashlib.sha256()
            for part in self.parts().values():
                for name, tensor in sorted(part.state_dict().items()):
                    digest.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
            for settings in (self.dynamics.sampler.config, self.dynamics.diffusion.config):
                digest.update(config_hash(settings).encode())
            self._hash = digest.hexdigest()[:12]
        return self._hash

    @torch.no_grad()
    def init(self, frames: FramesLike, actions: Any, seeds: Sequence[int]) -> WorldState:
        """Begin episodes from context.

        Args:
            frames: ``(b, f, h, w, 3)`` uint8, RGB 0..255, at least one frame.
            actions: ``(b, f-1, a)`` within ``action_bound``; action i moves frame i to frame i+1.
            seeds: one integer per slot, the key of all noise of its episode.

        Returns:
            The state whose newest frame is the last context frame.

        Raises:
            ValueError: shapes, dtypes or ranges that do not fit.
            MemoryError: more slots than fit into memory; before their states are made.
        """
        context = frames_to_tensor(frames, self.frame_size)
        if context.ndim != 5 or not context.shape[1] or len(seeds) != len(context):
            raise ValueError(
                "frames must be (b, f, h, w, 3) with one seed per slot, "
                f"got {tuple(context.shape)} and {len(seeds)} seeds"
            )
        batch, length = context.shape[:2]
        checked = self._checked(actions, (batch, length - 1))
        if batch > 1:
            pixels_bytes = 2 * 4 * context.numel()  # as float32, and a copy on the way
            self.dynamics.room.admit(batch, self._bytes_of_state(), pixels_bytes, self.device)
        pixels = self.codec.pixels(context.flatten(0, 1).to(self.device))
        index = torch.arange(length, device=self.device).expand(batch, -1)
        keys = torch.tensor(np.asarray(seeds, dtype=np.int64), device=self.device)
        latents = self._encode(pixels, keys, index)
        return self.dynamics.init(latents, checked, seeds, self._context(pixels[::length], latents[:, 0]))

    def step(self, state: WorldState, action: Any) -> WorldState:
        """Imagine one frame more; ``state`` is left as it was.

        Args:
            state: from ``init`` or ``step``.
            action: ``(b, a)`` within ``action_bound``; a tensor is checked on this device, ``shapes.Checked``
                for its shape alone.

        Raises:
            ValueError: shape or range of the action; before anything is computed.
            MemoryError: see ``LatentDynamics.step``; ``state`` is left as it was then, too.
        """
        return self.dynamics.step(state, self._checked(action, (len(state.seed),)))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Latents ``(b, c, h, w)`` to frames ``(b, h, w, 3)`` uint8."""
        with self._precision():
            return self.codec.decode(latent)

    def memory_per_slot(self) -> SlotMemory:
        """Bytes that each further episode of a batch takes, measured on one with a full window.

        The first call imagines a frame. A batch takes a little more than the sum: a pass has some buffers for
        all slots, and the C library's heap gets gaps (``parts.OVERHEAD``).
        """
        slot = self._blank()
        slot.frame_index = slot.frame_index + self.window
        size, need = self.dynamics.room.need(slot)
        with self._precision():
            return SlotMemory(size, need.per_row, self.codec.decoding(slot.latent).per_row)

    def _precision(self) -> torch.autocast:
        return running_in(self.dynamics.sampler.config.precision, self.device)

    def _blank(self) -> WorldState:
        """One slot that begins with a black frame."""
        frames = np.zeros((1, 1, *self.frame_size, 3), np.uint8)
        return self.init(frames, np.zeros((1, 0, self.action_dim)), [0])

    def _bytes_of_state(self) -> int:
        self._state_bytes = self._state_bytes or state_bytes(self._blank())
        return self._state_bytes

    def _checked(self, actions: Any, shape: tuple[int, ...]) -> torch.Tensor:
        bound = np.inf if self.action_bound is None else self.action_bound
        return action_tensor(actions, (*shape, self.action_dim), -bound, bound, self.device)

    def _encode(self, pixels: torch.Tensor, seeds: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Frames ``(b f)`` as ``codec.pixels`` gives them, of numbers ``index`` ``(b, f)``, to latents."""
        drawn = None
        if self.dynamics.sampler.config.sample_posterior:
            shape = (self.codec.latent_channels, *(side // self.codec.reduction for side in self.frame_size))
            drawn = self.dynamics.sampler.noise(shape, seeds, index, "encode").flatten(0, 1)
        latents = self.codec.encode_pixels(pixels, drawn)
        return latents.reshape(*index.shape, *latents.shape[1:])

    def _context(self, pixels: torch.Tensor, latent: torch.Tensor) -> TensorDict:
        """What the network reads beside frames and actions, from the first frame and its latent.

        Without the newest action it reads the first frame as the codec gives it back, as in the public code.
        """
        context = TensorDict({}, batch_size=[len(latent)], device=latent.device)
        conditioner = self.conditioner
        if conditioner is not None:

            def tokens(x: torch.Tensor) -> torch.Tensor:
                return self._chunks.apply("tokens", lambda part: conditioner(x[part]), x)

            context["given"], context["free"] = tokens(pixels), tokens(self.codec.decode_pixels(latent))
        return context

    def _rebuild(
        self, latents: torch.Tensor, seeds: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, TensorDict]:
        """See ``recompute.Rebuild``."""
        pixels = self.codec.decode_pixels(latents.flatten(0, 1)).clamp(-1, 1)
        anew = self._encode(pixels, seeds, index)
        return anew, self._context(pixels[:: index.shape[1]], anew[:, 0])

    def parts(self) -> dict[str, FrameCodec | VideoUNet | Conditioner]:
        """By the names of their folders."""
        parts: dict[str, FrameCodec | VideoUNet | Conditioner] = {"codec": self.codec, "unet": self.unet}
        return parts if self.conditioner is None else parts | {"conditioner": self.conditioner}

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder for each part, ``scheduler/`` and the model's part of ``world.json`` to ``path``."""
        for name in self.parts():
            self.save_part(name, Path(path))
        self.save_settings(path)

    def save_part(self, name: str, path: str | Path) -> None:
        """Write the folder of one of the ``parts``."""
        folder = Path(path) / name
        self.parts()[name].save_pretrained(folder)
        if name != "conditioner":
            _forget_origin(folder / "config.json")

    def save_settings(self, path: str | Path) -> None:
        """Write what ``save_pretrained`` writes beside the parts."""
        folder = Path(path)
        (folder / SCHEDULE).parent.mkdir(parents=True, exist_ok=True)
        (folder / SCHEDULE).write_text(json.dumps(to_dict(self.dynamics.diffusion.config), indent=2) + "\n")
        world = folder / "world.json"
        values = json.loads(world.read_text()) if world.exists() else {}
        values |= {
            "frame_size": list(self.frame_size),
            "window": int(self.unet.config.window),
            "action_bound": self.action_bound,
            "sampler": to_dict(self.dynamics.sampler.config),
        }
        world.write_text(json.dumps(values, indent=2) + "\n")

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: str | torch.device = "cpu",
        sampler: Mapping[str, Any] | None = None,
        *,
        config: str | Path | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Vid2World:
        """Read a world folder, or a checkpoint as its authors released it, which is converted once.

        Args:
            path: folder, hub id ``owner/name``, or a checkpoint file.
            device: where to put it.
            sampler: settings that replace those of ``world.json``; see ``SamplerConfig``.
            config: sizes of a checkpoint file, as the released yaml names them; None takes a ``config.json``
                or ``config.yaml`` of such sizes beside it, else the released ones.
            dtype: of the weights; each tensor is cast as it is read.
        """
        folder = located(path, config)
        world = json.loads((folder / "world.json").read_text())
        settings = from_dict(SamplerConfig, {**world.get("sampler", {}), **(sampler or {})}, "sampler")
        statistics = {"temporal_norm": "frame"} if settings.history == "stream" else {}
        conditioner = None
        if (folder / "conditioner").is_dir():
            from v2w_gym.world_model.released.conditioner import Conditioner

            conditioner = Conditioner.from_pretrained(folder / "conditioner", dtype)
        model = cls(
            FrameCodec.from_pretrained(folder / "codec", dtype),
            read_module(VideoUNet, folder / "unet", dtype, **statistics),
            tuple(world["frame_size"]),
            load(ScheduleConfig, folder / SCHEDULE),
            settings,
            conditioner,
            world.get("action_bound", 1.0),
        )
        channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in model.unet.parameters():
            if parameter.ndim in channels_last:  # as activations are, else they are reordered at every call
                parameter.data = parameter.data.contiguous(memory_format=channels_last[parameter.ndim])
        return model.to(device)

    def to(self, device: str | torch.device) -> Vid2World:
        """Move the weights; states made before stay where they were."""
        for part in self.parts().values():
            part.to(device)
        return self


def _forget_origin(path: Path) -> None:
    """Drop the path that diffusers loaded a model from: it says nothing of the model."""
    values = json.loads(path.read_text())
    values.pop("_name_or_path", None)
    path.write_text(json.dumps(values, indent=2) + "\n")
