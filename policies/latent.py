"""A policy that was trained on a world model's latents, as one that acts in reality: ``latent:FILE``.

The file holds the actor and the encoder of the world's codec, so that it acts on pixels and needs no world.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from torch import nn

from v2w_gym.config import from_dict, to_dict
from v2w_gym.policies.actor import Actor, ActorConfig
from v2w_gym.policies.stored import read_policy, write_policy
from v2w_gym.shapes import frames_to_tensor
from v2w_gym.weights import fill_strictly
from v2w_gym.world_model.codec import FrameCodec

KIND = "latent"


@dataclass(frozen=True)
class LatentConfig:
    """What a file needs beside its weights.

    Attributes:
        frame_size: ``(h, w)`` in pixels.
        latent_shape: ``(c, h, w)`` of a latent.
        action_dim: components of an action.
        actor: sizes of the actor.
        codec: constructor arguments of the codec's ``AutoencoderKL``.
    """

    frame_size: tuple[int, ...]
    latent_shape: tuple[int, ...]
    action_dim: int
    actor: ActorConfig
    codec: Mapping[str, Any] = field(default_factory=dict)


class LatentPolicy(nn.Module):
    """``pixels`` in, the actor's mean action out; no memory, no randomness.

    Args:
        actor: acts on latents.
        codec: makes latents of frames.
        frame_size: ``(h, w)`` in pixels.
    """

    def __init__(self, actor: Actor, codec: FrameCodec, frame_size: tuple[int, int]) -> None:
        super().__init__()
        self.actor, self.codec, self.frame_size = actor, codec, frame_size

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Nothing to forget."""

    @torch.no_grad()
    def act(self, observation: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Actions ``(b, a)`` float32 in -1..1 for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``.

        Raises:
            ValueError: frames of another size or dtype.
        """
        frames = frames_to_tensor(observation["pixels"], self.frame_size, "pixels")
        mean, _ = self.actor(self.codec.encode(frames.to(self.codec.mean.device)))
        actions: npt.NDArray[np.float32] = mean.cpu().numpy()
        return actions

    def save(self, path: str | Path, notes: Mapping[str, str] | None = None) -> None:
        """Write actor, encoder and config to one ``.safetensors`` file, weights in half precision.

        Args:
            path: the file.
            notes: anything to keep beside the config, e.g. how it was trained.
        """
        config = LatentConfig(
            frame_size=self.frame_size,
            latent_shape=self.actor.shape,
            action_dim=self.actor.action_dim,
            actor=self.actor.config,
            codec={k: v for k, v in self.codec.vae.config.items() if not k.startswith("_")},
        )
        weights = {name: value for name, value in self.state_dict().items() if not _is_decoder(name)}
        write_policy(path, weights, {"kind": KIND, "config": json.dumps(to_dict(config)), **(notes or {})})

    @classmethod
    def load(cls, path: str | Path) -> LatentPolicy:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a damaged or foreign file.
        """
        weights, metadata = read_policy(path)
        if metadata.get("kind") != KIND:
            raise ValueError(
                f"{path} holds no policy that acts on latents: its kind is {metadata.get('kind')!r}, "
                f"expected {KIND!r}; make one with: v2w imagine --config FILE --out FOLDER"
            )
        config = from_dict(LatentConfig, json.loads(metadata["config"]), where=f"config of {path}")
        vae = AutoencoderKL(**config.codec)
        vae.decoder = vae.post_quant_conv = nn.Identity()  # acting needs none
        actor = Actor(config.latent_shape, config.action_dim, config.actor)
        height, width = config.frame_size
        return fill_strictly(cls(actor, FrameCodec(vae), (height, width)), weights, path).eval()


def from_spec(spec: str) -> LatentPolicy:
    """The policy that ``latent:FILE.safetensors`` names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged or foreign file.
    """
    return LatentPolicy.load(spec.partition(":")[2])


def _is_decoder(name: str) -> bool:
    return name.startswith(("codec.vae.decoder.", "codec.vae.post_quant_conv."))
