"""Teach a world what to believe of itself: ``v2w credibility fit``; see ``world_model.credibility``.

Familiarity is learned from frames of the training data against the same frames made strange. What error to
expect is learned by replaying episodes that the world model never saw, and turned into a probability on a
part of them that was not learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tqdm import tqdm

from v2w_gym.data.episode import Episode, EpisodeFolder, FrameArray
from v2w_gym.envs.world import World
from v2w_gym.training.calibration import fit_calibration
from v2w_gym.training.strange import STRANGE, Change, slight
from v2w_gym.world_model.credibility import Credibility, CredibilityConfig, Judge
from v2w_gym.world_model.signals import Signals
from v2w_gym.world_model.vid2world import Vid2World

_BATCH = 32  # episodes replayed together
_PER_EPISODE = 6  # frames of an episode: the first, and some others


@dataclass(frozen=True)
class FitConfig:
    """What to learn from, and how.

    Attributes:
        data: folders of episodes that the world model was trained on; their frames are the familiar ones.
        calibration: folder of episodes that it was not trained on; they are replayed.
        pictures: how many frames of ``data`` to look at.
        episodes: how many episodes to replay; every fourth calibrates.
        tolerance: root mean square error, in grey levels, up to which an imagined frame is right.
        credible_from: mean credibility below which nothing should be concluded from an episode.
        steps: of training, for each of the two small networks.
        seed: of everything random.
    """

    data: tuple[str, ...]
    calibration: str
    pictures: int = 6000
    episodes: int = 256
    tolerance: float = 16.0
    credible_from: float = 0.5
    steps: int = 1500
    seed: int = 0

    def __post_init__(self) -> None:
        if Path(self.calibration).resolve() in [Path(folder).resolve() for folder in self.data]:
            raise ValueError(
                f"{self.calibration} is among the data that the world was trained on, where its errors are "
                "smaller than elsewhere; calibrate on other episodes"
            )


@dataclass(frozen=True)
class Replayed:
    """Steps of replayed episodes, the given frame among them.

    Attributes:
        signals: ``(n, f, signal_count)``.
        log_error: ``(n, f)``, logarithm of the mean square error of each frame in grey levels.
    """

    signals: torch.Tensor
    log_error: torch.Tensor


def fit(world: World, config: FitConfig) -> Credibility:
    """Learn what to believe of ``world``.

    Raises:
        FileNotFoundError: a folder without episodes.
        ValueError: too few frames or episodes, or episodes without actions.
    """
    model = world.model()
    if not isinstance(model, Vid2World):
        raise ValueError(f"credibility reads the states of a Vid2World, got a {type(model).__name__}")
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    frames = _pictures(config, rng)
    latents = model.codec.encode(torch.from_numpy(frames))
    axes = Signals.along(latents, CredibilityConfig.leading, CredibilityConfig.axes)
    made = Credibility(
        CredibilityConfig(
            latent_shape=tuple(latents.shape[1:]),
            action_dim=model.action_dim,
            axes=len(axes[1]),
            tolerance=config.tolerance,
            credible_from=config.credible_from,
            weights=weights_of(world),
        )
    )
    made.signals.centre, made.signals.axes = (part.half().float() for part in axes)  # as they will be stored
    _learn_familiar(made, model, frames, latents, config, rng)
    _learn_error(made, replayed(model, made.signals, _episodes(config)), config)
    return made.eval()


def weights_of(world: World) -> dict[str, str]:
    """The files that a credibility of ``world`` is made for, with their hashes."""
    hashes = world.config.hashes
    return {name: hashes[name] for name in hashes if name.split("/")[0] in ("codec", "unet")}


def _pictures(config: FitConfig, rng: np.random.Generator) -> FrameArray:
    """Frames ``(n, h, w, 3)``, as many of each folder as its share of episodes; first frames are a sixth."""
    files = [file for folder in config.data for file in EpisodeFolder(folder).files]
    chosen = rng.permutation(len(files))[: max(config.pictures // _PER_EPISODE, 1)]
    frames = []
    for i in tqdm(chosen, desc="pictures", unit="ep"):
        recorded = Episode.load(files[i]).frames
        others = 1 + rng.permutation(len(recorded) - 1)[: _PER_EPISODE - 1]
        frames.append(recorded[[0, *others]])
    return np.concatenate(frames)


def _episodes(config: FitConfig) -> list[Episode]:
    folder = EpisodeFolder(config.calibration, config.episodes)
    if len(folder) < 8:
        raise ValueError(
            f"{config.calibration} has {len(folder)} episodes, too few to calibrate on; record more: "
            f"v2w record --out {config.calibration} --episodes 256 --first-seed 920000"
        )
    return list(folder)


def _learn_familiar(
    made: Credibility,
    model: Vid2World,
    frames: FrameArray,
    latents: torch.Tensor,
    config: FitConfig,
    rng: np.random.Generator,
) -> None:
    def looks(change: Change) -> torch.Tensor:
        changed = np.stack([change(frame, rng) for frame in frames[::2]])
        return made.signals.look(model.codec.encode(torch.from_numpy(changed)))

    usual = torch.cat([made.signals.look(latents), looks(slight)])
    strange = torch.cat([looks(change) for change in tqdm(STRANGE, desc="strange pictures")])
    made.familiar.standardise(usual)
    made.limit = usual[:, -1].max() + 1.0
    draw = torch.Generator().manual_seed(config.seed)

    def loss() -> torch.Tensor:
        rows = [part[torch.randint(len(part), (256,), generator=draw)] for part in (usual, strange)]
        truth = torch.cat([torch.ones(256), torch.zeros(256)])
        return F.binary_cross_entropy_with_logits(made.familiar(torch.cat(rows)), truth)

    _train(made.familiar, loss, config.steps)


def _learn_error(made: Credibility, steps: Replayed, config: FitConfig) -> None:
    calibrates = torch.arange(len(steps.signals)) % 4 == 0
    x, y = steps.signals[~calibrates].flatten(0, 1), steps.log_error[~calibrates].flatten()
    made.error.standardise(x)
    torch.nn.init.constant_(made.error.last.bias, float(y.mean()))  # which is far from zero
    draw = torch.Generator().manual_seed(config.seed)

    def loss() -> torch.Tensor:
        rows = torch.randint(len(x), (512,), generator=draw)
        return F.mse_loss(made.error(x[rows]), y[rows])

    _train(made.error, loss, config.steps)
    with torch.no_grad():
        expected = made.error(steps.signals[calibrates].flatten(0, 1)).numpy()
    least = 2 * np.log(config.tolerance)
    right = (steps.log_error[calibrates].flatten() <= least).numpy()
    if right.all() or not right.any():
        middle = float(steps.log_error.median().div(2).exp())
        raise ValueError(
            f"{'every' if right.all() else 'no'} frame of the calibration lies within the tolerance of "
            f"{config.tolerance:g} grey levels, so there is nothing to learn; the middle error is "
            f"{middle:.1f}: --tolerance {middle:.0f}"
        )
    temperature, shift = fit_calibration(least - expected, right)
    made.config = replace(made.config, slope=1 / temperature, shift=shift)


def _train(judge: Judge, loss: Callable[[], torch.Tensor], steps: int) -> None:
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def replayed(model: Vid2World, signals: Signals, episodes: Sequence[Episode]) -> Replayed:
    """Imagine every episode from its first frame and its actions, and hold each frame against the recorded.

    Raises:
        ValueError: an episode without actions.
    """
    seen: list[torch.Tensor] = []
    errors: list[torch.Tensor] = []
    for begin in tqdm(range(0, len(episodes), _BATCH), desc="replay", unit="batch"):
        batch = episodes[begin : begin + _BATCH]
        frames = np.stack([episode.frames for episode in batch])
        actions = np.stack([_actions(episode) for episode in batch])
        state = model.init(frames[:, :1], actions[:, :0], [episode.seed for episode in batch])
        steps = torch.zeros(len(batch), dtype=torch.int64)
        found = [(signals(state, steps), _log_error(model, state.latent, frames[:, 0]))]
        for t in range(actions.shape[1]):
            state = model.step(state, actions[:, t])
            found.append((signals(state, steps + t + 1), _log_error(model, state.latent, frames[:, t + 1])))
        seen.append(torch.stack([one for one, _ in found], dim=1))
        errors.append(torch.stack([one for _, one in found], dim=1))
    return Replayed(torch.cat(seen), torch.cat(errors))


def _log_error(model: Vid2World, latent: torch.Tensor, frames: FrameArray) -> torch.Tensor:
    difference = model.decode(latent).float() - torch.from_numpy(frames).float()
    return difference.square().mean(dim=(1, 2, 3)).clamp(min=1e-2).log()


def _actions(episode: Episode) -> npt.NDArray[np.float32]:
    if episode.actions is None:
        raise ValueError(f"the episode with seed {episode.seed} has no actions, so it cannot be replayed")
    return episode.actions
