"""An audit for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

_WIDTH = 104


def format_audit(report: Mapping[str, Any]) -> str:
    """What ``audit.json`` says, as a table with a sentence below each probe; intervals are 95 %."""
    rows = [("verdict", "probe", "value", "passes if")]
    rows += [(p["verdict"], p["name"], shown(p), p["passes"]) for p in report["probes"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    indent = " " * (widths[0] + 2)
    heading, *lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    table = [headline(report), "", heading, "-" * len(heading)]
    for line, p in zip(lines, report["probes"], strict=True):
        said = p["says"] if p["to_run"] is None else f"{p['says']}; what it takes: {p['to_run']}"
        wrapped = textwrap.wrap(said, _WIDTH, initial_indent=indent, subsequent_indent=indent)
        table += [f"{line}   {p['question']}", *wrapped]
    return "\n".join([*table, "", *textwrap.wrap(ruler(report["reader"]), _WIDTH), *_protocol(report)])


def headline(report: Mapping[str, Any]) -> str:
    """Which world, and how many probes it passed."""
    counts = report["counts"]
    tried = "" if counts["pass"] or counts["fail"] else "; nothing was tried, so nothing is passed"
    return (
        f"audit of {report['world']}, version {report['version']}: {counts['pass']} probes passed, "
        f"{counts['fail']} failed, {counts['not run']} not run{tried}\n"
        f"{report['episodes']} held-out episodes of {report['steps']} actions, weights and sampler "
        f"{report['model_hash']}"
    )


def shown(probe: Mapping[str, Any]) -> str:
    """Value and interval of a probe."""
    if probe["value"] is None:
        return "-" if probe["verdict"] == "not run" else "undefined"
    if probe["low"] == probe["high"] == probe["value"]:
        return f"{probe['value']:g}"
    ends = ("-" if end is None else f"{end:.2f}" for end in (probe["low"], probe["high"]))
    return f"{probe['value']:.2f} [{', '.join(ends)}]"


def ruler(reader: Mapping[str, Any] | str) -> str:
    """What the action reader is worth."""
    if isinstance(reader, str):
        return f"no action reader: {reader}"
    read = ", ".join(f"{name} {'-' if r2 is None else f'{r2:.2f}'}" for name, r2 in reader["r2_real"].items())
    return (
        f"action reader: learned from {reader['learned_from_episodes']} other recorded episodes in "
        f"{reader['seconds']:.0f} s of processor time; R2 on real frames it has not seen: {read}; "
        f"a component counts from {reader['readable_from']:g}"
    )


def _protocol(report: Mapping[str, Any]) -> list[str]:
    if "protocol" not in report:
        return []
    p = report["protocol"]
    wanted = p["protocol"]["clips"]
    scores = ", ".join(f"{name} {value:.4g}" for name, value in p["scores"].items())
    few = f" (the protocol has {wanted})" if p["clips"] < wanted else ""
    return [f"protocol {p['name']}: {scores} over {p['clips']} clips{few}"]
