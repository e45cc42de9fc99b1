"""A second opinion: the same episodes in a ledger of their own, with the verdicts of another judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.ledger import Ledger, Record
from v2w_gym.evaluation.manifest import Manifest, Provenance
from v2w_gym.evaluation.mixing import check_alike
from v2w_gym.evaluation.outcomes import SCORES
from v2w_gym.evaluation.protocol import Protocol
from v2w_gym.evaluation.rereading import LEDGER
from v2w_gym.evaluation.rules import CLIP
from v2w_gym.evaluation.stats import cohen_kappa
from v2w_gym.rewards.judge import ClipJudge, Verdict

_VERDICTS: tuple[Verdict, ...] = ("success", "failure", "unscorable")


@dataclass(frozen=True)
class Opinion:
    """What makes the records of another judge.

    Attributes:
        judge: the other one.
        named: what it was opened from, if anything.
        protocol: the conditions of the episodes.
        provenance: their runs.
        command: what the user typed.
    """

    judge: ClipJudge
    named: str | None
    protocol: Protocol
    provenance: Provenance
    command: str

    def begin(self, ledger: Ledger, folder: Path, world: str) -> Ledger:
        """Sign the judge in at a ledger in ``folder``, and put the films there; checks come first.

        Args:
            ledger: of the episodes.
            folder: another one than that of ``ledger``; may hold what an earlier call has left.
            world: where it was opened.

        Raises:
            ValueError: the folder is that of ``ledger``, or holds a ledger of another kind.
        """
        if folder.resolve() == ledger.path.parent.resolve():
            raise ValueError(f"other verdicts need a folder of their own, got the ledger's {folder}")
        path, manifests = folder / LEDGER, [self._manifest(name) for name in self._names(ledger.records)]
        ours = {manifest.hash for manifest in manifests}
        there = Ledger(path).records if path.exists() else []
        if strange := {r.detector_hash for r in there if r.detector_hash != self.judge.hash}:
            raise ValueError(
                f"{path} holds verdicts of {', '.join(sorted(strange))}, this judge is {self.judge.hash}; "
                "give it another --out (in Python: out=)"
            )
        if manifests:  # episodes of unlike runs that were mixed there may be mixed here
            others = [record for record in there if record.manifest not in ours]
            check_alike(path, others, Provenance.load(path), manifests[0], force=False)
        folder.mkdir(parents=True, exist_ok=True)
        theirs = Ledger(path)
        with theirs.locked():
            known = Provenance.load(path)
            for manifest in manifests:
                if manifest.hash not in known.manifests:
                    planned = self.provenance.starts or None
                    known = known.with_run(manifest, self.command, world, self.named, planned)
            known.save(path)
        films, own = Films(ledger.path.parent / "frames"), Films(folder / "frames")
        for record in ledger.records:
            own.adopt(films, record.policy, record.start_id)
        return theirs

    def missing(self, records: Sequence[Record], there: Sequence[Record]) -> list[Record]:
        """The episodes of ``records`` that have no verdict of this judge in ``there``, to be shown to it."""
        known = {record.key: record for record in there}
        blank = [known.get(record.key, self._unasked(record)) for record in records]
        return [record for record in blank if record.verdict == "unscorable"]

    def _unasked(self, record: Record) -> Record:
        known = record.manifest in self.provenance.manifests
        manifest = self._manifest(record.manifest) if known and record.manifest else None
        protocol = protocol_by(self.judge, self.protocol) if manifest is None else manifest.protocol
        return replace(
            record,
            verdict="unscorable",
            probability=None,
            probabilities=(),
            success_rule=CLIP,
            detector_hash=self.judge.hash,
            config_hash=protocol.hash,
            reason=None,
            manifest=None if manifest is None else manifest.hash,
            tokens=0,
            cost=None,
        )

    def _names(self, records: Sequence[Record]) -> list[str]:
        names = dict.fromkeys(record.manifest for record in records)
        return [name for name in names if name is not None and name in self.provenance.manifests]

    def _manifest(self, name: str) -> Manifest:
        """A manifest of the episodes, with this judge in place of theirs."""
        manifest = self.provenance.manifests[name]
        return replace(manifest, protocol=protocol_by(self.judge, manifest.protocol))


def protocol_by(judge: ClipJudge, protocol: Protocol) -> Protocol:
    """``protocol`` with ``judge`` in place of whoever gave the verdicts."""
    return replace(protocol, success_rule=CLIP, threshold=float(judge.threshold), detector_hash=judge.hash)


def format_agreement(first: Sequence[Record], second: Sequence[Record]) -> str:
    """How far two judges agree on the episodes that both were shown; a table with Cohen's kappa below it."""
    other = {record.key: record.verdict for record in second}
    pairs = [(record.verdict, other[record.key]) for record in first if record.key in other]
    heads = [f"then {verdict}" for verdict in _VERDICTS]
    lines = ["".join([f"{'':16}", *(f"{head:>18}" for head in heads)])]
    for verdict in _VERDICTS:
        counts = [sum(pair == (verdict, theirs) for pair in pairs) for theirs in _VERDICTS]
        lines.append("".join([f"{'first ' + verdict:16}", *(f"{count:18d}" for count in counts)]))
    a, b = (np.array([SCORES[pair[i]] for pair in pairs], np.float64) for i in (0, 1))
    kappa = cohen_kappa(first=a, second=b)
    both = ~np.isnan(a) & ~np.isnan(b)
    said = "undefined" if np.isnan(kappa.value) else f"{kappa.value:.2f} [{kappa.low:.2f}, {kappa.high:.2f}]"
    alike = int((a[both] == b[both]).sum())
    lines.append(
        f"the same verdict in {alike} of {int(both.sum())} episodes that both scored; Cohen's kappa {said}"
    )
    return "\n".join(lines)
