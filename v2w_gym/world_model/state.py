"""The state of a batch of imagined episodes: everything there is, as a value."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDict, tensorclass

from v2w_gym.world_model.temporal import TemporalConv
from v2w_gym.world_model.unet import VideoUNet


@tensorclass
class WorldState:
    """One row per slot: index it, repeat rows, stack it, assign by mask, save it. Nothing else holds state.

    Attributes:
        latent: ``(b, c, h, w)`` float32, the newest frame.
        first: ``(b, c, h, w)`` float32, the first frame of the episode.
        frame_index: ``(b,)`` int64, index of the newest frame in its episode; the first context frame is 0.
        seed: ``(b,)`` int64, the noise key of the slot.
        latents: ``(b, window, c, h, w)`` float32, ring of the newest frames; frame t lives in place
            ``t % window``.
        actions: ``(b, window, a + k)`` float32, ring of what led *to* those frames (``actions.Leading``).
        cache: the temporal cache of every layer (``timeline.Stepping``). It ends one frame before the newest,
            which passes through the network together with its successor. Empty where nothing is kept.
        context: text and image tokens that the network reads, ``(b, n, d)``: "given", and "free" for the
            pass without the newest action. Empty for networks that read none.
    """

    latent: torch.Tensor
    first: torch.Tensor
    frame_index: torch.Tensor
    seed: torch.Tensor
    latents: torch.Tensor
    actions: torch.Tensor
    cache: TensorDict
    context: TensorDict

    @property
    def led(self) -> torch.Tensor:
        """``(b, a + k)``, what led to the newest frame."""
        rows = torch.arange(len(self.seed), device=self.seed.device)
        return self.actions[rows, self.frame_index % self.actions.shape[1]]


def with_seeds(state: WorldState, seeds: Sequence[int]) -> WorldState:
    """The same past, and noise keys of other episodes from here on; ``state`` is left as it was."""
    other: WorldState = state.clone()  # type: ignore[attr-defined]  # tensorclass adds it
    other.seed = torch.tensor(list(seeds), dtype=torch.int64, device=state.seed.device)
    return other


def empty_cache(unet: VideoUNet, batch: int, height: int, width: int, device: torch.device) -> TensorDict:
    """A cache that holds no frame: rings of -1, and zeros, which a convolution reads before frame 0.

    Features are kept in the dtype of the weights, in which they are computed.
    """
    window, cache = int(unet.config.window), TensorDict({}, batch_size=[batch], device=device)
    cache["frames"] = torch.full((batch, window), -1, dtype=torch.int64, device=device)
    sizes = unet.layer_sizes(height, width)
    for key, layer in unet.temporal_layers().items():
        channels, h, w = sizes[key]
        if isinstance(layer, TemporalConv):
            cache[key] = torch.zeros(batch, 2, h, w, channels, dtype=unet.dtype, device=device)
        else:
            ring = (batch, h * w, layer.heads, window, channels // layer.heads)
            empty = {name: torch.zeros(ring, dtype=unet.dtype, device=device) for name in ("keys", "values")}
            cache[key] = TensorDict(empty, batch_size=[batch])
    return cache
