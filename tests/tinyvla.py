"""A checkpoint in OpenVLA's layout at toy size: files of its own, which transformers loads and runs.

The model offers what OpenVLA's class offers, written anew: ``norm_stats``, ``predict_action`` of one row of
tokens with ``unnorm_key``, and assertions where its own are. Its seven tokens depend on picture and prompt.
"""

import json

CONFIGURATION = """
from transformers import PretrainedConfig

class TinyVlaConfig(PretrainedConfig):
    model_type = "tinyvla"

    def __init__(self, norm_stats=None, n_action_bins=256, **kwargs):
        self.norm_stats, self.n_action_bins = norm_stats, n_action_bins
        super().__init__(**kwargs)
"""

MODELING = """
import numpy as np
import torch
from transformers import PreTrainedModel

from .configuration_tinyvla import TinyVlaConfig

class TinyVla(PreTrainedModel):
    config_class = TinyVlaConfig

    def __init__(self, config):
        super().__init__(config)
        self.norm_stats = config.norm_stats
        self.weight = torch.nn.Parameter(torch.ones(7))
        self.post_init()

    def _init_weights(self, module):
        pass

    def generate(self, input_ids, max_new_tokens, pixel_values, attention_mask, do_sample):
        assert do_sample is False and pixel_values.dtype == self.dtype
        assert len(input_ids) == len(pixel_values) == 1, "one row, as OpenVLA reads generated_ids[0] alone"
        level = pixel_values.float().mean() * 100 + input_ids.sum() % 50
        tokens = (level + 10 * torch.arange(max_new_tokens) * self.weight.float()).long() % 256
        return torch.cat([input_ids, tokens[None]], dim=1)

    def predict_action(self, input_ids=None, unnorm_key=None, **kwargs):
        assert unnorm_key in self.norm_stats
        stats = self.norm_stats[unnorm_key]["action"]
        count = len(stats["q01"])
        tokens = self.generate(input_ids, max_new_tokens=count, **kwargs)[0, -count:].numpy()
        bins = np.linspace(-1, 1, self.config.n_action_bins)
        normalised = ((bins[:-1] + bins[1:]) / 2)[np.clip(tokens, 0, len(bins) - 2)]
        low, high = np.array(stats["q01"]), np.array(stats["q99"])
        undone = 0.5 * (normalised + 1) * (high - low) + low
        return np.where(stats.get("mask", np.ones(count, bool)), undone, normalised)
"""

PROCESSING = """
import numpy as np
import torch
from transformers import BatchFeature

class TinyVlaProcessor:
    @classmethod
    def register_for_auto_class(cls):
        pass

    @classmethod
    def from_pretrained(cls, folder, **kwargs):
        return cls()

    def __call__(self, text, images, return_tensors="pt"):
        small = np.asarray(images.convert("RGB").resize((8, 8)), np.float32) / 255
        ids = torch.tensor([[ord(letter) for letter in text]])
        pixels = torch.from_numpy(small).permute(2, 0, 1)[None]
        mask = torch.ones_like(ids)
        return BatchFeature({"input_ids": ids, "attention_mask": mask, "pixel_values": pixels})
"""

MASK = [True] * 6 + [False]


def statistics(scale=1.0):
    """Of one data set, as ``norm_stats`` holds them."""
    q99 = [0.1 * scale] * 3 + [0.2 * scale] * 3 + [1.0]
    return {"action": {"q01": [-q for q in q99[:6]] + [0.0], "q99": q99, "mask": MASK}}


NORM_STATS = {"fractal20220817_data": statistics(), "bridge_orig": statistics(0.25)}


def write(folder, norm_stats=NORM_STATS, auto_model="AutoModelForVision2Seq"):
    """Write the checkpoint into ``folder``; returns it."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "configuration": CONFIGURATION,
        "modeling": MODELING,
        "processing": PROCESSING,
    }.items():
        (folder / f"{name}_tinyvla.py").write_text(text)
    auto_map = {
        "AutoConfig": "configuration_tinyvla.TinyVlaConfig",
        auto_model: "modeling_tinyvla.TinyVla",
        "AutoProcessor": "processing_tinyvla.TinyVlaProcessor",
    }
    config = {"model_type": "tinyvla", "auto_map": auto_map, "norm_stats": norm_stats}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "processor_config.json").write_text(json.dumps({"auto_map": auto_map}))
    save_file({"weight": torch.ones(7)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
