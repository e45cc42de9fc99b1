"""``v2w convert``: a checkpoint as its authors released it to a world folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from v2w_gym.cli.command import Command


def _add_convert(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="checkpoint file: .ckpt, .pt or .safetensors")
    add("out", type=Path, metavar="OUT", help="the world folder to make")
    add("--config", type=Path, help="JSON or YAML with sizes named as in the released yaml; default: theirs")
    add("--domain", choices=("rt1", "csgo", "recon"), help="default: read off the width of the actions")
    add("--dtype", choices=("bf16", "fp32"), help="of the weights written; default: that of the file")


def _convert(arguments: argparse.Namespace) -> int:
    from v2w_gym.envs.released import complete, domain_in
    from v2w_gym.registration import RELEASED_WORLDS
    from v2w_gym.weights import dtype_of
    from v2w_gym.world_model.released.convert import convert

    out = convert(
        arguments.source,
        arguments.out,
        config=arguments.config,
        domain=arguments.domain,
        dtype=None if arguments.dtype is None else dtype_of(arguments.dtype),
    )
    domain = domain_in(out)
    if domain is None:
        print(f'{out} is a model of no known domain, not a world: Vid2World.from_pretrained("{out}")')
        return 0
    complete(out)
    env_id = next(name for name, of in RELEASED_WORLDS.items() if of == domain)
    print(f'{out} is a world: gym.make("v2w_gym:{env_id}", weights="{out}", starts="clip.mp4")')
    return 0


CONVERT = {"convert": Command("make a world of a released checkpoint file", _add_convert, _convert)}
