"""What a run's numbers hang on, down to the libraries: the determinism manifest, kept beside the ledger.

``ledger.manifest.json`` beside ``ledger.jsonl``: ``{"manifests": {hash: manifest}, "runs": [{"command",
"manifest", "world", "began", "judge", "starts"}]}``. Every record names its manifest.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from v2w_gym import __version__
from v2w_gym.config import config_hash, from_dict, to_dict
from v2w_gym.evaluation.protocol import Protocol

LIBRARIES = ("torch", "diffusers", "numpy", "gymnasium", "tensordict", "einops")


@dataclass(frozen=True)
class Manifest:
    """Runs with equal manifests give equal numbers, bit for bit; with unlike ones nobody can promise that.

    Attributes:
        protocol: the conditions of the ranking: seed, success rule, world, hashes of weights and detector.
        sampler: how frames are sampled, value by value.
        precision: dtype of the weights, and how single-precision matrix products are computed.
        device: kind of machine that the world model ran on, e.g. ``"cpu x86_64 AVX512"``.
        threads: of torch on the CPU.
        v2w_gym: version of this package.
        python: version.
        libraries: name to version.
    """

    protocol: Protocol
    sampler: Mapping[str, Any]
    precision: str
    device: str
    threads: int
    v2w_gym: str
    python: str
    libraries: Mapping[str, str]

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits for all of the above."""
        return config_hash(self)

    def differences(self, other: Manifest) -> list[str]:
        """In what ``other`` differs, one text per value, e.g. ``"threads 1 there, 2 here"``; here is self."""
        here, there = _flat(to_dict(self)), _flat(to_dict(other))
        return [
            f"{key} {there.get(key)!r} there, {here.get(key)!r} here"
            for key in sorted({*here, *there})
            if here.get(key) != there.get(key)
        ]


def manifest_of(protocol: Protocol, sampler: Mapping[str, Any], device: str) -> Manifest:
    """The manifest of a run in this process on ``device``."""
    import torch

    return Manifest(
        protocol=protocol,
        sampler=dict(sampler),
        precision=f"fp32, matrix products {torch.get_float32_matmul_precision()}",
        device=_device(device),
        threads=torch.get_num_threads(),
        v2w_gym=__version__,
        python=platform.python_version(),
        libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
    )


def _device(device: str) -> str:
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"{device} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


@dataclass(frozen=True)
class Run:
    """One start of a ranking.

    Attributes:
        command: what was typed, or the call.
        manifest: hash of its manifest.
        world: where the world was opened from.
        began: UTC, to the second.
        judge: what its judge of clips was opened from; None without one, or where it was handed over.
        starts: ids in the order of the plan; None of runs from before they were kept.
    """

    command: str
    manifest: str
    world: str
    began: str
    judge: str | None = None
    starts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Provenance:
    """Content of a manifest file.

    Attributes:
        manifests: by hash.
        runs: in the order of their beginning.
    """

    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()

    @classmethod
    def load(cls, ledger: str | Path) -> Provenance:
        """What lies beside ``ledger``; empty if nothing does, as with ledgers from before it was kept.

        Raises:
            ValueError: the file is damaged.
        """
        path = provenance_path(ledger)
        try:
            values = json.loads(path.read_text())
            return cls(
                {name: from_dict(Manifest, entry) for name, entry in values["manifests"].items()},
                tuple(from_dict(Run, entry) for entry in values["runs"]),
            )
        except FileNotFoundError:
            return cls()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); the ledger beside it is whole without it: move this file "
                "away, and the episodes count as of unknown origin"
            ) from error

    @property
    def starts(self) -> tuple[str, ...]:
        """Those of the last run that kept them, in the order of its plan; empty where none did."""
        return next((run.starts for run in reversed(self.runs) if run.starts is not None), ())

    def with_run(
        self,
        manifest: Manifest,
        command: str,
        world: str,
        judge: str | None = None,
        starts: Sequence[str] | None = None,
    ) -> Provenance:
        """One more run."""
        began = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        run = Run(command, manifest.hash, world, began, judge, None if starts is None else tuple(starts))
        return Provenance({**self.manifests, manifest.hash: manifest}, (*self.runs, run))

    def joined(self, other: Provenance) -> Provenance:
        """Both together; runs in the order of their beginning."""
        runs = sorted({*self.runs, *other.runs}, key=lambda run: (run.began, run.command))
        return Provenance({**self.manifests, **other.manifests}, tuple(runs))

    def save(self, ledger: str | Path) -> None:
        """Write it beside ``ledger``, whose lock the caller holds."""
        path = provenance_path(ledger)
        content = {
            "manifests": {name: to_dict(manifest) for name, manifest in self.manifests.items()},
            "runs": [to_dict(run) for run in self.runs],
        }
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(partial, path)


def provenance_path(ledger: str | Path) -> Path:
    """The manifest file of a ledger."""
    return Path(ledger).with_suffix(".manifest.json")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
