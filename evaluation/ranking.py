"""Rank policies in imagination and hold the ranking against reality."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from v2w_gym.envs.world import World
from v2w_gym.evaluation import judging
from v2w_gym.evaluation.claims import Claims
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.guard import GuardedPolicy
from v2w_gym.evaluation.labelled import keep_check
from v2w_gym.evaluation.ledger import Ledger, Record
from v2w_gym.evaluation.manifest import Manifest, Provenance, manifest_of
from v2w_gym.evaluation.mixing import check_alike, differences, origins
from v2w_gym.evaluation.page import Sources
from v2w_gym.evaluation.protocol import Protocol
from v2w_gym.evaluation.publishing import publish
from v2w_gym.evaluation.reality import real_outcomes, shaken_success
from v2w_gym.evaluation.rereading import LEDGER, find_audit, reading_of
from v2w_gym.evaluation.rollout import FILMED_STARTS, Rollout
from v2w_gym.evaluation.rules import CLIP, check_rule
from v2w_gym.evaluation.schedule import Schedule
from v2w_gym.evaluation.stats import Kind, SequentialRanking
from v2w_gym.evaluation.summary import summarise
from v2w_gym.policies.contract import check_contracts
from v2w_gym.policies.space_check import check_spaces
from v2w_gym.rewards.judge import ClipJudge

BATCH_SIZE = 50


def rank(
    world: str | Path | World,
    policies: Mapping[str, Any],
    *,
    episodes: int,
    seed: int,
    out: str | Path | None = None,
    success_rule: str = "any",
    judge: str | Path | ClipJudge | None = None,
    judge_check: str | Path | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
    sampler: str | Mapping[str, Any] | None = None,
    progress: bool = True,
    starts: Sequence[str] | None = None,
    force: bool = False,
    stop_early: float | None = None,
    calibrate: Kind | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Run every policy from the same starts with the same noise; say which is best and how sure that is.

    A policy that raises or returns junk stops alone: its ``"error"`` in the result says why, and the others
    go on.

    Args:
        world: a registered id, a folder, a hub id, or an opened world.
        policies: name to an object with ``act(observation) -> actions``: ``observation["pixels"]`` is uint8
            ``(b, h, w, 3)``, 0..255, actions are ``(b, a)`` in -1..1. ``reset`` and ``seed`` are called where
            it has them.
        episodes: episodes per policy, each from a start of its own.
        seed: a start and this seed fix the noise of an episode.
        out: folder for ``report.html``, ``ledger.jsonl`` (one line per episode), ``ledger.manifest.json``
            (what the numbers hang on), ``summary.json``, ``contact_sheet.png``, ``episodes.mp4``,
            ``scatter.png`` and ``frames/``. A ranking that was stopped, however, goes on from its ledger: a
            policy is known by its name, so give a changed policy a new name or a new folder. Several
            processes with the same ``out`` share the work.
        success_rule: ``any``, ``last`` or ``held_K``; of the world's success detector.
        judge: of whole clips, in place of that detector: name, YAML or object. It sees each episode once,
            from its start to its end. What it cannot tell (an outage, an unreadable reply) is unscorable,
            never a failure, and can be scored later by ``rescore``: the frames of all episodes are kept.
        judge_check: report of ``v2w judge-check`` on this judge, from which success rates are corrected for
            its errors; it is copied to ``out``. Default: ``judge_check.json`` there, if there is one.
        batch_size: most episodes imagined together; changes speed and memory, not results.
        device: where the world model runs.
        sampler: one of the world's presets by name, e.g. ``"fast"``, or values that replace those of its
            sampler. It is one of the conditions: another one needs another folder.
        progress: show a progress bar.
        starts: start ids to take the first ``episodes`` of; default: those of the world.
        force: go on from a ledger that other weights, versions or machines have made; summary and report say
            so.
        stop_early: run a policy only as long as some comparison with another is undecided, such that equally
            good policies are told apart with at most this probability; ``episodes`` are then the most. None
            runs all of them.
        calibrate: ``"affine"`` or ``"isotonic"``: tell for every policy what real success to expect, each by
            what the other measured policies teach. Off by default, and said wherever it is used, as it is
            if reality knows too few policies for it.
        command: what the user typed, for the report; default: this call.

    Returns:
        ``{"pearson": {"value", "low", "high"}, "spearman": ..., "mmrv": ..., "policies": [{"name", "rank",
        "episodes", "success", "low", "high", "real_success", ...}]}`` and the conditions: best policy first;
        correlations are None where no reality is known, numbers are None where they are undefined.

    Raises:
        FileNotFoundError: no such world.
        TypeError: an object that cannot act.
        ValueError: an unknown rule or start, too many episodes, or a ledger that is damaged, of other
            conditions or of an unlike run, or an unknown preset or value of the sampler, or an error rate
            outside 0..0.5, or a ``reality.json`` of another form, or an unknown calibration.
        ContractMismatch: a policy whose ``contract`` says that its actions mean something else than the world
            takes them for.
    """
    began = time.monotonic()
    policies = _by_name(policies)
    guarded = {name: GuardedPolicy(policy) for name, policy in policies.items()}
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    opened = world if isinstance(world, World) else World.open(world)
    check_contracts(policies, opened)
    check_spaces(policies, opened)
    chosen = _choose_starts(opened, episodes, starts)
    reality = opened.reality()
    real, shaken = real_outcomes(reality, list(policies), chosen), shaken_success(reality, list(policies))
    early = None if stop_early is None else SequentialRanking(tuple(policies), episodes, stop_early)
    asked, named = (None, None) if judge is None else judging.opened(judge, device)
    protocol = _protocol(opened, seed, check_rule(success_rule), asked, device, sampler)
    manifest = manifest_of(protocol, opened.sampler(sampler), device)
    folder = None if out is None else Path(out)
    films = None if folder is None else Films(folder / "frames")
    filmed = chosen[:FILMED_STARTS]
    rollout = Rollout(opened, protocol, manifest.hash, device, sampler, films, filmed, asked)
    reading = reading_of(opened, protocol, folder, judge_check, calibrate=calibrate, sequential=early)
    audit = None if folder is None else find_audit(folder, opened)  # a damaged one is told before the work
    schedule = Schedule(rollout, chosen, batch_size, early=early)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        schedule.ledger, schedule.claims = Ledger(folder / LEDGER), Claims(folder / "claims")
        typed = command or _call(opened, policies, episodes, seed, folder)
        schedule.admit = _sign_in(schedule.ledger, manifest, typed, opened, named, chosen, force)
        if judge_check is not None:
            keep_check(judge_check, folder)
    records = schedule.run(guarded, progress)
    summary = summarise(
        records=records,
        policies=list(policies),
        starts=chosen,
        failures=schedule.failures,
        real=real,
        shaken=shaken,
        protocol=protocol,
        reading=reading,
    )
    summary["sampler"] = opened.sampler(sampler)
    summary["manifests"] = origins(records)
    known = Provenance() if schedule.ledger is None else Provenance.load(schedule.ledger.path)
    summary["mixed"] = differences(records, known, manifest)
    summary["seconds"] = round(time.monotonic() - began, 1)
    if folder is not None and films is not None:
        publish(folder, Sources(summary, records, chosen, filmed, films, opened.config.fps, known, audit))
    return summary


def _sign_in(
    ledger: Ledger,
    manifest: Manifest,
    command: str,
    world: World,
    judge: str | None,
    starts: Sequence[str],
    force: bool,
) -> Callable[[Sequence[Record]], None]:
    """Put this run down beside the ledger, if its episodes may go together with those that are there.

    Returns:
        The same check, for those that other processes add later.
    """

    def admit(records: Sequence[Record]) -> None:
        check_alike(ledger.path, records, Provenance.load(ledger.path), manifest, force=force)

    with ledger.locked():
        admit(ledger.records)
        known = Provenance.load(ledger.path)
        known.with_run(manifest, command, str(world.folder), judge, starts).save(ledger.path)
    return admit


def _call(world: World, policies: Mapping[str, Any], episodes: int, seed: int, out: Path) -> str:
    named = ", ".join(f"{name!r}: ..." for name in policies)
    return (
        f"v2w_gym.evaluation.rank({str(world.folder)!r}, {{{named}}}, episodes={episodes}, seed={seed}, "
        f"out={str(out)!r})"
    )


def _by_name(policies: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(policies, Mapping) or not policies:
        raise ValueError(
            f'policies must be a mapping from name to policy with at least one, such as {{"mine": policy}}, '
            f"got {policies!r}"
        )
    if odd := [name for name in policies if not isinstance(name, str)]:
        raise ValueError(f"policies must be named by texts, got {odd[0]!r}; write {str(odd[0])!r}")
    return dict(policies)


def _choose_starts(world: World, episodes: int, starts: Sequence[str] | None) -> list[str]:
    known = world.starts()
    ids = list(known.ids if starts is None else starts)
    for start in ids:
        known.by_id(start)
    if len(set(ids)) < len(ids):
        raise ValueError("starts names a start twice; it would give the same episode twice")
    if not 1 <= episodes <= len(ids):
        raise ValueError(
            f"episodes must lie in 1..{len(ids)}, one per start, got {episodes}; "
            "another seed makes other episodes of the same starts"
        )
    return ids[:episodes]


def _protocol(
    world: World,
    seed: int,
    success_rule: str,
    judge: ClipJudge | None,
    device: str,
    sampler: str | Mapping[str, Any] | None,
) -> Protocol:
    if judge is None and world.config.detector.kind == "none":
        raise ValueError(
            f"world {world.config.name!r} has no success detector, so every policy would score 0; bring a "
            "judge of clips (--judge, in Python judge=), or train a detector on labelled frames "
            "(v2w train detector) and name it in world.json"
        )
    if judge is not None and success_rule != "any":
        raise ValueError(
            f"a judge gives one verdict per clip, so there are no frames for the rule {success_rule!r}; "
            "leave --success-rule out (in Python: success_rule=)"
        )
    detector = world.detector() if judge is None else judge
    return Protocol(
        seed=seed,
        success_rule=success_rule if judge is None else CLIP,
        instruction=world.config.instructions[0],
        world=world.config.name,
        world_version=world.config.version,
        horizon=world.config.horizon,
        threshold=float(detector.threshold),
        world_model_hash=world.model(device, sampler).hash,
        detector_hash=detector.hash,
    )
