"""Files of torch modules that hold no pickles: opening one runs none of its maker's Python.

The program inside is still somebody else's, so open only what you would also run.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

SAFE = (
    "torch.export.save(torch.export.export(module.eval(), (torch.zeros(2, 3, 64, 64),), "
    "dynamic_shapes=({0: torch.export.Dim.AUTO},)), 'policy.pt2')"
)
"""The line that makes a file without pickles, for 64x64 frames."""
_PLAIN = ("weight_", "tensor_")  # payloads that are bytes of a tensor
_COMPILED = ("data/aotinductor/", "data/executorch/")


@dataclass(frozen=True)
class Program:
    """A module from a file.

    Attributes:
        forward: images ``(b, 3, h, w)`` to actions.
        batch: the only b that it takes; None takes any.
    """

    forward: Callable[[torch.Tensor], Any]
    batch: int | None = None


def open_program(path: Path, device: str = "cpu") -> Program:
    """Open an exported or a scripted module.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a pickle, or none of either kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; make one: {SAFE}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            inside = {name.partition("/")[2]: name for name in names}
            if any(name.startswith("models/") for name in inside):
                _refuse_pickles(archive, inside, path)
                return _exported(path, device)
    except zipfile.BadZipFile as error:
        raise ValueError(_no_program(path)) from error
    if not any(name.startswith("code/") for name in inside):
        raise ValueError(_no_program(path))
    return _scripted(path, device)


def _no_program(path: Path) -> str:
    return (
        f"{path} is no exported or scripted module: it may be a pickle (torch.save), which can run code when "
        f"it is opened; build the module and load its weights yourself, then write a safe file: {SAFE}"
    )


def _refuse_pickles(archive: zipfile.ZipFile, inside: dict[str, str], path: Path) -> None:
    """Raise ``ValueError`` at what ``torch.export.load`` would unpickle, or load as machine code."""
    found = [name for name in inside if name.startswith(_COMPILED)]
    for short, name in inside.items():
        if short.startswith("data/") and short.endswith("_config.json"):
            payloads = json.loads(archive.read(name)).get("config", {}).values()
            found += [
                str(payload.get("path_name"))
                for payload in payloads
                if payload.get("use_pickle") or not str(payload.get("path_name")).startswith(_PLAIN)
            ]
        elif short.endswith(".pt") and archive.getinfo(name).file_size:
            try:  # sample inputs: torch would fall back to unpickling anything
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            except Exception:
                found.append(short)
    if found:
        raise ValueError(f"{path} holds pickles or machine code ({', '.join(found)}); write it anew: {SAFE}")


def _exported(path: Path, device: str) -> Program:
    try:
        program = torch.export.load(str(path))
    except Exception as error:  # of many kinds, from deep inside
        raise ValueError(f"{path} could not be loaded: {error}; write it anew: {SAFE}") from error
    inputs = {n.name: n.meta["val"] for n in program.graph.nodes if n.op == "placeholder"}
    shapes = [inputs[name].shape for name in program.graph_signature.user_inputs if name in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3:
        raise ValueError(f"{path} takes inputs {[list(s) for s in shapes]}, expected one image (b, 3, h, w)")
    batch = shapes[0][0]
    return Program(program.module().to(device), batch if isinstance(batch, int) else None)


def _scripted(path: Path, device: str) -> Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch wishes for exported programs; both work
        try:
            return Program(torch.jit.load(str(path), map_location=device).eval())
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} could not be loaded: {error}; write it anew: {SAFE}") from error
