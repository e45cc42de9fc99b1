"""What the released text tower says of an empty caption, the only one that the models were trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from v2w_gym.weights import fill_strictly
from v2w_gym.world_model.released.openclip import BLOCKS, MISSING, unfused
from v2w_gym.world_model.released.rename import rename


@dataclass(frozen=True)
class TextTowerConfig:
    """Sizes of the tower; the defaults are ViT-H-14, which all released models use.

    Attributes:
        width: width of a token.
        layers: number of layers.
        heads: number of attention heads.
        context_length: number of tokens.
        vocabulary: number of words; the last two begin and end a caption.
        mlp_ratio: hidden width of the feed-forward part, as a multiple of ``width``.
    """

    width: int = 1024
    layers: int = 24
    heads: int = 16
    context_length: int = 77
    vocabulary: int = 49408
    mlp_ratio: int = 4


RULES = [
    (r"token_embedding\.weight", r"embeddings.token_embedding.weight"),
    (r"positional_embedding", r"embeddings.position_embedding.weight"),
    (r"ln_final\.(\w+)", r"final_layer_norm.\1"),
    *BLOCKS,
]
IGNORED = ("text_projection", "logit_scale")  # to the space shared with images


@torch.no_grad()
def empty_caption(weights: Mapping[str, torch.Tensor], config: TextTowerConfig) -> torch.Tensor:
    """The text tokens that every frame's context begins with, ``(context_length, width)`` float32.

    They are read one layer before the last, and normalised as after the last. A constant: the tower itself is
    of no further use.

    Args:
        weights: part ``text_tower`` of the checkpoint.
        config: its sizes.

    Raises:
        ImportError: transformers is not installed.
        ValueError: weights and sizes that do not fit each other.
    """
    try:
        from transformers import CLIPTextConfig, CLIPTextModel
    except ImportError as error:
        raise ImportError(MISSING) from error
    with torch.device("meta"):
        tower = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=config.width,
                intermediate_size=config.width * config.mlp_ratio,
                num_hidden_layers=config.layers - 1,
                num_attention_heads=config.heads,
                max_position_embeddings=config.context_length,
                vocab_size=config.vocabulary,
                hidden_act="gelu",
                bos_token_id=config.vocabulary - 2,
                eos_token_id=config.vocabulary - 1,
                pad_token_id=0,
            )
        )
    places = torch.arange(config.context_length)[None]
    tower.embeddings.register_buffer("position_ids", places, persistent=False)  # not among the weights
    last = f"transformer.resblocks.{config.layers - 1}."
    read = {name: value for name, value in unfused(weights).items() if not name.startswith(last)}
    fill_strictly(tower, rename(read, RULES, IGNORED)).eval()
    words = torch.zeros(1, config.context_length, dtype=torch.int64)
    words[0, :2] = torch.tensor([config.vocabulary - 2, config.vocabulary - 1])
    tokens: torch.Tensor = tower(words).last_hidden_state[0]
    return tokens
