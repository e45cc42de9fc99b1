"""Where a model comes from: a world folder, the hub, or a checkpoint file, which is converted once."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from v2w_gym.world_model.released.presets import check_domain
from v2w_gym.world_model.released.staging import FORMAT

WORLD_FILE = "world.json"
CHECKPOINTS = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_WORLD_FILES = ["*.json", "*.safetensors", "*.npz", "*.md"]


def located(
    source: str | Path,
    config: str | Path | None = None,
    domain: str | None = None,
    *,
    local_only: bool = False,
) -> Path:
    """The world folder that ``source`` means.

    Args:
        source: a world folder, which is itself; a checkpoint file, or a folder with a single one, which is
            converted into the cache and found there the next time; or a hub id ``owner/name`` of either.
        config: sizes of a checkpoint file; see ``convert``. A world folder has its own.
        domain: what the model must have been trained on; None takes any.
        local_only: take of the hub only what was fetched before.

    Raises:
        FileNotFoundError: nothing of that name, here or on the hub, or neither a world nor a checkpoint
            in it.
        ValueError: several checkpoints to choose from, a model of another domain, or what ``convert``
            raises.
        OSError: too little disk space.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return _converted(path, config, domain)
    if path.is_dir():
        return _in_folder(path, config, domain)
    if _HUB_ID.fullmatch(str(source)):
        return _in_folder(_fetched(str(source), local_only), config, domain)
    raise FileNotFoundError(
        f"no model at {source}: expected a world folder, a checkpoint file ({', '.join(CHECKPOINTS)}) or a "
        "hub id owner/name"
    )


def cache_folder() -> Path:
    """Where conversions are kept: ``V2W_CACHE``, or ``~/.cache/v2w_gym``."""
    return Path(os.environ.get("V2W_CACHE") or "~/.cache/v2w_gym").expanduser()


def _in_folder(folder: Path, config: str | Path | None, domain: str | None) -> Path:
    if (folder / WORLD_FILE).is_file():
        _check_world(folder, domain)
        return folder
    names = [path.name for path in folder.iterdir() if path.is_file()]
    return _converted(folder / _only_checkpoint(names, str(folder)), config, domain)


def _check_world(folder: Path, domain: str | None) -> None:
    """See that a converted model reads the actions of ``domain``."""
    sizes = folder / "unet" / "config.json"
    if domain is not None and sizes.is_file():
        check_domain(domain, int(json.loads(sizes.read_text())["action_dim"]), str(folder))


def _only_checkpoint(names: Sequence[str], where: str) -> str:
    found = sorted(name for name in names if Path(name).suffix in CHECKPOINTS)
    if len(found) == 1:
        return found[0]
    if not found:
        raise FileNotFoundError(
            f"{where} is neither a world (no {WORLD_FILE}) nor does it hold a checkpoint "
            f"({', '.join(CHECKPOINTS)})"
        )
    raise ValueError(f"{where} holds {len(found)} checkpoints: {', '.join(found)}; give the path of one file")


def _converted(path: Path, config: str | Path | None, domain: str | None) -> Path:
    """The conversion of a file, made where it is not in the cache yet."""
    from v2w_gym.world_model.released.convert import convert
    from v2w_gym.world_model.released.sizes import beside

    config = beside(path) if config is None else config
    path, stat = path.resolve(), path.stat()
    sizes = "" if config is None else Path(config).expanduser().read_text()
    named = f"{FORMAT}\n{path}\n{stat.st_size}\n{stat.st_mtime_ns}\n{sizes}"
    out = cache_folder() / "converted" / f"{path.stem}-{hashlib.sha256(named.encode()).hexdigest()[:12]}"
    if not out.is_dir():
        convert(path, out, config=config, domain=domain)
    _check_world(out, domain)
    return out


def _fetched(repository: str, local_only: bool) -> Path:
    """The snapshot of a repository with the files that are needed; goes on where a download broke off."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        if local_only:
            return Path(snapshot_download(repository, local_files_only=True))
        try:
            names = HfApi().list_repo_files(repository)
        except (HfHubHTTPError, OSError) as error:  # offline, or gone: what was fetched before will do
            try:
                return Path(snapshot_download(repository, local_files_only=True))
            except LocalEntryNotFoundError:
                raise error from None
        wanted = _WORLD_FILES if WORLD_FILE in names else [_only_checkpoint(names, f"hub:{repository}")]
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise FileNotFoundError(
            f"no model {repository!r}: there is no such file or folder, and the hub did not give it "
            f"({first}); check the spelling, the network and your rights, or, on a machine with a network, "
            f"type `hf download {repository} --local-dir FOLDER`, and pass FOLDER"
        ) from error
