"""Models of the transformers library, from a folder or the hub, with errors that say what to type."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

from v2w_gym.weights import dtype_of

Dtype = Literal["auto", "fp32", "bf16"]
INSTALL = 'pip install "v2w_gym[judges]"'
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A model with what prepares its inputs, and a name for both.

    Attributes:
        model: on its device, for inference.
        processor: of the same folder.
        hash: twelve hexadecimal digits that name all files of the folder.
    """

    model: Any
    processor: Any
    hash: str


_open: WeakValueDictionary[tuple[str, ...], Pretrained] = WeakValueDictionary()


def open_pretrained(
    source: str, *, task: str, processor: str, dtype: Dtype = "auto", device: str = "cpu", fits: str
) -> Pretrained:
    """Load a model; judges that ask the same model on the same device share it.

    Args:
        source: folder, or hub id, with ``@revision`` if it is not the newest.
        task: transformers' class of models, e.g. ``"AutoModelForVideoClassification"``.
        processor: its class of processors, e.g. ``"AutoImageProcessor"``.
        dtype: of the weights; ``"auto"`` takes the one that they were saved in.
        device: where it runs.
        fits: which models fit ``task``, for the error about one that does not.

    Raises:
        ImportError: transformers, or a package that the processor needs, is not installed.
        FileNotFoundError: neither a folder nor on the hub.
        ValueError: a model of another kind, or damaged files.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"this judge needs transformers: {INSTALL}") from error
    folder = _folder(source)
    key = (str(folder.resolve()), task, dtype, device)
    if (known := _open.get(key)) is not None:
        return known
    wanted = "auto" if dtype == "auto" else dtype_of(dtype)
    try:
        prepare = getattr(transformers, processor).from_pretrained(folder)
    except ImportError as error:  # torchvision, say
        first = str(error).strip().partition("\n")[0]
        raise ImportError(
            f"the processor of {source} needs a further package ({first}): {INSTALL}"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{source} holds no processor that transformers can read: {error}") from error
    try:
        model = getattr(transformers, task).from_pretrained(folder, dtype=wanted)
    except ValueError as error:
        raise ValueError(f"{source} cannot be this judge's model; it must be {fits}: {error}") from error
    except OSError as error:
        raise ValueError(
            f"the weights in {source} are missing or damaged; fetch them again: {error}"
        ) from error
    loaded = Pretrained(model.to(device).eval().requires_grad_(False), prepare, _digest(folder))
    _open[key] = loaded
    return loaded


def _folder(source: str) -> Path:
    """The folder itself, or what the hub gives."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=_WANTED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise FileNotFoundError(
            f"no model {source!r}: there is no such folder, and the hub did not give it ({first}); check the "
            f"spelling, the network and your rights, or, on a machine with a network, type "
            f"`hf download {repository} --local-dir FOLDER`, and say model: FOLDER"
        ) from error


def _digest(folder: Path) -> str:
    """Names the contents of all files that make a model; notes and pictures beside them do not count."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in [*_WANTED, "*.bin"] for path in folder.glob(pattern)}):
        digest.update(path.name.encode())
        digest.update(_sha256(path))
    return digest.hexdigest()[:12]


def _sha256(path: Path) -> bytes:
    """Of a file's content; the hub's cache names large files by it, which saves reading gigabytes."""
    stored = path.resolve().name
    if _SHA256.fullmatch(stored):
        return bytes.fromhex(stored)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
