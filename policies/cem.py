"""The cross-entropy method over sequences of actions: draw some, keep the best, draw nearer to them.

As in Rubinstein (1999), and for control e.g. Chua et al. (arXiv 1805.12114) and Pinneri et al. (arXiv
2008.06389, whose kept best candidate and shifted plan are used here).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Score = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Search:
    """The numbers of a search.

    Attributes:
        samples: candidates of a generation.
        elites: the best of them, to which the next generation is fitted.
        generations: how often candidates are drawn.
        std: standard deviation of the first, in halves of an action's range.
        min_std: below which it never falls, likewise.
    """

    samples: int
    elites: int
    generations: int
    std: float
    min_std: float

    def __post_init__(self) -> None:
        if not 1 <= self.elites <= self.samples or self.samples < 2 or self.generations < 1:
            raise ValueError(
                "a search needs samples >= 2, 1 <= elites <= samples and generations >= 1, got "
                f"samples={self.samples}, elites={self.elites}, generations={self.generations}"
            )
        if not 0 < self.min_std <= self.std:
            raise ValueError(f"0 < min_std <= std must hold, got min_std={self.min_std}, std={self.std}")


def search(
    numbers: Search, score: Score, means: Floats, rngs: Sequence[np.random.Generator]
) -> tuple[Floats, Floats]:
    """Search for the best sequence of each of ``b`` slots, all side by side.

    The first candidate of a generation is its mean, so that the plan of before competes; the second is the
    best of the generation before.

    Args:
        numbers: of the search.
        score: of candidates ``(b, n, k, a)``, ``(b, n)``; may differ from generation to generation.
        means: ``(b, k, a)`` in -1..1, where each search begins.
        rngs: one generator per slot; a slot's candidates depend on its own alone.

    Returns:
        The best candidates of the last generation ``(b, k, a)`` in -1..1, and their scores ``(b,)``.
    """
    rows = np.arange(len(means))
    stds = np.full_like(means, numbers.std)
    best = means
    for generation in range(numbers.generations):
        drawn = np.stack([rng.standard_normal((numbers.samples, *means.shape[1:])) for rng in rngs])
        candidates = np.clip(means[:, None] + stds[:, None] * drawn, -1.0, 1.0)
        candidates[:, 0] = means
        if generation:
            candidates[:, 1] = best
        scores = score(candidates)
        ranked = np.argsort(-scores, axis=1, kind="stable")
        elites = candidates[rows[:, None], ranked[:, : numbers.elites]]
        means, stds = elites.mean(axis=1), elites.std(axis=1).clip(numbers.min_std)
        best = candidates[rows, ranked[:, 0]]
    return best, scores[rows, ranked[:, 0]]
