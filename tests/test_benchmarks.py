"""The benchmark runs on any world that streams; its figures are numbers under the names others rely on."""

import json
import math
import sys
from pathlib import Path

import cv2
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SECTIONS = {
    "streaming": (
        "cached_against_parallel_relative_error",
        "cached_against_recompute_relative_error",
        "recompute_batch_16_ms_per_frame",
        "cached_batch_16_ms_per_frame",
        "recompute_over_cached_batch_16_ratio",
        "recompute_over_cached_batch_32_ratio",
    ),
    "throughput": ("env_steps_batch_1_per_s", "env_steps_batch_32_per_s", "env_steps_batch_32_over_1_ratio"),
    "arithmetic": (
        "matrix_fp32_gflop_per_s",
        "model_step_batch_32_matrix_rate_percent",
        "env_step_batch_1_gflop",
    ),
    "layers": ("time_noise_batch_1_ms", "time_spatial_convolutions_batch_32_ms", "time_whole_batch_32_ms"),
    "keeping": (
        "snapshot_and_restore_batch_1_step_percent",
        "state_kib_per_slot",
        "step_kib_per_slot",
        "decode_kib_per_slot",
    ),
    "upsampling": (
        "usual_over_at_once_batch_32_ratio",
        "usual_against_at_once_batch_1_grey_levels",
    ),
    "fused": ("usual_over_fused_steps_1_ratio", "fused_against_usual_steps_4_psnr_db"),
}


@pytest.fixture(scope="module")
def run(tiny_world, tmp_path_factory):
    """Runs ``benchmarks/run.py`` on the tiny world, at its quickest."""
    folder = tmp_path_factory.mktemp("benchmarks")

    def run(only: str) -> tuple[dict[str, float], Path]:
        files = folder / "figures.json", folder / "figures.png"
        options = ["--quick", "--rounds", "1", "--json", str(files[0]), "--picture", str(files[1])]
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(FOLDER))
            patch.setattr(sys, "argv", ["run.py", "--world", str(tiny_world), "--only", only, *options])
            import run as benchmark

            benchmark.main()
        return json.loads(files[0].read_text()), files[1]

    return run


@pytest.fixture(scope="module")
def figures(run):
    found, picture = run(",".join(SECTIONS))
    assert cv2.imread(str(picture)) is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_figures_of_a_section(figures, section):
    assert set(SECTIONS[section]) <= set(figures)


@pytest.mark.slow
def test_figures_are_numbers(figures):
    assert figures["threads"] >= 1
    assert figures["denoising_steps"] == 2
    assert all(math.isfinite(value) and value >= 0 for value in figures.values())


@pytest.mark.slow
def test_streaming_is_exact(figures):
    assert figures["cached_against_recompute_relative_error"] < 1e-4
    assert figures["cached_against_parallel_relative_error"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 32])
def test_parts_of_a_step_add_up(figures, batch):
    end = f"_batch_{batch}_ms"
    parts = {
        k: v for k, v in figures.items() if k.startswith("time_") and k.endswith(end) and "whole" not in k
    }
    assert sum(parts.values()) == pytest.approx(figures[f"time_whole{end}"], rel=1e-4)
    assert all(parts.values())


@pytest.mark.slow
def test_operations_grow_with_the_batch(figures):
    one, many = (figures[f"model_step_batch_{n}_gflop"] for n in (1, 32))
    assert many == pytest.approx(32 * one, rel=1e-4)


def test_latency(tiny_world, monkeypatch):
    """With younger episodes than in earnest: a thousand frames take a while."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from engine import latency
    from engine.bench import Bench

    monkeypatch.setattr(latency, "FRAMES", (2, 3, 5))
    found = latency.measure(Bench.open(str(tiny_world), "cpu", rounds=1, quick=True))
    ratios = {"step_frame_3_over_2_ratio", "step_frame_5_over_2_ratio"}
    assert set(found) == {"step_frame_2_ms", "step_frame_3_ms", "step_frame_5_ms"} | ratios
    assert latency.rows(found)


@pytest.mark.slow
def test_start(run):
    found, _ = run("start")
    assert found["make_s"] > 0
    assert found["make_import_torch_ms"] > 0
    assert found["make_without_imports_ms"] > 0
    assert found["first_reset_and_step_s"] > 0


@pytest.mark.slow
def test_served(run):
    found, _ = run("served")
    for sessions in (1, 8, 32):
        assert found[f"served_sessions_{sessions}_per_s"] > 0
        assert found[f"served_over_local_sessions_{sessions}_ratio"] > 0


@pytest.mark.slow
def test_neighbours(run):
    found, _ = run("neighbours")
    for around in ("alone", "beside"):
        assert found[f"patient_{around}_steps_per_s"] > 0
        assert found[f"patient_over_usual_{around}_ratio"] > 0


def test_unknown_section(run, capsys):
    with pytest.raises(SystemExit):
        run("streaming,speed")
    assert "no section ['speed']" in capsys.readouterr().err
