"""How many episodes: the formula by hand, its reverse, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from v2w_gym.cli import main
from v2w_gym.evaluation.stats import correlation_of, episodes_needed, visible_gap
from v2w_gym.evaluation.stats.planning import difference_variance


@pytest.mark.parametrize(
    ("first", "second", "correlation", "episodes"),
    [
        (0.5, 0.6, 0.0, 385),  # (1.96 + .8416)^2 * (.25 + .24) / .01 = 384.6
        (0.5, 0.6, 0.6, 154),
        (0.5, 0.6, 0.8, 77),
        (0.8, 0.9, 0.0, 197),
        (0.8, 0.9, 0.6, 84),
    ],
)
def test_known_plans(first: float, second: float, correlation: float, episodes: int) -> None:
    assert episodes_needed(first=first, second=second, correlation=correlation) == episodes
    assert episodes_needed(first=second, second=first, correlation=correlation) == episodes


def test_what_a_plan_finds_is_what_it_was_made_for() -> None:
    for correlation in (0.0, 0.5):
        n = episodes_needed(first=0.5, second=0.62, correlation=correlation)
        low, high = visible_gap(rate=0.5, episodes=n, correlation=correlation)
        assert high == pytest.approx(0.62, abs=0.002)
        assert low == pytest.approx(0.38, abs=0.002)
    assert math.isnan(visible_gap(rate=0.0, episodes=50)[0])
    assert math.isnan(visible_gap(rate=0.5, episodes=2)[1])


def test_a_planned_difference_is_seen_as_often_as_promised() -> None:
    n, rng = episodes_needed(first=0.5, second=0.6), np.random.default_rng(0)
    a, b = rng.binomial(n, 0.5, 20_000) / n, rng.binomial(n, 0.6, 20_000) / n
    z = (b - a) / np.sqrt((a * (1 - a) + b * (1 - b)) / n)
    assert (abs(z) > 1.96).mean() == pytest.approx(0.8, abs=0.01)


def test_correlation_and_discordance_say_the_same() -> None:
    variance = difference_variance(first=0.5, second=0.6, correlation=0.4)
    discordant = variance + 0.1**2  # the second moment of a difference of -1, 0 or 1
    assert correlation_of(first=0.5, second=0.6, discordant=discordant) == pytest.approx(0.4)
    assert correlation_of(first=0.5, second=0.6, discordant=0.5) == pytest.approx(0.0)
    with pytest.raises(ValueError, match=r"0\.10\.\.0\.90"):
        correlation_of(first=0.5, second=0.6, discordant=0.05)
    with pytest.raises(ValueError, match=r"-0\.17\.\.0\.67"):
        episodes_needed(first=0.8, second=0.9, correlation=0.9)
    with pytest.raises(ValueError, match="no number of episodes"):
        episodes_needed(first=0.5, second=0.5)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        episodes_needed(first=50, second=60)
    with pytest.raises(ValueError, match="power"):
        episodes_needed(first=0.5, second=0.6, power=0.3)


def test_the_command_shows_paired_and_unpaired(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    shown = capsys.readouterr().out
    assert [int(line.split()[0]) for line in shown.splitlines()[1:-1]] == [385, 308, 231, 154, 77]
    assert shown in (Path(__file__).parents[1] / "docs" / "statistics.md").read_text()
    assert main(["plan", "0.5", "0.6", "--discordant", "0.3", "--episodes", "50"]) == 0
    out = capsys.readouterr().out
    assert "228  paired, correlation 0.41" in out
    assert "0.29 or less  0.71 or more  paired" in out
    assert main(["plan", "0.5", "60"]) == 2
    assert "0..1" in capsys.readouterr().err


def test_the_command_reads_a_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_luck = np.random.default_rng(0).random(60)
    rates = {"early": 0.4, "later": 0.5}
    lines = [
        {
            "policy": policy,
            "instruction": "i",
            "start_id": f"s{i}",
            "seed": 0,
            "noise_seed": 0,
            "verdict": "success" if luck < rate else "failure",
            "probability": 0.5,
            "probabilities": [0.5],
            "steps": 1,
            "success_rule": "any",
            "world_model_hash": "w",
            "detector_hash": "d",
            "config_hash": "c",
        }
        for policy, rate in rates.items()
        for i, luck in enumerate(start_luck)
    ]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["plan", "0.5", "0.55", "--ledger", str(tmp_path)]) == 0
    unpaired, paired = (int(line.split()[0]) for line in capsys.readouterr().out.splitlines()[1:3])
    assert paired < unpaired / 3
    assert main(["plan", "--ledger", str(tmp_path / "nowhere")]) == 2
    assert "no ledger" in capsys.readouterr().err
