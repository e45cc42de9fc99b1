"""Measure the engine, side by side in one run: ``python benchmarks/run.py --json figures.json``.

Prints a table for every section, what each figure should be and whether it is. Ratios are medians of
interleaved pairs. ``docs/speed.md`` says how to read the figures.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from engine import (
    arithmetic,
    fused,
    keeping,
    latency,
    layers,
    neighbours,
    served,
    start,
    streaming,
    throughput,
    upsampling,
)
from engine.bench import Bench
from engine.picture import draw

SECTIONS = {
    module.SECTION.name: module.SECTION
    for module in (
        streaming,
        latency,
        throughput,
        arithmetic,
        layers,
        start,
        keeping,
        fused,
        upsampling,
        served,
        neighbours,
    )
}


def main() -> None:
    options = _arguments()
    rounds = options.rounds or (3 if options.quick else 9)
    bench = Bench.open(options.world, options.device, rounds, options.quick)
    figures = {"threads": float(torch.get_num_threads()), "denoising_steps": float(bench.steps)}
    subject = f"{options.world} on {_machine(options.device)}; denoising steps: {bench.steps}"
    print(subject, end="\n\n")
    begin = time.perf_counter()
    for name in options.only:
        found = SECTIONS[name].measure(bench)
        figures |= found
        print(SECTIONS[name].report(found), end="\n\n", flush=True)
        if options.json:  # after every section, so that an interrupted run keeps what it has
            rounded = {key: round(value, 7) for key, value in figures.items()}
            options.json.write_text(json.dumps(rounded, indent=2) + "\n")
    print(f"{time.perf_counter() - begin:.0f} s")
    if options.picture:
        draw(options.picture, figures, subject)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--picture", type=Path, help="draw them to this PNG file")
    parser.add_argument("--rounds", type=int, help="how often a comparison is repeated: 9, with --quick 3")
    parser.add_argument(
        "--only", type=_sections, default=list(SECTIONS), help=f"some of {','.join(SECTIONS)}"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id or folder")
    parser.add_argument("--quick", action="store_true", help="within a minute, with fewer cases")
    return parser.parse_args()


def _sections(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SECTIONS):
        raise argparse.ArgumentTypeError(f"no section {sorted(unknown)}; choose from {','.join(SECTIONS)}")
    return names


def _machine(device: str) -> str:
    """Processor, threads, torch."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    processor = next(named, platform.processor() or platform.machine())
    return f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}"


if __name__ == "__main__":
    main()
