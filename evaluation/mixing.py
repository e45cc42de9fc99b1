"""Episodes of unlike runs do not go together unless somebody insists; then it is said wherever they count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from v2w_gym.evaluation.ledger import Record
from v2w_gym.evaluation.manifest import Manifest, Provenance

ASKED = ("seed", "success_rule", "instruction")
"""What was asked of the policies; nobody can mix answers to different questions."""


def check_alike(
    path: Path, records: Sequence[Record], provenance: Provenance, manifest: Manifest, *, force: bool
) -> None:
    """Make sure that ``records`` were made as a run with ``manifest`` makes them.

    Args:
        path: of their ledger, for messages.
        records: finished episodes.
        provenance: what is known of their runs.
        manifest: of the run that they are to go with.
        force: let them go together though weights, detector, versions or machine differ.

    Raises:
        ValueError: they were made otherwise; says in what they differ.
    """
    protocol = manifest.protocol
    for record in records:
        asked = [
            f"{name} {getattr(record, name)!r} there, {getattr(protocol, name)!r} here"
            for name in ASKED
            if getattr(record, name) != getattr(protocol, name)
        ]
        if asked:
            raise ValueError(
                f"{path}: the episode of {record.policy!r} from start {record.start_id!r} was made under "
                f"other conditions ({'; '.join(asked)}), so its "
                "episodes cannot be mixed with these; write to another folder with --out (in Python: out=)"
            )
    differing = differences(records, provenance, manifest)
    if differing and not force:
        raise ValueError(
            f"{path} holds {'; '.join(differing)}. Numbers of unlike runs do not repeat: write to another "
            "folder with --out (in Python: out=), or mix them with --force (force=True), which summary and "
            "report will say"
        )


def differences(records: Sequence[Record], provenance: Provenance, manifest: Manifest) -> list[str]:
    """In what runs behind ``records`` were unlike ``manifest``; one text per kind of run, with its episodes.

    Episodes whose manifest was never kept count as alike where their conditions are.
    """
    kinds = Counter((r.manifest, r.config_hash, r.world_model_hash, r.detector_hash) for r in records)
    said: Counter[str] = Counter()
    for (name, config_hash, model, detector), episodes in kinds.items():
        known = provenance.manifests.get(name or "")
        if known is not None:
            why = manifest.differences(known)
        elif config_hash != manifest.protocol.hash:
            why = _unknown(manifest, model, detector)
        else:
            why = []
        if why:
            said["; ".join(why)] += episodes
    return [f"{episodes} episodes of another run ({why})" for why, episodes in said.items()]


def _unknown(manifest: Manifest, model: str, detector: str) -> list[str]:
    pairs = (
        ("world_model_hash", model, manifest.protocol.world_model_hash),
        ("detector_hash", detector, manifest.protocol.detector_hash),
    )
    hashes = [f"{name} {there!r} there, {here!r} here" for name, there, here in pairs if there != here]
    return hashes or ["world version, horizon or detector threshold differ"]


def origins(records: Sequence[Record]) -> dict[str, int]:
    """Manifest hash to number of episodes; ``"unknown"`` for those from before manifests were kept."""
    return dict(sorted(Counter(record.manifest or "unknown" for record in records).items()))
