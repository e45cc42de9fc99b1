"""Train the frame codec: ``v2w train codec``.

Reconstruction is an absolute error that weighs what moves (pixels far from the median frame) more than the
table; a small Kullback-Leibler term keeps latents smooth, so that small errors of the world model stay small
in pixels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from v2w_gym.data.frames import load_frames
from v2w_gym.training.loop import Loop, LoopConfig, Losses
from v2w_gym.training.pictures import save_grid
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.halves import running_in


@dataclass(frozen=True)
class CodecConfig:
    """What to train and on what.

    Attributes:
        data: episode folders of the task.
        videos: episode folders of other tasks, a seventh of each batch.
        heldout: episode folder for the figures in the card.
        patch: pixels folded into channels, along each side.
        channels: width of each level, finest first; every further level halves the resolution.
        latent_channels: channels of a latent.
        kl_weight: weight of the Kullback-Leibler term.
        moving_weight: how much more a pixel counts that moves.
        coarse_weight: of the errors of means over 4x4 and 16x16 pixels, beside that of pixels. A shade that
            many pixels share is small in each, and yet what a policy may go by.
        init: folder of a trained codec to start from, in place of random weights and the sizes above.
        decoder_only: train nothing but the way back to pixels: latents stay what they are, and a world model
            that was trained on them goes with the new codec as with the old.
    """

    data: tuple[str, ...]
    videos: tuple[str, ...]
    heldout: str
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=5000, batch_size=32))
    patch: int = 2
    channels: tuple[int, ...] = (32, 64, 128)
    latent_channels: int = 8
    kl_weight: float = 2e-4
    moving_weight: float = 4.0
    coarse_weight: float = 0.0
    init: str | None = None
    decoder_only: bool = False

    def __post_init__(self) -> None:
        if self.decoder_only and self.init is None:
            raise ValueError("decoder_only trains on the latents of a trained codec: say init=FOLDER")


def build(config: CodecConfig) -> FrameCodec:
    """The codec to train: ``config.init``, or one with random weights."""
    if config.init is not None:
        codec = FrameCodec.from_pretrained(config.init)
        codec.vae.encoder.requires_grad_(not config.decoder_only)
        return codec
    levels = len(config.channels)
    vae = AutoencoderKL(
        in_channels=3 * config.patch**2,
        out_channels=3 * config.patch**2,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=8,
        scaling_factor=1.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return FrameCodec(vae)


def train(config: CodecConfig, out: str | Path) -> bool:
    """Train (or go on training) a codec into ``out/codec``; returns True once all steps are done."""
    torch.manual_seed(config.loop.seed)
    out = Path(out)
    frames = [f.reshape(-1, *f.shape[2:]) for f in (load_frames(config.data), load_frames(config.videos))]
    heldout = torch.from_numpy(load_frames([config.heldout], limit=40))
    codec = build(config).train()
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loop = Loop(codec, config.loop, out)
    still = np.median(frames[0][:: max(1, len(frames[0]) // 400)], axis=0)
    usual = torch.from_numpy(frames[0][:: max(1, len(frames[0]) // 1000)])
    background = torch.from_numpy(still)[None].float().to(loop.device)

    def batch(rng: np.random.Generator, size: int) -> torch.Tensor:
        other = size // 7
        parts = [f[rng.integers(0, len(f), n)] for f, n in zip(frames, (size - other, other), strict=True)]
        return torch.from_numpy(np.concatenate(parts))

    def loss(batch: torch.Tensor, generator: torch.Generator) -> Losses:
        batch = batch.to(loop.device)
        with running_in(config.loop.precision, loop.device):
            x = codec.pixels(batch).contiguous(memory_format=torch.channels_last)
            posterior = codec.vae.encode(x).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(loop.device)
            y = codec.vae.decode((posterior.mean + posterior.std * noise).to(x.dtype)).sample
        moving = ((batch.float() - background).abs().amax(-1, keepdim=True) / 64).clamp(max=1.0)
        error = codec.unpatch(y.float()) - (batch.float() / 127.5 - 1.0)
        weight = 1.0 + config.moving_weight * moving
        reconstruction = ((error.abs() + 2.0 * error.square()) * weight).mean()
        shades = [mean_errors(error, side).abs().mean() for side in (4, 16)]
        coarse = torch.stack(shades).sum()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        total = reconstruction + config.coarse_weight * coarse + config.kl_weight * kl
        return {"loss": total, "mse": error.square().mean(), "coarse": coarse, "kl": kl}

    def sample(folder: Path, step: int) -> None:
        normalised = _normalised(codec, usual, config)
        shown = heldout[::5, ::4].flatten(0, 1)[:32]
        save_grid(
            folder / f"sample-{step:06d}.png", [shown, normalised.decode(normalised.encode(shown)).cpu()]
        )

    done = loop.fit(batch, loss, sample)
    if loop.rank == 0:
        loop.with_average(lambda: _finish(_normalised(codec, usual, config), heldout, out))
    return done


def mean_errors(error: torch.Tensor, side: int) -> torch.Tensor:
    """Errors ``(b, h, w, c)`` to their means over squares, ``(b, c, h / side, w / side)``, rounded up."""
    return functional.avg_pool2d(error.permute(0, 3, 1, 2), side, ceil_mode=True)


def _normalised(codec: FrameCodec, frames: torch.Tensor, config: CodecConfig) -> FrameCodec:
    """The same network with the mean and deviation of its latents of ``(n, h, w, 3)`` in its config."""
    if config.decoder_only:
        return FrameCodec(codec.vae).eval()
    with torch.no_grad():
        parts = [codec.vae.encode(codec.pixels(part)).latent_dist.mode() for part in frames.split(256)]
    raw = torch.cat(parts)
    codec.vae.register_to_config(
        latents_mean=raw.mean((0, 2, 3)).tolist(), latents_std=raw.std((0, 2, 3)).tolist()
    )
    return FrameCodec(codec.vae).eval()


def _finish(normalised: FrameCodec, heldout: torch.Tensor, out: Path) -> None:
    normalised.save_pretrained(out / "codec")
    flat = heldout.flatten(0, 1)
    error = normalised.decode(normalised.encode(flat)).cpu().float() - flat.float()
    psnr = 10 * torch.log10(255**2 / error.square().mean((1, 2, 3)))
    report = {
        "heldout_frames": len(flat),
        "psnr_mean_db": psnr.mean().item(),
        "psnr_min_db": psnr.min().item(),
    }
    (out / "codec_report.json").write_text(json.dumps(report, indent=2))
    print(report)
