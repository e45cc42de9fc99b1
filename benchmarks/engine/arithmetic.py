"""The share of the machine's matrix rate that a step reaches.

The rate is that of a large product of two square matrices, timed in turns with the steps and with the same
threads. A step's operations are counted while it runs, by torch's own counter, which hears of every call:
convolutions, linear layers and the products inside attention, 2 operations for each multiply-add. Norms,
activations, softmax and sums count nothing, so the share is of arithmetic that a matrix unit can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.bench import Bench
from engine.clock import Call, in_turns
from engine.section import Bar, Figures, Rows, Section

SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measure(bench: Bench) -> Figures:
    products = {f"matrix_{name}": _product(bench, dtype) for name, dtype in DTYPES.items()}
    parts = {f"{p}_batch_{n}": call for n in bench.batches for p, call in _parts(bench, n).items()}
    operations = dict.fromkeys(products, 2 * SIDE[bench.device] ** 3)
    operations |= {name: counted(call) for name, call in parts.items()}
    turns = in_turns(products | parts, bench.rounds, limit_s=20)
    figures = {f"{name}_gflop_per_s": operations[name] / 1e6 / turns.ms(name) for name in products}
    rate = f"matrix_{_precision(bench)}"
    for name in parts:
        figures[f"{name}_gflop"] = operations[name] / 1e9
        figures[f"{name}_ms"] = turns.ms(name)
        share = turns.ratio(rate, name) * operations[name] / operations[rate]
        figures[f"{name}_matrix_rate_percent"] = 100 * share
    return figures


def _precision(bench: Bench) -> str:
    """The numbers that the network multiplies."""
    half = bench.model.dynamics.sampler.config.precision == "bf16" or bench.model.unet.dtype == torch.bfloat16
    return "bf16" if half else "fp32"


def counted(call: Call) -> int:
    """Operations of one call, after one that may have had something to find out or to set up."""
    call()
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def _product(bench: Bench, dtype: torch.dtype) -> Call:
    side = SIDE[bench.device]
    a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
    return partial(torch.mm, a, b)


def _parts(bench: Bench, batch: int) -> dict[str, Call]:
    state = bench.grown(bench.begin(batch), 1)
    return {
        "model_step": partial(bench.model.step, state, bench.actions(batch)),
        "decode": partial(bench.model.decode, state.latent),
        "env_step": partial(bench.environment(batch).step, bench.env_actions(batch)),
    }


def rows(figures: Mapping[str, float]) -> Rows:
    table = [["", "batch", "GFLOP", "ms", "GFLOP/s", "share of matrix rate"]]
    for name in DTYPES:
        table.append(
            [f"{name} matrix product", "", "", "", f"{figures[f'matrix_{name}_gflop_per_s']:.0f}", ""]
        )
    for name in [k.removesuffix("_matrix_rate_percent") for k in figures if k.endswith("_percent")]:
        part, batch = name.split("_batch_")
        work, ms = figures[f"{name}_gflop"], figures[f"{name}_ms"]
        share = f"{figures[f'{name}_matrix_rate_percent']:.0f} %"
        table.append(
            [part.replace("_", " "), batch, f"{work:.2f}", f"{ms:.2f}", f"{1e3 * work / ms:.0f}", share]
        )
    return table


SECTION = Section(
    "arithmetic",
    "Share of the machine's matrix rate",
    measure,
    rows,
    (
        Bar(
            "share of the matrix rate, model step, batch 32, percent",
            "model_step_batch_32_matrix_rate_percent",
            least=35,
        ),
    ),
)
