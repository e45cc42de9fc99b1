"""Tell a ranking again from its ledger, whether it was finished, stopped, or merged from several."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from v2w_gym.config import from_dict
from v2w_gym.envs.world import World
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.labelled import errors_of
from v2w_gym.evaluation.ledger import Ledger, Record
from v2w_gym.evaluation.manifest import Provenance
from v2w_gym.evaluation.mixing import differences, origins
from v2w_gym.evaluation.page import Sources
from v2w_gym.evaluation.protocol import Protocol
from v2w_gym.evaluation.publishing import SUMMARY
from v2w_gym.evaluation.reality import real_outcomes, shaken_success
from v2w_gym.evaluation.stats import Kind, SequentialRanking
from v2w_gym.evaluation.summary import Reading, summarise

LEDGER, AUDIT = "ledger.jsonl", "audit.json"


def reread(
    path: str | Path,
    *,
    world: str | Path | World | None = None,
    audit: str | Path | None = None,
    failures: Mapping[str, str] | None = None,
    judge_check: str | Path | None = None,
    calibrate: Kind | None = None,
) -> Sources:
    """What a report is made of, by the statistics of today.

    Args:
        path: a ledger or its folder.
        world: where reality and the starts are known from; default: where the last run opened it.
        audit: an ``audit.json``; default: the one beside the ledger, or beside the world.
        failures: policy name to what went wrong with it; default: what the summary beside the ledger says.
        judge_check: as in ``rank``.
        calibrate: as in ``rank``.

    Raises:
        FileNotFoundError: no such ledger, world, audit or check.
        ValueError: a ledger that is empty, damaged, or made in another world, or a damaged audit.
    """
    file = ledger_file(path)
    records, provenance = Ledger(file).records, Provenance.load(file)
    if not records:
        raise ValueError(f"{file} holds no finished episode yet; run v2w rank --out {file.parent}")
    before = told_before(file.parent)
    opened = open_world(world, provenance, file)
    protocol = protocol_of(records, provenance, before, opened, file)
    policies = list(dict.fromkeys(record.policy for record in records))
    failures = failures_in(before) if failures is None else failures
    policies += [name for name in failures if name not in policies]
    sequential = _early(before, policies)
    starts = _starts(records, provenance.starts, opened, sequential)
    summary = summarise(
        records=records,
        policies=policies,
        starts=starts,
        failures=failures,
        real=real_outcomes(opened.reality(), policies, starts),
        shaken=shaken_success(opened.reality(), policies),
        protocol=protocol,
        reading=reading_of(
            opened,
            protocol,
            file.parent,
            judge_check,
            calibrate=calibrate,
            sequential=sequential,
        ),
    )
    summary["manifests"], summary["mixed"] = origins(records), _mixed(records, provenance)
    kinds = [m.sampler for m in provenance.manifests.values() if m.protocol == protocol]
    if samplers := [*([before["sampler"]] if "sampler" in before else []), *kinds]:
        summary["sampler"] = dict(samplers[0])
    return Sources(
        summary,
        records,
        starts,
        starts,
        Films(file.parent / "frames"),
        opened.config.fps,
        provenance,
        find_audit(file.parent, opened, audit),
    )


def reading_of(
    world: World,
    protocol: Protocol,
    folder: str | Path | None = None,
    judge_check: str | Path | None = None,
    *,
    calibrate: Kind | None = None,
    sequential: SequentialRanking | None = None,
) -> Reading:
    """How facts from ``world`` are read: with what is known of their detector, and of what to believe.

    Args:
        world: where they come from.
        protocol: the conditions of their verdicts.
        folder: of the ranking.
        judge_check: as in ``rank``.
        calibrate: as in ``rank``.
        sequential: the plan, where the ranking might end early.
    """
    return Reading(
        **vars(errors_of(world, protocol, folder, judge_check)),
        calibrate=calibrate,
        credible_from=world.credible_from,
        real_rule=(world.reality() or {}).get("rule"),
        sequential=sequential,
    )


def told_before(folder: Path) -> Mapping[str, Any]:
    """The summary in ``folder``; empty if there is none."""
    return _json(folder / SUMMARY) or {}


def failures_in(summary: Mapping[str, Any]) -> dict[str, str]:
    """Policy name to what went wrong with it."""
    return {e["name"]: e["error"] for e in summary.get("policies", ()) if e.get("error")}


def _early(before: Mapping[str, Any], policies: Sequence[str]) -> SequentialRanking | None:
    """The plan of a ranking that might end early."""
    known = before.get("sequential")
    return None if known is None else SequentialRanking(tuple(policies), before["episodes"], known["error"])


def ledger_file(path: str | Path) -> Path:
    """The ledger that ``path`` means: itself, or the one inside.

    Raises:
        FileNotFoundError: there is none.
    """
    file = Path(path) / LEDGER if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no ledger {file}; v2w rank --out FOLDER writes FOLDER/{LEDGER}")
    return file


def find_audit(folder: Path, world: World, given: str | Path | None = None) -> Any:
    """Content of the given ``audit.json``, else of the one in ``folder``, else the world's; None without any.

    Raises:
        FileNotFoundError: the given one is not there.
        ValueError: it is no JSON.
    """
    if given is not None and not Path(given).is_file():
        raise FileNotFoundError(f"no audit {given}; write one with v2w audit")
    places = [folder / AUDIT, world.folder / AUDIT] if given is None else [Path(given)]
    return next((found for place in places if (found := _json(place)) is not None), None)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); move it away, or write it again") from error


def open_world(world: str | Path | World | None, provenance: Provenance, file: Path) -> World:
    """``world``, or the one that the last run of the ledger ``file`` was made in.

    Raises:
        FileNotFoundError: it is no longer there.
    """
    from v2w_gym.registration import SHIPPED_WORLDS

    if isinstance(world, World):
        return world
    if world is not None:
        return World.open(world)
    asked = provenance.runs[-1].world if provenance.runs else next(iter(SHIPPED_WORLDS))
    try:
        return World.open(asked)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the world that {file} was made in is no longer at {asked}; say where it is: the same "
            "command with --world FOLDER (in Python: world=)"
        ) from error


def protocol_of(
    records: Sequence[Record], provenance: Provenance, before: Mapping[str, Any], world: World, file: Path
) -> Protocol:
    """The conditions of most of the records of the ledger ``file``.

    Raises:
        ValueError: they were made in another world.
    """
    common = Counter(record.config_hash for record in records).most_common(1)[0][0]
    known = [manifest.protocol for manifest in provenance.manifests.values()]
    if before.get("config_hash") == common:
        fields = Protocol.__dataclass_fields__
        known.append(from_dict(Protocol, {key: before[key] for key in fields}))
    one = next(record for record in records if record.config_hash == common)
    known.append(
        Protocol(
            seed=one.seed,
            success_rule=one.success_rule,
            instruction=one.instruction,
            world=world.config.name,
            world_version=world.config.version,
            horizon=world.config.horizon,
            threshold=float(world.detector().threshold),
            world_model_hash=one.world_model_hash,
            detector_hash=one.detector_hash,
        )
    )
    found = next((protocol for protocol in known if protocol.hash == common), None)
    if found is None or found.world != world.config.name:
        raise ValueError(
            f"{file} was not made in world {world.config.name!r}, version {world.config.version}; say where "
            "its world is: the same command with --world FOLDER (in Python: world=)"
        )
    return found


def _starts(
    records: Sequence[Record], planned: Sequence[str], world: World, sequential: SequentialRanking | None
) -> list[str]:
    """Ids in the order of the last plan, then of the world, then of the ledger.

    Where a ranking might end early all of its plan counts: what it decides hangs on order and number.
    """
    wanted = {record.start_id for record in records}
    order = [*planned, *(world.starts().ids if world.ships_starts else ())]
    order += [record.start_id for record in records]
    if sequential is not None:
        wanted |= set(planned[: sequential.episodes])
    return [start for start in dict.fromkeys(order) if start in wanted]


def _mixed(records: Sequence[Record], provenance: Provenance) -> list[str]:
    """In what runs are unlike the one with most episodes."""
    common = Counter(record.manifest for record in records if record.manifest in provenance.manifests)
    if not common:
        kinds = len({record.config_hash for record in records})
        return [] if kinds == 1 else [f"episodes of {kinds} kinds of conditions, which were not kept"]
    name = common.most_common(1)[0][0]
    return differences(records, provenance, provenance.manifests[name or ""])
