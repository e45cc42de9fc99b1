"""Vision-language-action checkpoints through transformers, with their own code only where that is allowed."""

from __future__ import annotations

from typing import Any

from v2w_gym.weights import dtype_of

_OLD = "AutoModelForVision2Seq"
"""The name under which OpenVLA's checkpoints register their class; transformers 5 has dropped it."""


def load_vla(folder_or_id: str, trust_remote_code: bool, device: str, dtype: str) -> tuple[Any, Any]:
    """Model in evaluation mode on ``device``, and processor.

    Raises:
        ImportError: transformers is missing.
        ValueError: the checkpoint needs its own code, which was not allowed; or is no such checkpoint.
    """
    try:
        import transformers
        from transformers.dynamic_module_utils import get_class_from_dynamic_module
    except ImportError as error:
        raise ImportError('vision-language-action models need: pip install "v2w_gym[judges]"') from error
    try:
        config = transformers.AutoConfig.from_pretrained(folder_or_id, trust_remote_code=trust_remote_code)
        processor = transformers.AutoProcessor.from_pretrained(
            folder_or_id, trust_remote_code=trust_remote_code
        )
        own = (getattr(config, "auto_map", None) or {}).get(_OLD) if trust_remote_code else None
        kind = transformers.AutoModelForImageTextToText
        if own is not None:
            kind = get_class_from_dynamic_module(own, folder_or_id)
            allowed = {}
        else:
            allowed = {"trust_remote_code": trust_remote_code}
        model = kind.from_pretrained(folder_or_id, dtype=dtype_of(dtype), **allowed)
    except (OSError, ValueError, KeyError) as error:
        hint = (
            ""
            if trust_remote_code
            else "; if the checkpoint comes with Python files of its own, read them, then allow them: "
            "trust_remote_code=True"
        )
        raise ValueError(f"{folder_or_id} could not be loaded with transformers: {error}{hint}") from error
    return model.to(device).eval(), processor
