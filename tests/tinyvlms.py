"""Tiny vision-language models and video classifiers of real architectures, saved as a user would find them.

Weights are random; tokenizer, processor, configuration and files are of the real kinds.
"""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from v2w_gym.rewards.judges import open_judge

CORPUS = [
    "These pictures were taken one after another while a robot was asked to close the drawer",
    "Has the robot completed the task? Answer with one word, yes or no. Yes No YES NO yes no",
    "Decide whether the above statement is True or not. The answer is: True False",
    "0 1 2 3 4 5 grade User: Assistant: assistant user system",
]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}IMAGE{% elif c.type == 'video' %}VIDEO{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tokenizer(special: list[str], **roles: str):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def _save(folder: Path, model, processor) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _liven(model):
    """Larger weights, so that what is shown and said changes probabilities visibly."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6.0)
    return model


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def idefics3(folder: Path, context: int = 4096) -> Path:
    """The family of SmolVLM: pictures of 16x16 become 4 tokens each."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    special = ["<pad>", "<end_of_utterance>", "<|im_start|>", "<|im_end|>", "<image>"]
    special += ["<fake_token_around_image>", "<global-img>"]
    tokenizer = _tokenizer(special, pad_token="<pad>", eos_token="<|im_end|>", bos_token="<|im_start|>")
    pictures = Idefics3ImageProcessor(
        size={"longest_edge": 16}, max_image_size={"longest_edge": 16}, do_image_splitting=False
    )
    chat = CHAT.replace("IMAGE", "<image>")
    processor = Idefics3Processor(pictures, tokenizer, image_seq_len=4, chat_template=chat)
    torch.manual_seed(0)
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        scale_factor=2,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "pad_token_id": 0,
            "max_position_embeddings": context,
            **TEXT,
        },
    )
    return _save(folder, _liven(Idefics3ForConditionalGeneration(config)), processor)


def paligemma(folder: Path) -> Path:
    """No chat template: pictures, then a prefix."""
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
    )

    tokenizer = _tokenizer(
        ["<pad>", "<eos>", "<bos>", "<image>"], pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )
    pictures = SiglipImageProcessor(size={"height": 16, "width": 16})
    pictures.image_seq_length = 4
    processor = PaliGemmaProcessor(pictures, tokenizer)
    torch.manual_seed(0)
    config = PaliGemmaConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        projection_dim=32,
        hidden_size=32,
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "projection_dim": 32,
        },
        text_config={
            "model_type": "gemma",
            "vocab_size": len(tokenizer),
            "pad_token_id": 0,
            "head_dim": 16,
            **TEXT,
        },
    )
    return _save(folder, _liven(PaliGemmaForConditionalGeneration(config)), processor)


VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


def _qwen(folder: Path, name: str, video_processor, **vision) -> Path:
    """Reads pictures and videos; the processor needs torchvision."""
    import transformers

    special = ["<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>"]
    tokenizer = _tokenizer(special, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    start, end, image, video = tokenizer.convert_tokens_to_ids(special[3:])
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    sizes["size"] = {"shortest_edge": 64, "longest_edge": 8192}
    chat = CHAT
    for kind, token in (("IMAGE", "image"), ("VIDEO", "video")):
        chat = chat.replace(kind, f"<|vision_start|><|{token}_pad|><|vision_end|>")
    pictures = transformers.Qwen2VLImageProcessor(**sizes)
    processor = getattr(transformers, f"{name}Processor")(
        pictures, tokenizer, video_processor(**sizes), chat_template=chat
    )
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        pad_token_id=0,
        vision_config=VISION | vision,
        text_config={
            "vocab_size": len(tokenizer),
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 0,
            "head_dim": 16,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
            **TEXT,
        },
    )
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    return _save(folder, _liven(model), processor)


def qwen2_5_vl(folder: Path) -> Path:
    """Counts time along its rotary positions."""
    from transformers import Qwen2VLVideoProcessor

    return _qwen(folder, "Qwen2_5_VL", Qwen2VLVideoProcessor, window_size=32, fullatt_block_indexes=[1])


def qwen3_vl(folder: Path) -> Path:
    """Writes the time of each frame of a video into its prompt."""
    from transformers import Qwen3VLVideoProcessor

    layers = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    return _qwen(folder, "Qwen3VL", Qwen3VLVideoProcessor, **layers)


def videomae(folder: Path, labels: tuple[str, ...] = ("failure", "success")) -> Path:
    """A classifier of clips of four 16x16 frames, as WMPO's reward model is one of larger clips."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEImageProcessor

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=16,
        patch_size=8,
        num_frames=4,
        tubelet_size=2,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        decoder_hidden_size=16,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    model = VideoMAEForVideoClassification(config)
    with torch.no_grad():
        model.classifier.weight.normal_(0.0, 0.5)
    processor = VideoMAEImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return _save(folder, model, processor)


def opened(path: Path, **settings):
    """The judge of these settings, through a file at ``path`` as users write it."""
    path.write_text(yaml.safe_dump(settings))
    return open_judge(path)
