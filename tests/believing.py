"""Recordings of a plain scene, and a tiny world that is taught from them how far it can be believed."""

import numpy as np

from v2w_gym.data.episode import Episode
from v2w_gym.training.credibility import FitConfig, fit


def scenes(count, seed=0, size=48):
    """Pictures ``(count, size, size, 3)`` of a small bright block somewhere before one smooth background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    pictures = np.stack([60 + 60 * x, 90 + 0 * x, 150 - 60 * y], axis=-1)[None].repeat(count, 0)
    for picture in pictures:
        top, left = rng.integers(4, size - 12, 2)
        picture[top : top + 8, left : left + 8] = (230, 220, 40)
    return pictures.astype(np.uint8)


def noise(count, seed=0, size=48):
    """Pictures of nothing."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def filmed(folder, count, length=6):
    """Episodes of scenes, which have nothing to do with their actions."""
    folder.mkdir()
    for i in range(count):
        actions = np.zeros((length, 4), np.float32)
        episode = Episode(scenes(length + 1, i), actions, np.zeros(length + 1, bool), "tiny", "still", i)
        episode.save(folder / f"{i:03d}.npz")
    return folder


def recordings(world, folder, first, length, seed=0):
    """Episodes that ``world`` imagines from the pictures ``first``, as if they had been recorded."""
    rng, model = np.random.default_rng(seed), world.model()
    folder.mkdir()
    actions = rng.uniform(-1, 1, (len(first), length, 4)).astype(np.float32)
    state, films = model.init(first[:, None], actions[:, :0], range(len(first))), [first]
    for t in range(length):
        state = model.step(state, actions[:, t])
        films.append(model.decode(state.latent).numpy())
    for i, frames in enumerate(np.stack(films, axis=1)):
        episode = Episode(frames, actions[i], np.zeros(length + 1, bool), "tiny", "random", i)
        episode.save(folder / f"{i:03d}.npz")
    return folder


def teach(world, data, calibration):
    """Learn from few recordings, in little time."""
    return fit(world, FitConfig((str(data),), str(calibration), pictures=180, steps=200))
