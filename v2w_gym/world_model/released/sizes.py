"""What a released yaml says of its model, checked: sizes of every part, schedule, sampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from v2w_gym.config import from_dict
from v2w_gym.world_model.diffusion import ScheduleConfig
from v2w_gym.world_model.released.autoencoder import AutoencoderConfig
from v2w_gym.world_model.released.empty_caption import TextTowerConfig
from v2w_gym.world_model.released.image_tower import ImageTowerConfig
from v2w_gym.world_model.released.resampler import ResamplerConfig
from v2w_gym.world_model.released.unet import unet_config
from v2w_gym.world_model.sampler import SamplerConfig

Tower = TypeVar("Tower", ImageTowerConfig, TextTowerConfig)

_TRAINER_ONLY = {
    "": {"data", "lightning"},
    "model": {
        *("target", "base_learning_rate", "scale_lr", "pretrained_checkpoint", "better_weight_transfer"),
    },
    "model.params": {
        *("num_timesteps_cond", "log_every_t", "first_stage_key", "cond_stage_key", "cond_stage_trainable"),
        *("cond_stage_forward", "image_proj_model_trainable", "freeze_embedder", "use_ema", "uncond_prob"),
        *("uncond_type", "rand_cond_frame", "perframe_ae", "en_and_decode_n_samples_a_time", "df_loss"),
        *("action_emb", "action_dropout_prob", "action_random_drop_btw_timestep", "noise_strength"),
        *("loss_type", "monitor", "ckpt_path", "ignore_keys", "load_only_unet", "only_model", "logdir"),
        *("clip_denoised", "original_elbo_weight", "v_posterior", "l_simple_weight", "learn_logvar"),
        *("logvar_init", "scheduler_config", "use_positional_encodings", "loop_video", "encoder_type"),
    },
    "tower": {"version", "device", "freeze", "max_length", "antialias"},
}
"""Keys without a say in what a trained model computes, by the place where they stand."""


@dataclass(frozen=True)
class Stage:
    """One part, as the yaml has it."""

    params: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""


@dataclass(frozen=True)
class ModelParams:
    """``model.params``; what is left out has the public code's default.

    Attributes:
        image_size: ``(h, w)`` of a latent, in cells.
    """

    image_size: tuple[int, int]
    unet_config: Stage
    first_stage_config: Stage
    image_proj_stage_config: Stage
    parameterization: Literal["v"]
    cond_stage_config: Stage | None = None
    img_cond_stage_config: Stage | None = None
    channels: int = 4
    beta_schedule: Literal["linear"] = "linear"
    linear_start: float = 1e-4
    linear_end: float = 2e-2
    timesteps: int = 1000
    rescale_betas_zero_snr: bool = False
    use_dynamic_rescale: bool = False
    base_scale: float = 0.7
    turning_step: int = 400
    scale_factor: float = 1.0
    scale_by_std: Literal[False] = False
    conditioning_key: Literal["hybrid"] = "hybrid"
    fps_condition_type: Literal["fps"] = "fps"


@dataclass(frozen=True)
class Sizes:
    """All that converting a checkpoint must know.

    Attributes:
        unet: arguments of ``VideoUNet``.
        autoencoder: sizes of the codec.
        scale_factor: of its latents.
        resampler: sizes of the resampler.
        image_tower: sizes of the image tower; None where the file has none.
        text_tower: sizes of the text tower; None likewise.
        schedule: the noise schedule.
        frame_size: ``(h, w)`` in pixels.
        sampler: how to sample; None leaves it to the domain.
        samplers: other ways by name: values that replace those of ``sampler``.
    """

    unet: Mapping[str, Any]
    autoencoder: AutoencoderConfig
    scale_factor: float
    resampler: ResamplerConfig
    image_tower: ImageTowerConfig | None
    text_tower: TextTowerConfig | None
    schedule: ScheduleConfig
    frame_size: tuple[int, int]
    sampler: SamplerConfig | None
    samplers: Mapping[str, Mapping[str, Any]]


def read_sizes(path: str | Path) -> Sizes:
    """Read a JSON or YAML file with hyper-parameters named as in the released yaml.

    Beside ``model`` it may have the sections ``sampler``, see ``SamplerConfig``, and ``samplers``. Keys that
    only the trainer reads are skipped by name, and so are those that begin with an underscore, which are
    notes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown key, a missing one, or a value that no released model has.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no configuration file at {path}")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is neither JSON nor YAML ({error})") from error
    return sizes_from(values, str(path))


def beside(source: str | Path) -> Path | None:
    """The file of sizes that lies beside a checkpoint, ``config.json`` or ``config.yaml``, if there is one.

    A file of that name with other contents, as hub repositories have them, is none.
    """
    for name in ("config.json", "config.yaml", "config.yml"):
        path = Path(source).expanduser().with_name(name)
        try:
            values = yaml.safe_load(path.read_text())
            found = "unet_config" in values["model"]["params"]
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
            continue
        if found:
            return path
    return None


def sizes_from(values: Any, where: str = "config") -> Sizes:
    """The same from what such a file holds."""
    top = _section(values, where, "")
    if unknown := sorted(set(top) - {"model", "sampler", "samplers"}):
        raise ValueError(
            f"unknown keys {unknown} in {where}; it has a section model, and by choice sampler, samplers"
        )
    model = _section(top.get("model"), f"{where}: model", "model")
    if unknown := sorted(set(model) - {"params"}):
        raise ValueError(f"unknown keys {unknown} in {where}: model; expected params")
    inner = f"{where}: model.params"
    params = from_dict(ModelParams, _section(model.get("params"), inner, "model.params"), inner)
    unet = unet_config(params.unet_config.params)
    autoencoder = _stage(AutoencoderConfig, params.first_stage_config, f"{inner}.first_stage_config")
    _check_fit(params, unet, autoencoder, inner)
    cells = 2 ** (len(autoencoder.ddconfig.ch_mult) - 1)
    return Sizes(
        unet=unet,
        autoencoder=autoencoder,
        scale_factor=params.scale_factor,
        resampler=_stage(ResamplerConfig, params.image_proj_stage_config, f"{inner}.image_proj_stage_config"),
        image_tower=_tower(ImageTowerConfig, params.img_cond_stage_config, f"{inner}.img_cond_stage_config"),
        text_tower=_tower(TextTowerConfig, params.cond_stage_config, f"{inner}.cond_stage_config"),
        schedule=ScheduleConfig(
            num_train_timesteps=params.timesteps,
            beta_start=params.linear_start,
            beta_end=params.linear_end,
            rescale_betas_zero_snr=params.rescale_betas_zero_snr,
            use_dynamic_rescale=params.use_dynamic_rescale,
            base_scale=params.base_scale,
            turning_step=params.turning_step,
        ),
        frame_size=(params.image_size[0] * cells, params.image_size[1] * cells),
        sampler=from_dict(SamplerConfig, top["sampler"], f"{where}: sampler") if "sampler" in top else None,
        samplers=_samplers(top, where),
    )


def _samplers(top: Mapping[str, Any], where: str) -> dict[str, Mapping[str, Any]]:
    """Presets by name, each of which makes a sampler."""
    presets: dict[str, Mapping[str, Any]] = {
        name: dict(values or {}) for name, values in (top.get("samplers") or {}).items()
    }
    for name, values in presets.items():
        from_dict(SamplerConfig, {**top.get("sampler", {}), **values}, f"{where}: samplers.{name}")
    return presets


T = TypeVar("T")


def _stage(kind: type[T], stage: Stage, where: str) -> T:
    return from_dict(kind, stage.params, f"{where}.params")


def _section(values: Any, where: str, place: str) -> dict[str, Any]:
    """A mapping without what only the trainer reads, and without notes."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping of keys to values, got {type(values).__name__}")
    return {k: v for k, v in values.items() if k not in _TRAINER_ONLY[place] and not str(k).startswith("_")}


def _tower(kind: type[Tower], stage: Stage | None, where: str) -> Tower | None:
    """``params.arch`` is ViT-H-14, or a mapping of sizes."""
    if stage is None:
        return None
    params = _section(stage.params, where, "tower")
    arch, layer = params.pop("arch", "ViT-H-14"), params.pop("layer", None)
    if params:
        raise ValueError(f"unknown keys {sorted(params)} in {where}.params; known: arch, layer")
    if kind is TextTowerConfig and layer not in (None, "penultimate"):
        raise ValueError(f'{where}.params.layer must be "penultimate", got {layer!r}')
    if isinstance(arch, Mapping):
        return from_dict(kind, arch, f"{where}.params.arch")
    if arch != "ViT-H-14":
        raise ValueError(f"{where}.params.arch must be ViT-H-14 or a mapping of sizes, got {arch!r}")
    return kind()


def _check_fit(
    params: ModelParams, unet: Mapping[str, Any], autoencoder: AutoencoderConfig, where: str
) -> None:
    stated = (params.channels, unet["latent_channels"], autoencoder.embed_dim)
    if len(set(stated)) != 1:
        raise ValueError(
            f"{where}: channels, unet_config's out_channels and first_stage_config's embed_dim must be "
            f"equal, got {stated}"
        )
    if len(params.image_size) != 2 or min(params.image_size) < 1:
        raise ValueError(f"{where}.image_size must be [h, w] in latent cells, got {list(params.image_size)}")
