"""Training: losses fall, a resumed run is the run that was never stopped, stages hand over to one another."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import numpy as np
import pytest
import torch
from torch import nn

from v2w_gym.config import load
from v2w_gym.data.episode import Episode, EpisodeFolder
from v2w_gym.training import stages
from v2w_gym.training.card import _stage
from v2w_gym.training.codec import CodecConfig, mean_errors
from v2w_gym.training.codec import train as train_codec
from v2w_gym.training.detector import HardFrames, Judged
from v2w_gym.training.latents import Clips, load_clips
from v2w_gym.training.lessons import Lesson, Lessons, imagine
from v2w_gym.training.loop import Loop, LoopConfig
from v2w_gym.training.optimizer import Kind, Optimizer
from v2w_gym.training.world_model import TwinLoss, VideoConfig, finetune, pretrain, start_weights
from v2w_gym.world_model.codec import FrameCodec
from v2w_gym.world_model.diffusion import ScheduleConfig
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.loading import read_module
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.unet import VideoUNet
from v2w_gym.world_model.vid2world import Vid2World

SCHEDULE = ScheduleConfig(num_train_timesteps=500)
SIZES = {
    "latent_channels": 4,
    "block_out_channels": (8, 16),
    "attention_head_dim": 8,
    "norm_num_groups": 4,
    "window": 4,
}


def episodes(folder: Path, count: int, with_actions: bool) -> str:
    """Films of a square that moves with the action."""
    folder.mkdir()
    for seed in range(count):
        rng = np.random.default_rng(seed)
        frames, x = np.full((9, 16, 16, 3), 80, dtype=np.uint8), 6
        actions = rng.choice([-1.0, 1.0], (8, 4)).astype(np.float32)
        for t in range(9):
            frames[t, 4:10, x : x + 5] = (250, 30, 30)
            x = int(np.clip(x + (actions[t, 0] if t < 8 else 0), 0, 11))
        flags = np.zeros(9, dtype=bool)
        episode = Episode(frames, actions if with_actions else None, flags, "square", "random", seed)
        episode.save(folder / f"{seed}.npz")
    return str(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """All stages, each for a handful of steps."""
    root = tmp_path_factory.mktemp("training")
    data = episodes(root / "data", 6, with_actions=True)
    videos = episodes(root / "videos", 6, with_actions=False)
    short = LoopConfig(steps=4, batch_size=2, warmup=1, sample_every=2, checkpoint_every=2)
    codec = CodecConfig((data,), (videos,), data, short, channels=(8, 8, 16), latent_channels=4)
    assert train_codec(codec, root / "codec")
    shared = {"heldout": data, "codec": str(root / "codec" / "codec"), "unet": SIZES, "loop": short}
    shared["schedule"] = SCHEDULE
    assert pretrain(VideoConfig(data=(videos,), clip_frames=6, **shared), root / "pretrain")
    init = str(root / "pretrain" / "unet")
    config = VideoConfig(data=(data,), init=init, own_history=0.5, **shared)
    assert finetune(config, root / "finetune")
    return root, {**shared, "data": (data,), "init": init}


def test_every_stage_leaves_something_to_look_at(trained: tuple[Path, dict[str, object]]) -> None:
    root, _ = trained
    for stage, kind in (("codec", "png"), ("pretrain", "mp4"), ("finetune", "mp4")):
        assert (root / stage / f"sample-000002.{kind}").stat().st_size > 0
        assert (root / stage / "checkpoint.pt").is_file()


def test_the_result_is_a_causal_world_model(trained: tuple[Path, dict[str, object]]) -> None:
    root, _ = trained
    unet = read_module(VideoUNet, root / "finetune" / "unet")
    assert unet.config.causal
    assert not read_module(VideoUNet, root / "pretrain" / "unet").config.causal
    assert load(ScheduleConfig, root / "finetune" / "scheduler" / "scheduler_config.json") == SCHEDULE
    Vid2World(FrameCodec.from_pretrained(root / "codec" / "codec"), unet, (16, 16))


def test_a_decoder_trained_alone_leaves_latents_as_they_are(
    trained: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    root, _ = trained
    data, videos, init = str(root / "data"), str(root / "videos"), str(root / "codec" / "codec")
    loop = LoopConfig(steps=3, batch_size=4, learning_rate=1e-2, warmup=1, ema=0.0)
    config = CodecConfig((data,), (videos,), data, loop, init=init, decoder_only=True)
    assert train_codec(config, tmp_path)
    before, after = FrameCodec.from_pretrained(init), FrameCodec.from_pretrained(tmp_path / "codec")
    frames = torch.from_numpy(EpisodeFolder(data)[0].frames)
    latents = before.encode(frames)
    assert torch.equal(after.encode(frames), latents)
    assert not torch.equal(after.decode(latents), before.decode(latents))
    with pytest.raises(ValueError, match="say init=FOLDER"):
        replace(config, init=None)


def test_a_shade_is_an_error_of_means_and_grain_is_not() -> None:
    shade = torch.full((1, 16, 16, 3), 0.1)
    grain = shade * torch.tensor([1.0, -1.0]).repeat(8)[None, None, :, None]
    for side in (4, 16):
        torch.testing.assert_close(mean_errors(shade, side), torch.full((1, 3, 16 // side, 16 // side), 0.1))
        assert mean_errors(grain, side).abs().max() < 1e-7


def test_fine_tuning_starts_from_transferred_weights(trained: tuple[Path, dict[str, object]]) -> None:
    root, settings = trained
    base = read_module(VideoUNet, root / "pretrain" / "unet").state_dict()
    start = start_weights(VideoConfig(**settings))[0].state_dict()
    key = next(k for k, v in base.items() if v.ndim == 5 and v.abs().max() > 0)
    before, now, after = base[key].unbind(2)
    expected = torch.stack([torch.zeros_like(now), before - after, now + 2 * after], 2)
    torch.testing.assert_close(start[key], expected)
    same = [k for k, v in base.items() if v.ndim != 5]
    assert all(torch.equal(base[k], start[k]) for k in same)


def test_pasts_are_imagined_as_is_said(trained: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    root, settings = trained
    loop = LoopConfig(steps=2, batch_size=2, learning_rate=1e-2, warmup=1)
    shared = {**settings, "loop": loop, "init": str(root / "finetune" / "unet"), "own_history": 1.0}
    learned, plain = [], SamplerConfig(steps=1)
    others = {"two": SamplerConfig(steps=2), "pairs": SamplerConfig(steps=1, first_noise="antithetic")}
    for out, sampler in {"one": plain, "again": plain, **others}.items():
        assert finetune(VideoConfig(**shared, own_sampler=sampler), tmp_path / out)
        weights = read_module(VideoUNet, tmp_path / out / "unet").state_dict()
        learned.append(torch.cat([w.flatten() for w in weights.values()]))
    assert torch.equal(learned[0], learned[1])
    assert not any(torch.equal(learned[0], other) for other in learned[2:])


def test_weights_that_do_not_fit_are_named(trained: tuple[Path, dict[str, object]]) -> None:
    _, settings = trained
    with pytest.raises(ValueError, match=r"does not fit config\.unet"):
        start_weights(VideoConfig(**{**settings, "unet": {**SIZES, "temporal_conv_layers": 3}}))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path: Path, optimizer: Kind) -> None:
    def run(out: str, *stops: int) -> torch.Tensor:
        for stop in stops:
            torch.manual_seed(0)
            network = nn.Linear(3, 1)
            config = LoopConfig(steps=20, batch_size=4, warmup=1, checkpoint_every=stop, optimizer=optimizer)
            loop = Loop(network, config, tmp_path / out)

            def batch(rng, size, loop=loop, stop=stop):
                if loop.step == stop and stop < 20:
                    raise KeyboardInterrupt
                return torch.from_numpy(rng.normal(size=(size, 3))).float()

            def loss(x, generator, network=network):
                noise = torch.randn(len(x), 1, generator=generator)
                return {"loss": (network(x) - x.sum(1, keepdim=True) - 0.1 * noise).square().mean()}

            try:
                loop.fit(batch, loss)
            except KeyboardInterrupt:
                continue
        return torch.cat([p.flatten() for p in network.parameters()])

    torch.testing.assert_close(run("whole", 20), run("stopped", 7, 20))


def test_the_card_counts_the_minutes_of_every_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("v2w_gym.training.loop.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(Loop, "_plot", lambda loop: None)
    for minutes, limit in ((1, 2.0), (4, 2.0), (1, 0.0)):  # a step's; 3 steps, then one, then the others
        config = LoopConfig(steps=60, batch_size=1, precision="fp32", max_minutes=limit)
        network = nn.Linear(1, 1)

        def batch(rng: np.random.Generator, size: int, minutes: int = minutes) -> torch.Tensor:
            clock.now += 60 * minutes
            return torch.ones(size, 1)

        def loss(
            x: torch.Tensor, _: torch.Generator, network: nn.Linear = network
        ) -> dict[str, torch.Tensor]:
            return {"loss": network(x).square().mean()}

        Loop(network, config, tmp_path).fit(batch, loss)
    (tmp_path / "legs.jsonl").write_text('{"episodes": {"data": 3}, "config": {"loop": {"seed": 7}}}\n')
    assert "| codec | data 3 | 7 | 60 | 63 |" in _stage("codec", tmp_path)
    older = [1, 2, 0.5, 3]  # the clock of each start alone
    lines = [json.dumps({"step": i, "minutes": m, "loss": 0.0}) for i, m in enumerate(older)]
    (tmp_path / "losses.jsonl").write_text("\n".join(lines))
    assert "| 3 | 5 |" in _stage("codec", tmp_path)


def test_muon_turns_every_matrix_by_the_same_amount_in_all_directions() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Linear(6, 5))
    before = [p.detach().clone() for p in network.parameters()]
    for p in network.parameters():
        p.grad = torch.randn_like(p)
    Optimizer(network, "muon", weight_decay=0.0).step(0.01)
    for p, old in zip(network.parameters(), before, strict=True):
        change = (p.detach() - old).reshape(len(p), -1)
        if p.ndim == 1:  # AdamW's first step
            torch.testing.assert_close(change.abs(), torch.full_like(change, 0.01), rtol=1e-3, atol=0)
            continue
        sizes = torch.linalg.svdvals(change)
        assert sizes.min() > 0.5 * sizes.max()
        assert change.square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.4)


def test_a_checkpoint_of_another_optimizer_is_refused() -> None:
    network = nn.Sequential(nn.Linear(3, 3))
    state = Optimizer(network, "adamw", 0.0).state_dict()
    with pytest.raises(ValueError, match=r"another loop\.optimizer"):
        Optimizer(network, "muon", 0.0).load_state_dict(state)


@pytest.mark.slow
def test_the_loss_falls_and_reads_the_action() -> None:
    torch.manual_seed(0)
    network = VideoUNet(**{**SIZES, "action_dim": 2})
    config = VideoConfig(data=(), heldout="", codec="", unet=SIZES, action_dropout=0.0)
    objective, generator = TwinLoss(network, config), torch.Generator().manual_seed(0)
    actions = torch.rand(8, 5, 2, generator=generator) * 2 - 1
    painted = actions[..., :1, None, None].expand(-1, -1, 4, 4, 4)
    latents = torch.cat([torch.zeros(8, 1, 4, 4, 4), painted], dim=1)
    lesson = Lesson(latents, actions, past=latents[:, :-1])
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = objective(lesson, generator)["one_step"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_own_pasts_are_what_the_model_imagines() -> None:
    torch.manual_seed(0)
    network = VideoUNet(**{**SIZES, "action_dim": 2})
    for parameter in network.parameters():  # layers that start at zero would hide the past
        torch.nn.init.normal_(parameter, std=0.1)
    dynamics = LatentDynamics(network, sampler=SamplerConfig(steps=1))
    clips = Clips(torch.randn(6, 7, 4, 4, 4), torch.rand(6, 6, 2) * 2 - 1)

    def draw(own: float, step: int = 0) -> Lesson:
        return Lessons(clips, lambda *given: imagine(dynamics, *given), own, every=3).draw(
            np.random.default_rng(2), 4, step
        )

    recorded, mixed, imagined = draw(0.0), draw(0.5), draw(1.0)
    assert torch.equal(recorded.past, recorded.latents[:, :-1])
    assert torch.equal(imagined.latents, recorded.latents)
    assert torch.equal(imagined.past[:, 0], recorded.latents[:, 0])
    own = [not torch.equal(row, other) for row, other in zip(mixed.past, recorded.past, strict=True)]
    assert 0 < sum(own) < 4
    assert torch.equal(draw(1.0).past, imagined.past)  # a function of generator and weights
    free = imagine(dynamics, clips, list(range(6)))
    assert free.shape == clips.latents.shape
    reached = imagine(dynamics, clips, list(range(6)), reach=torch.full((6,), 4))
    torch.testing.assert_close(reached[:, :4], free[:, :4])  # put right only when due
    assert torch.equal(reached[:, 4], clips.latents[:, 4])
    assert not torch.allclose(reached[:, 5], free[:, 5])


def test_lessons_last_until_the_next_draw() -> None:
    clips = Clips(torch.randn(50, 3, 4, 4, 4), torch.zeros(50, 2, 2))
    lessons = Lessons(clips, lambda given, *_: given.latents, own=0.5, every=3)
    one = [lessons.draw(np.random.default_rng(step), 2, step).latents for step in range(6)]
    late = [lessons.draw(np.random.default_rng(step), 2, step).latents for step in range(3, 6)]
    for straight, resumed in zip(one[3:], late, strict=True):
        assert torch.equal(straight, resumed)
    assert len({float(x.sum()) for x in one}) == 6
    with pytest.raises(ValueError, match="actions"):
        Lessons(Clips(clips.latents, None), lessons.roll, 0.5).draw(np.random.default_rng(0), 2, 0)


def test_lessons_may_begin_amid_an_episode() -> None:
    frames = torch.arange(9.0)[None, :, None, None, None].expand(20, -1, 1, 1, 1)
    clips = Clips(frames, torch.arange(8.0)[None, :, None].expand(20, -1, 2))
    begun = []
    for seed in range(20):
        lesson = Lessons(clips, lambda given, *_: given.latents, own=1.0, midway=0.5).draw(
            np.random.default_rng(seed), 2, 0
        )
        first = int(lesson.latents[0, 0])
        assert lesson.latents[:, :, 0, 0, 0].tolist() == [list(range(first, 9))] * 2
        assert lesson.actions[:, :, 0].tolist() == [list(range(first, 8))] * 2
        assert torch.equal(lesson.past, lesson.latents[:, :-1])
        begun.append(first)
    assert 0 < sum(first > 0 for first in begun) < 20
    assert max(begun) == 4  # half an episode is left at least


def test_latents_are_those_of_the_episodes_that_are_there(
    trained: tuple[Path, dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained[0] / "codec" / "codec"
    codec, folder = FrameCodec.from_pretrained(path), Path(episodes(tmp_path / "data", 2, with_actions=True))

    def stopped(content: object, file: Path) -> None:
        file.write_bytes(b"half a fi")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            load_clips([folder], codec, path)
    before = load_clips([folder], codec, path).latents
    assert torch.equal(load_clips([folder], codec, path).latents, before)
    old = Episode.load(folder / "0.npz")
    Episode(255 - old.frames, old.actions, old.success, "square", "other", 0).save(folder / "0.npz")
    os.utime(folder / "0.npz", (time.time() + 5,) * 2)
    after = load_clips([folder], codec, path).latents
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])


def test_hard_frames_survive_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Judged(np.zeros((2, 3, 4, 4, 3), np.uint8), np.array([[False, True, True], [False] * 3]))
    rows, path = np.arange(2), tmp_path / "hardness.npy"

    class Sure:
        def score(self, frames: np.ndarray) -> np.ndarray:
            return np.ones(len(frames), np.float32)

    HardFrames(judged, rows, 1, path).look(Sure())
    known = np.load(path)

    def stopped(file: BinaryIO, array: np.ndarray) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        HardFrames(judged, rows, 1, path).look(Sure())
    np.testing.assert_array_equal(np.load(path), known)
    HardFrames(judged, rows, 1, path)


def test_unknown_keys_and_stages_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: [x]\nvideos: [x]\nheldout: x\nchanels: [8]\n")
    with pytest.raises(ValueError, match="did you mean 'channels'"):
        stages.run("codec", path, tmp_path)
    with pytest.raises(ValueError, match="unknown stage"):
        stages.run("codex", path, tmp_path)
    with pytest.raises(ValueError, match="looks like"):
        stages.run("codec", path, tmp_path, ["steps"])


@pytest.mark.parametrize("name", ["codec", "pretrain", "finetune"])
def test_shipped_configs_are_valid(name: str) -> None:
    import importlib
    from importlib.resources import files

    import yaml

    from v2w_gym.config import from_dict

    module, config, _ = stages.STAGES[name]
    text = files("v2w_gym.configs").joinpath("drawer_close", f"{name}.yaml").read_text()
    from_dict(getattr(importlib.import_module(module), config), yaml.safe_load(text), name)
