"""Metrics against hand-computed cases, scikit-image's figures on real clips, and a second implementation."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from v2w_gym.evaluation.metrics import frechet_distance, psnr, ssim
from v2w_gym.evaluation.metrics_lpips import load_lpips

CLIPS = Path(os.environ.get("V2W_CLIPS", Path(__file__).parents[2] / "shared" / "data"))
needs_clips = pytest.mark.skipif(not (CLIPS / "clip_metrics.json").is_file(), reason=f"no clips in {CLIPS}")


def clip(path: Path) -> np.ndarray:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(np.ascontiguousarray(read[1][..., ::-1]))
    return np.stack(frames)


@needs_clips
@pytest.mark.parametrize("name", ["rt1/00004281", "rt1/00005316", "rt1/00042661", "csgo/18", "csgo/81"])
def test_figures_of_real_clips(name: str) -> None:
    """Real recordings against what the authors' model predicted, as numpy and scikit-image see them."""
    suffix = "pred" if name.startswith("rt1") else "ours"
    known = json.loads((CLIPS / "clip_metrics.json").read_text())[f"{name}_{suffix}.mp4"]
    predicted, recorded = (clip(CLIPS / f"{name}_{kind}.mp4")[: known["frames"]] for kind in (suffix, "gt"))
    np.testing.assert_allclose(psnr(predicted, recorded), known["psnr"], atol=1e-3)
    np.testing.assert_allclose(ssim(predicted, recorded), known["ssim_gauss11"], atol=1e-3)


def test_psnr_by_hand() -> None:
    a = np.zeros((2, 4, 4, 3), np.uint8)
    b = a.copy()
    b[1] = 16
    np.testing.assert_allclose(psnr(a, b), [99.0, 20 * np.log10(255 / 16)])


def test_ssim_of_flat_pictures_by_hand() -> None:
    """Without variance only the luminance is left: (2 x y + C1) / (x^2 + y^2 + C1), C1 = 2.55^2."""
    a, b = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 120, np.uint8)
    assert ssim(a, b) == pytest.approx((2 * 100 * 120 + 6.5025) / (100**2 + 120**2 + 6.5025))
    assert ssim(a, a) == pytest.approx(1.0)


def test_ssim_is_of_each_frame_and_falls_with_noise() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 3, 20, 24, 3), dtype=np.uint8)
    noisy = np.clip(frames + rng.normal(0, 40, frames.shape), 0, 255).astype(np.uint8)
    scores = ssim(frames, noisy)
    assert scores.shape == (2, 3)
    assert scores[1, 2] == pytest.approx(float(ssim(frames[1, 2], noisy[1, 2])))
    assert (scores < 0.97).all()


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_unlike_frames_are_refused(metric) -> None:
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="alike in number and size"):
        metric(frames, frames[:1])
    with pytest.raises(ValueError, match="must be uint8"):
        metric(frames.astype(float), frames)


def test_ssim_refuses_frames_below_its_window() -> None:
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(np.zeros((10, 16, 3), np.uint8), np.zeros((10, 16, 3), np.uint8))


def test_frechet_distance_by_hand() -> None:
    """Means 0 and 3, variances 2 and 8 in one dimension: 9 + (sqrt 8 - sqrt 2)^2 = 11."""
    assert frechet_distance([[-1.0], [1.0]], [[1.0], [5.0]]) == pytest.approx(11.0)


def test_frechet_distance_of_the_same_features_is_nothing() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 8))
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)
    few = rng.normal(size=(4, 8))  # covariance of rank 3
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, few) == pytest.approx(frechet_distance(few, a))


def test_frechet_distance_agrees_with_a_matrix_square_root() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(50, 4)), rng.normal(1, 2, size=(40, 4)) @ rng.normal(size=(4, 4))
    ca, cb = np.cov(a.T), np.cov(b.T)
    slow = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert frechet_distance(a, b) == pytest.approx(slow)


@pytest.mark.parametrize("bad", [np.zeros((1, 3)), np.zeros(5), np.full((4, 3), np.nan)])
def test_frechet_distance_refuses_what_has_no_covariance(bad) -> None:
    with pytest.raises(ValueError, match="features must be"):
        frechet_distance(bad, np.zeros((4, 3)))


WIDTHS = (4, 6, 8, 6, 4)


def alexnet() -> nn.Sequential:
    """AlexNet's convolutions as torchvision orders them, narrow and random."""
    torch.manual_seed(0)
    a, b, c, d, e = WIDTHS
    return nn.Sequential(
        *(nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )


def vgg() -> dict[str, torch.Tensor]:
    shapes, channels = {}, 3
    for index, width in zip(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (4, 4, 4, 6, 6, 8, 8, 6, 6, 6, 4, 4, 4), strict=True
    ):
        shapes[f"features.{index}.weight"] = 0.3 * torch.randn(width, channels, 3, 3)
        shapes[f"features.{index}.bias"], channels = torch.zeros(width), width
    return shapes


def files(folder: Path, features: dict[str, torch.Tensor], widths=WIDTHS) -> tuple[Path, Path]:
    classifier = {"classifier.1.weight": torch.zeros(2, 2)}  # as in the real file; of no use here
    torch.save(features | classifier, folder / "features.pth")
    heads = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(widths)}
    torch.save(heads, folder / "heads.pth")
    return folder / "features.pth", folder / "heads.pth"


def test_lpips_agrees_with_the_network_run_layer_by_layer(tmp_path: Path) -> None:
    network = alexnet()
    paths = files(tmp_path, {f"features.{k}": v for k, v in network.state_dict().items()})
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 20, 64, 72, 3), dtype=np.uint8)
    heads, total = torch.load(paths[1]), torch.zeros(20)
    tapped = []
    with torch.no_grad():
        for frames in (a, b):
            x = (torch.tensor(frames / 255.0) - torch.tensor((0.485, 0.456, 0.406))) / torch.tensor(
                (0.229, 0.224, 0.225)
            )
            x, taps = x.permute(0, 3, 1, 2).float(), []
            for layer in network:
                x = layer(x)
                if isinstance(layer, nn.ReLU):
                    taps.append(nn.functional.normalize(x, dim=1))
            tapped.append(taps)
        for i, (x, y) in enumerate(zip(*tapped, strict=True)):
            total += nn.functional.conv2d((x - y) ** 2, heads[f"lin{i}.model.1.weight"]).mean(dim=(1, 2, 3))
    lpips = load_lpips(*paths)
    assert lpips.network == "AlexNet"
    np.testing.assert_allclose(lpips(a, b), total.numpy(), rtol=1e-4)
    np.testing.assert_array_equal(lpips(a, a), 0)


def test_lpips_reads_vgg_and_safetensors(tmp_path: Path) -> None:
    features, heads = files(tmp_path, vgg(), (4, 6, 8, 6, 4))
    save_file(torch.load(heads), tmp_path / "heads.safetensors")
    lpips = load_lpips(features, tmp_path / "heads.safetensors")
    assert lpips.network == "VGG16"
    a, b = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
    assert lpips(a, b).shape == (3,)
    assert (lpips(a, b) > 0).all()


def test_lpips_without_its_weights_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="the authors' package 'lpips'"):
        load_lpips(tmp_path / "alexnet.pth", tmp_path / "alex.pth")


def test_lpips_refuses_files_that_do_not_fit(tmp_path: Path) -> None:
    network = {f"features.{k}": v for k, v in alexnet().state_dict().items()}
    features, heads = files(tmp_path, network, (4, 6, 8, 6, 5))
    with pytest.raises(ValueError, match="no LPIPS heads for AlexNet"):
        load_lpips(features, heads)
    with pytest.raises(ValueError, match="neither AlexNet's nor VGG16's"):
        load_lpips(heads, heads)
    heads.write_bytes(features.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        load_lpips(features, heads)
