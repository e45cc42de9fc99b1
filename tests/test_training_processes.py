"""Several processes train one network: gradients averaged, weights alike, whatever the memory format."""

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import multiprocessing, nn

from v2w_gym.training.loop import Loop, LoopConfig

STEPS = 3


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 2, 3))
    return made.to(memory_format=torch.channels_last)  # whose gradients no flat view fits


def pictures(step: int, rank: int) -> torch.Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(10 * step + rank))


def train(rank: int, ranks: int, port: int, out: str) -> None:
    """One process of ``ranks``; a lone one draws what both would and averages itself."""
    if ranks > 1:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), **address}
    trained = network()
    config = LoopConfig(STEPS, 4, learning_rate=1e-2, warmup=1, precision="fp32", threads=1, device="cpu")
    loop = Loop(trained, config, Path(out) / str(ranks))

    def batch(*_: object) -> list[torch.Tensor]:
        return [pictures(loop.step, r) for r in ([rank] if ranks > 1 else [0, 1])]

    def loss(x: list[torch.Tensor], _: torch.Generator) -> dict[str, torch.Tensor]:
        return {"loss": torch.stack([trained(part).square().mean() for part in x]).mean()}

    assert loop.fit(batch, loss)
    torch.save(trained.state_dict(), Path(out) / f"{ranks}-{rank}.pt")


@pytest.mark.slow  # two processes import torch
def test_two_processes_train_as_one_does_on_both_batches(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(train, args=(2, port, str(tmp_path)), nprocs=2)
    train(0, 1, port, str(tmp_path))
    first, second, alone = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("2-0", "2-1", "1-0")
    )
    begin = network().state_dict()
    for key in begin:
        assert torch.equal(first[key], second[key])
        torch.testing.assert_close(first[key], alone[key], rtol=1e-4, atol=1e-6)
        assert not torch.equal(first[key], begin[key])
