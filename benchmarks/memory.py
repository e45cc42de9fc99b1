"""Memory of a slot: measured for the embedded world, derived from the shapes for the released sizes.

``python benchmarks/memory.py`` takes a minute. The released network runs on tensors that have shapes and no
contents, so neither its weights nor a large machine is needed; what it would allocate is counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tensordict import TensorDict
from torch._subclasses.fake_tensor import FakeTensorMode

from v2w_gym.envs.world import World
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.diffusion import Diffusion
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.footprint import measure, readable
from v2w_gym.world_model.network import Network
from v2w_gym.world_model.released.autoencoder import build
from v2w_gym.world_model.released.presets import PRESETS, shipped
from v2w_gym.world_model.released.sizes import Sizes, read_sizes
from v2w_gym.world_model.room import SlotMemory, state_bytes
from v2w_gym.world_model.sampler import Sampler, SamplerConfig
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.stream import Stream
from v2w_gym.world_model.timeline import clip
from v2w_gym.world_model.unet import VideoUNet
from v2w_gym.world_model.vid2world import Vid2World

GUIDED = 2  # the branches of guidance pass side by side


def embedded() -> SlotMemory:
    model = World.open("Vid2World-DrawerClose-v0").model()
    assert isinstance(model, Vid2World)
    return model.memory_per_slot()


def released(domain: str, dtype: torch.dtype) -> Iterator[tuple[str, SlotMemory]]:
    sizes = read_sizes(shipped(domain))
    with FakeTensorMode(), torch.no_grad():
        with _default(dtype):
            unet = VideoUNet(**{**sizes.unet, "temporal_norm": "frame"}).eval()
            codec = FrameCodec(build(sizes.autoencoder)).eval()
        state = _state(unet, sizes, dtype)
        decode = codec.decoding(state.latent).per_row
        config = SamplerConfig(steps=1, guidance_scale=2.5)
        stream = Stream(Network(unet), Sampler(Diffusion(), config))
        step = measure(lambda: stream.imagine(state, state.actions[:, 0]), unet.parameters()).per_row
        yield "stream", SlotMemory(state_bytes(state), step, decode)
        assert sizes.sampler is not None
        window = sizes.sampler.window or int(unet.config.window)
        step = measure(lambda: _pass(unet, state, window), unet.parameters()).per_row
        cache = state_bytes(state) - state_bytes(_without_cache(state))
        yield f"recompute, window {window}", SlotMemory(state_bytes(state) - cache, step, decode)


def _state(unet: VideoUNet, sizes: Sizes, dtype: torch.dtype) -> WorldState:
    (height, width), cells = sizes.frame_size, 2 ** (len(sizes.autoencoder.ddconfig.ch_mult) - 1)
    latents = torch.empty(1, 1, int(unet.config.latent_channels), height // cells, width // cells)
    made = sizes.resampler.num_queries * sizes.resampler.video_length
    tokens = torch.empty(1, int(unet.config.text_tokens) + made, sizes.resampler.output_dim, dtype=dtype)
    context = TensorDict({"given": tokens, "free": tokens.clone()}, batch_size=[1])
    dynamics = LatentDynamics(unet, sampler=SamplerConfig())
    return dynamics.init(latents, torch.empty(1, 0, int(unet.config.action_dim)), [0], context)


def _without_cache(state: WorldState) -> WorldState:
    other: WorldState = state.clone()  # type: ignore[attr-defined]  # tensorclass adds it
    other.cache = TensorDict({}, batch_size=[1])
    return other


def _pass(unet: VideoUNet, state: WorldState, window: int) -> torch.Tensor:
    """All frames of the window at once, as ``recompute.py`` has it."""

    def branches(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x] * GUIDED)

    levels = torch.zeros(GUIDED, window, dtype=torch.int64)
    latents, actions = branches(state.latents[:, :window]), branches(state.actions[:, :window])
    tokens = torch.cat([state.context["given"], state.context["free"]])
    axis = clip(window, int(unet.config.window))
    return Network(unet)(latents, levels, actions, levels == 0, branches(state.first), axis, tokens)


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domain", choices=list(PRESETS), default="rt1", help="of the released sizes")
    domain = parser.parse_args().domain
    print("| of a slot | state | at work in a step | at work in decoding |\n|---|---|---|---|")
    _print("embedded, fp32", embedded())
    for dtype, name in ((torch.bfloat16, "bf16"), (torch.float32, "fp32")):
        for history, takes in released(domain, dtype):
            _print(f"{PRESETS[domain].title}, {name}, {history}", takes)


def _print(name: str, takes: SlotMemory) -> None:
    figures = (takes.state_bytes, takes.step_bytes, takes.decode_bytes)
    print(" | ".join([f"| {name}", *map(readable, figures)]), "|", flush=True)


if __name__ == "__main__":
    main()
