"""Put the ledgers of several runs together: of several machines, say, or of policies that came later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.ledger import Ledger
from v2w_gym.evaluation.manifest import Manifest, Provenance
from v2w_gym.evaluation.mixing import check_alike, differences
from v2w_gym.evaluation.rereading import LEDGER, ledger_file


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        added: episodes that the target lacked.
        double: episodes that it, or an earlier source, had already; the first of each is kept,
            unless it is unscorable and a later one is not.
        mixed: in what the runs were unlike; empty unless the merge was forced.
    """

    added: int
    double: int
    mixed: list[str]


def merge(ledgers: Sequence[str | Path], out: str | Path, *, force: bool = False) -> Merged:
    """Add the episodes of ``ledgers`` to the one in the folder ``out``, films and manifests included.

    Everything is checked before anything is written.

    Args:
        ledgers: ledgers or their folders.
        out: folder; made if need be, and gone on with if it holds a ledger.
        force: merge runs of unlike weights, detector, versions or machine; summary and report say so.

    Raises:
        FileNotFoundError: no such ledger.
        ValueError: no episodes, a damaged ledger, runs that were asked different things, or unlike ones
            without ``force``.
    """
    target = Path(out) / LEDGER
    files = [ledger_file(path) for path in ledgers]
    sources = [Ledger(file) for file in files]
    before = Ledger(target) if target.exists() else None
    everything = [*([before] if before else []), *sources]
    provenance = Provenance()
    for ledger in everything:
        provenance = provenance.joined(Provenance.load(ledger.path))
    reference = _reference(everything, provenance)
    for ledger in everything:
        check_alike(ledger.path, ledger.records, provenance, reference, force=force)
    target.parent.mkdir(parents=True, exist_ok=True)
    merged = Ledger(target)
    there = len(merged.records)
    with merged.locked():
        provenance.joined(Provenance.load(target)).save(target)
    for ledger in sources:
        _copy_films(ledger, merged)
        merged.append(ledger.records)
    added = len(merged.records) - there
    offered = sum(len(ledger.records) for ledger in sources)
    return Merged(added, offered - added, differences(merged.records, provenance, reference))


def _reference(ledgers: Sequence[Ledger], provenance: Provenance) -> Manifest:
    """The run that the others must be like: the first whose manifest was kept."""
    names = (record.manifest or "" for ledger in ledgers for record in ledger.records)
    found = next((provenance.manifests[name] for name in names if name in provenance.manifests), None)
    if found is None:
        raise ValueError(
            "none of these ledgers says how it was made (they are empty, or from before manifests were "
            "kept), so nobody can tell whether they go together; run v2w rank on one of them again, which "
            "adds the manifest"
        )
    return found


def _copy_films(source: Ledger, target: Ledger) -> None:
    """Films of those records that will count: that of another run of the same episode shows another one."""
    there, here = (Films(ledger.path.parent / "frames") for ledger in (source, target))
    known = {record.key: record for record in target.records}
    for record in source.records:
        other = known.get(record.key)
        if other is None or other == record or record.replaces(other):
            here.adopt(there, record.policy, record.start_id)
