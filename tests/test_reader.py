"""A reader of states learns to read, measures what it should, and adds that to fine-tuning."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from v2w_gym.data.episode import Episode, EpisodeFolder
from v2w_gym.training.codec import CodecConfig
from v2w_gym.training.codec import train as train_codec
from v2w_gym.training.lessons import Lesson
from v2w_gym.training.loop import LoopConfig
from v2w_gym.training.reader import ReaderConfig, StateReader, load_states, train
from v2w_gym.training.world_model import TwinLoss, VideoConfig
from v2w_gym.world_model.loading import read_module
from v2w_gym.world_model.unet import VideoUNet

SIZES = {
    "latent_channels": 4,
    "block_out_channels": (8, 16),
    "attention_head_dim": 8,
    "norm_num_groups": 4,
    "window": 4,
    "action_dim": 2,
}


def film(seed: int, with_states: bool = True) -> Episode:
    """A square that jumps about; where it is, in pixels from the left, is the second state of three."""
    rng = np.random.default_rng(seed)
    frames, x = np.full((9, 16, 16, 3), 80, np.uint8), rng.integers(0, 12, 9)
    for t in range(9):
        frames[t, 4:10, x[t] : x[t] + 5] = (250, 30, 30)
    states = np.stack([np.full(9, 7.0), x, rng.normal(size=9)], axis=1).astype(np.float32)
    actions = rng.uniform(-1, 1, (8, 2)).astype(np.float32)
    return Episode(frames, actions, np.zeros(9, bool), "t", "b", seed, states if with_states else None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """Episodes to learn from, held-out ones and a codec."""
    root = tmp_path_factory.mktemp("reader")
    for name, count, first in (("data", 24, 0), ("heldout", 4, 100)):
        (root / name).mkdir()
        for i in range(count):
            film(first + i).save(root / name / f"{i:02d}.npz")
    data, heldout = str(root / "data"), str(root / "heldout")
    short = LoopConfig(steps=60, batch_size=16, learning_rate=3e-3, warmup=5, ema=0.9, precision="fp32")
    codec = CodecConfig((data,), (data,), heldout, short, channels=(8, 8, 16), latent_channels=4)
    assert train_codec(codec, root / "codec")
    return data, heldout, str(root / "codec" / "codec")


def config(folders: tuple[str, str, str], steps: int = 150) -> ReaderConfig:
    data, heldout, codec = folders
    loop = LoopConfig(steps, 64, learning_rate=3e-3, warmup=10, ema=0.9, precision="fp32")
    return ReaderConfig((data,), heldout, codec, (1,), (16, 16), hidden=32, noise=0.02, loop=loop)


def test_a_reader_learns_to_read_and_says_how_well(folders, tmp_path, capsys) -> None:
    assert train(config(folders), tmp_path)
    said = capsys.readouterr().out
    error = float(said.split("mean absolute error, held out: ")[1])
    spread = load_states([folders[1]], (1,)).std().item()
    assert error < 0.3 * spread
    reader = read_module(StateReader, tmp_path / "reader")
    assert reader.mean.item() == pytest.approx(load_states([folders[0]], (1,)).mean().item())


def test_what_cannot_be_read_is_refused(folders, tmp_path) -> None:
    with pytest.raises(ValueError, match="has 3 states, columns asks for"):
        train(replace(config(folders), columns=(0, 3)), tmp_path)
    (tmp_path / "blind").mkdir()
    film(0, with_states=False).save(tmp_path / "blind" / "0.npz")
    with pytest.raises(ValueError, match=r"0\.npz holds no states.*reader=null"):
        load_states([tmp_path / "blind"])


def test_states_of_another_length_are_refused() -> None:
    episode = film(0)
    assert episode.states is not None
    for states in (episode.states[1:], episode.states[:, 0], episode.states * np.nan):
        with pytest.raises(ValueError, match="states"):
            replace(episode, states=states)


def test_recordings_keep_their_states(tmp_path: Path) -> None:
    film(1).save(tmp_path / "0.npz")
    film(2, with_states=False).save(tmp_path / "1.npz")
    known, unknown = EpisodeFolder(tmp_path)
    np.testing.assert_array_equal(known.states, film(1).states)
    assert unknown.states is None


@pytest.fixture
def reader() -> StateReader:
    torch.manual_seed(0)
    return StateReader(4, (4, 4), 3, channels=(8, 8), hidden=16).eval()


def test_the_distance_is_square_at_first_then_linear_and_pulls_at_one_side(reader: StateReader) -> None:
    x, y = torch.randn(2, 4, 4, 4, requires_grad=True), torch.randn(2, 4, 4, 4, requires_grad=True)
    assert (reader.apart(x, x, 0.1) == 0).all()
    off = (reader(x) - reader(y)).abs()
    torch.testing.assert_close(reader.apart(x, y, 1e3), (off / 1e3).square().mean(1) / 2, rtol=0.1, atol=1e-7)
    torch.testing.assert_close(reader.apart(x, y, 1e-4), (off / 1e-4).mean(1) - 1.0, rtol=1e-3, atol=1e-2)
    reader.apart(x, y, 0.1).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert y.grad is None


def losses(reader: StateReader | None, weight: float = 0.5) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    network = VideoUNet(**SIZES)
    for parameter in network.parameters():  # some begin at zero
        torch.nn.init.normal_(parameter, std=0.1)
    latents, actions = torch.randn(3, 6, 4, 4, 4), torch.rand(3, 5, 2) * 2 - 1
    settings = VideoConfig((), "", "", reader_weight=weight)
    objective = TwinLoss(network, settings, reader)
    return objective(Lesson(latents, actions, latents[:, :-1]), torch.Generator().manual_seed(0))


def test_a_reader_adds_its_error_and_changes_nothing_else(reader: StateReader) -> None:
    plain, read = losses(None), losses(reader)
    assert plain.keys() == {"loss", "one_step"}
    assert torch.equal(plain["loss"], read["latent"])
    assert torch.equal(plain["one_step"], read["one_step"])
    torch.testing.assert_close(read["loss"], read["latent"] + 0.5 * read["state"])
    assert torch.equal(losses(reader, 0.0)["loss"], plain["loss"])
    read["loss"].backward()
    assert all(parameter.grad is None for parameter in reader.parameters())
