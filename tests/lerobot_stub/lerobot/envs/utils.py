"""As ``lerobot/envs/utils.py``: an environment's arrays become tensors under LeRobot's names."""

import numpy as np
import torch

import lerobot


def _picture(array):
    tensor = torch.from_numpy(array)
    tensor = tensor[None] if tensor.ndim == 3 else tensor
    _, h, w, c = tensor.shape
    assert c < h, "channel last"
    assert c < w, "channel last"
    assert tensor.dtype == torch.uint8
    return tensor.permute(0, 3, 1, 2).contiguous().float() / 255


def preprocess_observation(observations):
    lerobot.calls.append("preprocess_observation")
    made = {}
    pixels = observations.get("pixels")
    if isinstance(pixels, dict):
        made |= {f"observation.images.{name}": _picture(array) for name, array in pixels.items()}
    elif pixels is not None:
        made["observation.image"] = _picture(pixels)
    if "agent_pos" in observations:
        state = torch.from_numpy(observations["agent_pos"]).float()
        made["observation.state"] = state[None] if state.ndim == 1 else state
    for name, value in observations.items():
        if name not in ("pixels", "agent_pos") and isinstance(value, np.ndarray):
            made[f"observation.{name}"] = torch.from_numpy(value).float()
    return made
