"""Sub-command ``credibility``: teach a world what to believe of itself, and check it."""

from __future__ import annotations

import argparse
from pathlib import Path

from v2w_gym.cli.command import Command


def _add_credibility(parser: argparse.ArgumentParser) -> None:
    from v2w_gym.registration import SHIPPED_WORLDS

    kinds = parser.add_subparsers(required=True, metavar="fit|check", dest="kind")
    fit = kinds.add_parser("fit", help="learn from recordings").add_argument
    fit("--world", type=Path, required=True, help="the world folder")
    fit("--data", nargs="+", required=True, metavar="FOLDER", help="episodes that it was trained on")
    fit("--calibration", required=True, metavar="FOLDER", help="episodes that it was not trained on")
    fit("--out", type=Path, help="where to write; default: WORLD/credibility, and the hashes of WORLD")
    fit("--episodes", type=int, default=256, help="to replay of the latter (default: %(default)s)")
    fit("--pictures", type=int, default=6000, help="frames of the former (default: %(default)s)")
    fit(
        "--tolerance",
        type=float,
        default=16.0,
        metavar="LEVELS",
        help="root mean square error, in grey levels, up to which a frame is right (default: %(default)s)",
    )
    fit(
        "--credible-from",
        type=float,
        default=0.5,
        metavar="P",
        help="mean credibility below which an episode says nothing (default: %(default)s)",
    )
    check = kinds.add_parser("check", help="hold it against other recordings").add_argument
    check("--world", default=next(iter(SHIPPED_WORLDS)), help="id, folder or hub id (default: %(default)s)")
    check("--heldout", required=True, help="folder of held-out episodes")
    check("--episodes", type=int, default=200, help="of those, at most (default: %(default)s)")
    check("--each", type=int, default=64, help="of each other folder, at most (default: %(default)s)")
    check("--device", default="cpu", help="where the world model runs, e.g. cuda (default: %(default)s)")
    check(
        "--out",
        type=Path,
        default=Path("runs/credibility"),
        help="folder for credibility.json (default: %(default)s)",
    )
    check("shifted", nargs="*", metavar="FOLDER", help="episodes that must not be believed, one a shift")


def _credibility(arguments: argparse.Namespace) -> int:
    return _fit(arguments) if arguments.kind == "fit" else _check(arguments)


def _fit(arguments: argparse.Namespace) -> int:
    from v2w_gym.envs.integrity import WORLD_FILE, write_hashes
    from v2w_gym.envs.world import World
    from v2w_gym.training.credibility import FitConfig, fit

    if not (arguments.world / WORLD_FILE).is_file():
        raise FileNotFoundError(f"{arguments.world} is no folder of a world: it has no {WORLD_FILE}")
    config = FitConfig(
        data=tuple(arguments.data),
        calibration=arguments.calibration,
        pictures=arguments.pictures,
        episodes=arguments.episodes,
        tolerance=arguments.tolerance,
        credible_from=arguments.credible_from,
    )
    out = arguments.out or arguments.world / "credibility"
    fit(World.open(arguments.world), config).save_pretrained(out)
    if arguments.out is None:
        write_hashes(arguments.world)
    print(
        f"wrote {out}; check it: v2w credibility check --world {arguments.world} --heldout FOLDER FOLDER..."
    )
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from v2w_gym.envs.world import World
    from v2w_gym.evaluation import credibility

    shifted = {Path(folder).resolve().name: folder for folder in arguments.shifted}
    if len(shifted) < len(arguments.shifted):
        raise ValueError(
            f"folders of shifts are told apart by their last names, got {' '.join(arguments.shifted)}; "
            "rename one"
        )
    report = credibility.check(
        World.open(arguments.world),
        arguments.heldout,
        shifted,
        arguments.out,
        episodes=arguments.episodes,
        each=arguments.each,
        device=arguments.device,
    )
    print(f"\n{credibility.format_check(report)}\n\nnumbers are in {arguments.out / 'credibility.json'}")
    return 0


_HELP = "teach a world what to believe of itself, and check it"
CREDIBILITY = {"credibility": Command(_HELP, _add_credibility, _credibility)}
