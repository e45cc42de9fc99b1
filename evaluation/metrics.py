"""How alike two pictures or two sets of clips are: pure functions of arrays, on numpy and scipy alone.

Every figure has a convention, stated where it is computed. Nothing here bears the name of a metric whose
network is not at hand: a Frechet distance is over features that the caller brings.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import linalg
from scipy.ndimage import correlate1d

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]

PSNR_OF_EQUALS = 99.0
_WINDOW, _SIGMA, _RANGE = 11, 1.5, 255.0
_C1, _C2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2


def psnr(a: Frames, b: Frames) -> Floats:
    """Peak signal-to-noise ratio in dB, peak 255, error averaged over pixels and channels.

    Args:
        a: ``(..., h, w, 3)`` uint8.
        b: likewise.

    Returns:
        ``(...)``; equal frames give 99.
    """
    error = squared_error(a, b)
    return np.asarray(np.minimum(10 * np.log10(_RANGE**2 / np.maximum(error, 1e-12)), PSNR_OF_EQUALS))


def squared_error(a: Frames, b: Frames) -> Floats:
    """Squared error ``(...)`` of frames ``(..., h, w, 3)`` uint8, averaged over pixels and channels.

    Raises:
        ValueError: frames of another dtype or of different sizes.
    """
    _check(a, b)
    return np.asarray(np.square(a.astype(np.float32) - b).mean(axis=(-3, -2, -1), dtype=np.float64))


def ssim(a: Frames, b: Frames) -> Floats:
    """Structural similarity as Wang et al. (2004) print it.

    Gaussian window of 11x11 with sigma 1.5 and weights that sum to 1, moments without Bessel's correction,
    data range 255, K1 = .01, K2 = .03; on R, G and B apart, averaged over channels and over the pixels whose
    window lies inside the picture.

    Args:
        a: ``(..., h, w, 3)`` uint8, at least 11 pixels in height and width.
        b: likewise.

    Returns:
        ``(...)`` in -1..1; equal frames give 1.

    Raises:
        ValueError: frames of another dtype, of different sizes, or smaller than the window.
    """
    _check(a, b)
    if min(a.shape[-3:-1]) < _WINDOW:
        raise ValueError(f"ssim needs frames of at least {_WINDOW}x{_WINDOW} pixels, got {a.shape[-3:-1]}")
    pairs = zip(a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:]), strict=True)
    return np.array([_ssim(x.astype(np.float64), y.astype(np.float64)) for x, y in pairs]).reshape(
        a.shape[:-3]
    )


def _ssim(x: Floats, y: Floats) -> float:
    mx, my = _local_mean(x), _local_mean(y)
    vx, vy = _local_mean(x * x) - mx * mx, _local_mean(y * y) - my * my
    cov = _local_mean(x * y) - mx * my
    likeness = (2 * mx * my + _C1) * (2 * cov + _C2) / ((mx * mx + my * my + _C1) * (vx + vy + _C2))
    return float(likeness.mean())


def _local_mean(x: Floats) -> Floats:
    """Gaussian mean around each pixel ``(h, w, c)`` whose window lies inside."""
    reach = _WINDOW // 2
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    blurred = correlate1d(correlate1d(x, weights, axis=0), weights, axis=1)
    return np.asarray(blurred[reach:-reach, reach:-reach])


def _check(a: Frames, b: Frames) -> None:
    for frames in (a, b):
        if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
            raise ValueError(f"frames must be uint8 (..., h, w, 3), got {frames.dtype} {frames.shape}")
    if a.shape != b.shape:
        raise ValueError(f"frames must be alike in number and size, got {a.shape} and {b.shape}")


def frechet_distance(features_a: npt.ArrayLike, features_b: npt.ArrayLike) -> float:
    """Squared Frechet distance of two Gaussians fitted to features that you bring.

    ``|mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))``, covariances with Bessel's
    correction. It is an FID or an FVD only if the features are those of the network that defines these: name
    what you report after your features.

    Args:
        features_a: ``(n, d)``, one row per picture or clip; at least two.
        features_b: ``(m, d)``.

    Raises:
        ValueError: other axes, fewer than two rows, or values that are not finite.
    """
    a, b = (np.asarray(features, dtype=np.float64) for features in (features_a, features_b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features must be (n, d) and (m, d) with n, m >= 2, got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features must be finite; some are nan or infinite")
    apart = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    root = _root(cov_a)  # trace((cov_a cov_b)^.5) through a symmetric product, which has no imaginary part
    eigenvalues = linalg.eigvalsh(root @ cov_b @ root)
    overlap = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    return float(max(apart + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap, 0.0))


def _root(covariance: Floats) -> Floats:
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
