"""Put the page together: what each section shows, the templates, and the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from v2w_gym import __version__
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.ledger import Record
from v2w_gym.evaluation.manifest import Provenance
from v2w_gym.evaluation.page import beliefs, ranks, reality, run
from v2w_gym.evaluation.page.reel import make_reel
from v2w_gym.evaluation.rules import CLIP

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Sources:
    """What a report is made of.

    Attributes:
        summary: of the ranking.
        records: its episodes.
        starts: ids of the starts, in the order of the plan.
        filmed: those of them whose frames may have been kept.
        films: the frames.
        fps: frames per second of real time.
        provenance: runs and their manifests.
        audit: what ``audit.json`` holds, or None.
    """

    summary: Mapping[str, Any]
    records: Sequence[Record]
    starts: Sequence[str]
    filmed: Sequence[str]
    films: Films
    fps: float
    provenance: Provenance = field(default_factory=Provenance)
    audit: Any = None


def write_page(path: str | Path, sources: Sources) -> None:
    """Write the report; a reader never sees half of it.

    Args:
        path: the HTML file.
        sources: what it is made of.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(render(sources), encoding="utf-8")
    os.replace(partial, path)


def render(sources: Sources) -> str:
    """The page as text."""
    summary = sources.summary
    made = make_reel([e["name"] for e in summary["policies"]], sources.filmed, sources.films, sources.records)
    reel, left_out = made or (None, [])
    whole = summary["success_rule"] == CLIP
    if reel is not None:
        reel |= {
            "labels": [_label(summary, name) for name in reel["policies"]],
            "fps": sources.fps,
            "threshold": None if whole else summary["threshold"],
        }
    audit = beliefs.audit(sources.audit, summary["world_model_hash"])
    sections = [
        ("ranking", "Ranking", "Ranking"),
        ("reality", "Against reality", "Reality"),
        *([("films", "Watch two policies", "Videos")] if reel else []),
        ("credibility", "What can be believed", "Credibility"),
        ("detector", "The detector and its rules", "Detector"),
        ("audit", "Audit of the world model", "Audit"),
        ("made", "How this was made", "Origin"),
    ]
    return (
        templates()
        .get_template("report.html")
        .render(
            version=__version__,
            style=raw("style.css"),
            script=raw("films.js"),
            reel=reel,
            left_out=left_out,
            whole=whole,
            threshold=f"{summary['threshold']:g}",
            interval="95 %",
            sections=sections,
            audit=audit,
            notices=run.notices(summary, audit),
            credibility=beliefs.credibility(summary, sources.records),
            detector=beliefs.detector(summary),
            **ranks.view(summary, sources.records, sources.starts),
            **reality.view(summary),
            **run.view(summary, sources.provenance, sources.records),
        )
    )


def _label(summary: Mapping[str, Any], name: str) -> str:
    rank = next(e["rank"] for e in summary["policies"] if e["name"] == name)
    return name if rank is None else f"{rank} · {name}"


def templates() -> Environment:
    """The templates of the package's pages."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def raw(name: str) -> Markup:
    """A file of the templates as it is, for style and script."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
