"""A checkpoint of the stub's tiny policy, in the layout of LeRobot's."""

import json
from pathlib import Path

IMAGE = {"observation.image": {"type": "VISUAL", "shape": [3, 24, 24]}}


def write_checkpoint(folder, inputs=IMAGE, actions=3, **changes):
    """Write it into ``folder``, with changes to its config; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    outputs = {"action": {"type": "ACTION", "shape": [actions]}}
    config = {"type": "tiny", "input_features": inputs, "output_features": outputs, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "scales.json").write_text(json.dumps({"pre": 0.5, "post": 2.0}))
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "policy_postprocessor_step_0.safetensors").write_bytes(b"mean and std")
    return folder
