"""Convert a checkpoint file to a diffusers folder and back, without loss.

What a folder has no place for (the noise schedule, the blocks that Stable Diffusion 2 leaves out)
is kept in ``compvis.safetensors`` beside its own files, and restored from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

import ldm
from ldm.atomic import clear
from ldm.checkpoint.diffusers.folder import read_diffusers
from ldm.checkpoint.diffusers.json_files import INDEX, KEPT, STEMS, TOKENIZER_FILES, is_diffusers
from ldm.checkpoint.diffusers.keymaps import PARTS, split_parts, unet_to_diffusers, vae_to_diffusers
from ldm.checkpoint.diffusers.text_keymaps import (
    clip_to_transformers,
    open_clip_to_transformers,
    text_kind,
)
from ldm.checkpoint.diffusers.to_json import folder_configs
from ldm.checkpoint.diffusers.tokenizer import as_json, own_files, tokenizer_files
from ldm.checkpoint.export import converted, describe, inference_tensors
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.load import build_empty
from ldm.checkpoint.mapped import release_pages
from ldm.checkpoint.names import by_component, modern
from ldm.checkpoint.report import compare
from ldm.checkpoint.write import save_ckpt, save_safetensors, size_of, whole
from ldm.config import load_config
from ldm.errors import UserError
from ldm.paths import exists, is_file, is_folder, listing, real_path

V1_CONFIG = Path(ldm.__file__).resolve().parents[1] / "configs/stable-diffusion/v1-inference.yaml"
TOKENIZER = ".tokenizer"  # ending of the folder beside a checkpoint
SAVERS = {".safetensors": save_safetensors, ".ckpt": save_ckpt}
State = dict[str, Tensor]


@dataclass(frozen=True)
class Conversion:
    """How to convert.

    Attributes:
        use_ema: Take the moving average of each weight that has one (files only).
        dtype: Element type of UNet, VAE and text encoder; None keeps the source's. The schedule
            keeps its own.
        metadata: Entries for the header, over those of the source and the ModelSpec defaults.
        overwrite: Replace the destination if it exists.
    """

    use_ema: bool = False
    dtype: torch.dtype | None = None
    metadata: Mapping[str, str] | None = None
    overwrite: bool = False


def to_diffusers(
    ckpt: str | Path, out: str | Path, config: DictConfig | str | Path, how: Conversion
) -> list[str]:
    """Write a checkpoint as a diffusers folder.

    Args:
        ckpt: See ``read_checkpoint``; it is not modified.
        out: The folder. Written to a temporary name first, then moved in place.
        config: The checkpoint's configuration, or the path of its YAML file.
        how: See ``Conversion``.

    Returns:
        What was done, in sentences; the first says what was written.

    Raises:
        UserError: As ``read_checkpoint`` and ``folder_configs``; the checkpoint does not fit the
            configuration, ``out`` exists, or the disk is full.
    """
    out = _free_folder(Path(out), how.overwrite)
    config = config if isinstance(config, DictConfig) else load_config(config)
    checkpoint = read_checkpoint(ckpt)
    model = build_empty(config)
    chosen, averaged = inference_tensors(checkpoint, how.use_ema)
    notices = _check(str(ckpt), model, chosen)
    params = _plain(config)
    files = folder_configs(params, model, _number(chosen.get("scale_factor")))
    chosen = _as_type(chosen, how.dtype, checkpoint.mapped)
    parts, kept = name_for_folder(chosen, model, params, files)
    header = _spec(files) | describe(checkpoint, chosen, out.name) | dict(how.metadata or {})
    with whole(out, size_of(chosen)) as part:
        _write_folder(part, files, model.cond_stage_model.tokenizer, parts)
        if kept:
            save_safetensors(kept, part / KEPT, header)
    dropped = by_component(n for n in map(modern, checkpoint.tensors) if n not in chosen)
    lines = [_written(out, parts, size_of(chosen), averaged)]
    lines += [f"kept in {KEPT}, where diffusers has no place: {_counts(kept)}"] if kept else []
    lines += [f"left out: {_counts(dropped)}"] if dropped else []
    return lines + notices


def from_diffusers(
    folder: str | Path,
    out: str | Path,
    config: DictConfig | str | Path | None = None,
    how: Conversion = Conversion(),  # noqa: B008 - frozen
) -> list[str]:
    """Write a diffusers folder as a checkpoint file, with its configuration beside it.

    The configuration ``X.yaml`` is written for every model except plain Stable Diffusion v1, whose
    configuration programs use by default. A tokenizer that is not CLIP's is copied to the folder
    ``X.tokenizer``, and the configuration has its path from there.

    Args:
        folder: See ``read_diffusers``; it is not modified.
        out: A ``.safetensors`` or ``.ckpt`` file, written to a temporary name first.
        config: The configuration; None derives it from the folder.
        how: See ``Conversion``.

    Returns:
        As ``to_diffusers``.

    Raises:
        UserError: As ``read_diffusers``; the weights do not fit the configuration, ``out`` exists
            or has another ending, or the disk is full.
    """
    out = Path(out)
    _check_ending(out)
    if how.use_ema:
        raise UserError(
            f"--use_ema given for {str(folder)!r}; expected a training checkpoint, as a folder "
            "holds one set of weights; leave --use_ema out"
        )
    if config is not None and not isinstance(config, DictConfig):
        config = load_config(config)
    source = read_diffusers(folder, config)
    model = build_empty(source.config)
    files = folder_configs(_plain(source.config), model)
    yaml, words = _yaml_beside(out, files), own_files(model.cond_stage_model.tokenizer)
    _free_file(out, yaml, how.overwrite)
    if words:
        _free_tokenizer(out.with_suffix(TOKENIZER), how.overwrite)
    wanted = model.state_dict()
    checkpoint, made = source.completed(wanted)
    notices = _check(str(folder), model, checkpoint.tensors)
    tensors = _as_type(_in_order(wanted, checkpoint.tensors), how.dtype, mapped=False)
    header = _spec(files) | describe(checkpoint, tensors, out.stem) | dict(how.metadata or {})
    with whole(out, size_of(tensors)) as part:
        SAVERS[out.suffix.lower()](tensors, part, header)
        if yaml is not None:
            _write_config(yaml, source.config, words)
    lines = [_written(out, split_parts(tensors), size_of(tensors), 0)]
    lines += [f"wrote {yaml}, its configuration"] if yaml is not None else []
    lines += [f"wrote {out.with_suffix(TOKENIZER)}, its tokenizer"] if words else []
    return lines + _about(made) + notices


def _free_folder(out: Path, overwrite: bool) -> Path:
    """Check that a folder may be written; return its resolved path."""
    if out.suffix.lower() in SAVERS:
        raise UserError(
            f"output {str(out)!r} given for a checkpoint file; expected a folder's name; to write "
            "a file of another kind use scripts/export_checkpoint.py"
        )
    out = real_path(out)
    clear(out.parent)
    if exists(out) and not overwrite:
        raise UserError(f"output {str(out)!r} exists; give another name, or --overwrite")
    if exists(out) and not is_diffusers(out) and not (is_folder(out) and not listing(out)):
        raise UserError(
            f"output {str(out)!r} is no diffusers folder and will not be replaced; expected one "
            f"with {INDEX}, an empty folder or nothing; give another name"
        )
    return out


def _check_ending(out: Path) -> None:
    if out.suffix.lower() not in SAVERS:
        raise UserError(
            f"output {str(out)!r} given for a diffusers folder; expected a name ending in "
            f"{' or '.join(SAVERS)}; give such a name"
        )


def _free_file(out: Path, yaml: Path | None, overwrite: bool) -> None:
    for path in (out, yaml):
        if path is None or not exists(path):
            continue
        if is_folder(path):
            raise UserError(f"output {str(path)!r} is a folder; expected a file; give another name")
        if not overwrite:
            raise UserError(f"output {str(path)!r} exists; give another name, or --overwrite")


def _free_tokenizer(folder: Path, overwrite: bool) -> None:
    """Check that a tokenizer's folder may be written; one with other files is never replaced."""
    if not exists(folder):
        return
    strange = not is_folder(folder) or any(f.name not in TOKENIZER_FILES for f in listing(folder))
    if strange:
        raise UserError(
            f"the tokenizer goes to {str(folder)!r}, which holds something else; expected a "
            "tokenizer's files or nothing; give another name"
        )
    if not overwrite:
        raise UserError(f"output {str(folder)!r} exists; give another name, or --overwrite")


def _write_config(yaml: Path, config: DictConfig, words: Mapping[str, Path]) -> None:
    """Write a configuration, and beside it the files of the tokenizer that it names."""
    config = OmegaConf.create(OmegaConf.to_container(config))
    if words:
        contents = {name: path.read_bytes() for name, path in words.items()}
        folder = yaml.with_suffix(TOKENIZER)
        with whole(folder, 0) as part:
            _write_files(part, contents)
        config.model.params.cond_stage_config.params.tokenizer_path = folder.name
    with whole(yaml, 0) as beside:
        OmegaConf.save(config, beside)


def _yaml_beside(out: Path, files: Mapping[str, Any]) -> Path | None:
    """Return where the configuration goes, or None where it is not needed."""
    yaml = out.with_suffix(".yaml")
    stray = exists(yaml) or exists(out.with_name("config.yaml"))  # programs would take these
    if not stray and is_file(V1_CONFIG):
        usual = load_config(V1_CONFIG)
        if folder_configs(_plain(usual), build_empty(usual)) == dict(files):
            return None
    return yaml


def _check(source: str, model: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Check that a source has all of the model's weights in their shapes; return its oddities."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    offered = {name: tuple(tensors[name].shape) for name in wanted if name in tensors}
    report = compare(source, wanted, offered, (n for n in tensors if n not in wanted))
    report.raise_if_incomplete()
    return report.warnings()


def name_for_folder(
    chosen: State, model: nn.Module, params: Mapping[str, Any], files: Mapping[str, Any]
) -> tuple[dict[str, State], State]:
    """Rename the weights as in a folder's parts; also return those that have no place there."""
    wanted = model.state_dict()
    ours = split_parts({name: value for name, value in chosen.items() if name in wanted})
    ddconfig = params["first_stage_config"]["params"]["ddconfig"]
    text, rest = ours["text_encoder"], {}
    if text_kind(text) == "open_clip":
        layers = files["text_encoder/config.json"]["num_hidden_layers"]
        text, rest = open_clip_to_transformers(text, layers)
    else:
        text = clip_to_transformers(text)
    parts = {
        "unet": unet_to_diffusers(ours["unet"], params["unet_config"]["params"]),
        "vae": vae_to_diffusers(ours["vae"], ddconfig),
        "text_encoder": text,
    }
    without = {PARTS["text_encoder"] + name for name in rest}
    placed = {f"{PARTS[part]}{name}" for part, state in ours.items() for name in state} - without
    return parts, {name: value for name, value in chosen.items() if name not in placed}


def _write_folder(
    folder: Path,
    files: Mapping[str, Mapping[str, Any]],
    tokenizer: Any,
    parts: Mapping[str, State],
) -> None:
    small = {name: as_json(content).encode() for name, content in files.items()}
    small |= {f"tokenizer/{name}": content for name, content in tokenizer_files(tokenizer).items()}
    _write_files(folder, small)
    for part, tensors in parts.items():
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        save_safetensors(tensors, folder / part / f"{STEMS[part][0]}.safetensors", {"format": "pt"})


def _write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _in_order(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> State:
    """Put tensors in a checkpoint's order; the model supplies the schedule that a folder lacks."""
    found = {n: tensors.get(n, own) for n, own in wanted.items()}
    found = {name: value for name, value in found.items() if not value.is_meta}
    return found | {name: value for name, value in tensors.items() if name not in found}


def _as_type(tensors: State, dtype: torch.dtype | None, mapped: bool) -> State:
    changed = {}
    for name, value in tensors.items():
        changed[name] = converted(name, value, dtype)
        if mapped and changed[name].data_ptr() != value.data_ptr():
            release_pages(value)
    return changed


def _plain(config: DictConfig) -> dict[str, Any]:
    """Return ``model.params`` as plain containers."""
    return OmegaConf.to_container(config.model.params, resolve=True)


def _number(value: Tensor | None) -> float | None:
    return None if value is None else float(value)


def _spec(files: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Describe a model by the ModelSpec entries that follow from its configuration."""
    unet, scheduler = files["unet/config.json"], files["scheduler/scheduler_config.json"]
    side = files["vae/config.json"]["sample_size"]
    kind = scheduler["prediction_type"]
    spec = {
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.prediction_type": "v" if kind == "v_prediction" else kind,
        "modelspec.timestep_range": f"0,{scheduler['num_train_timesteps']}",
    }
    is_v2 = (unet["cross_attention_dim"], unet["block_out_channels"][0]) == (1024, 320)
    if is_v2 and unet["in_channels"] == unet["out_channels"]:
        spec["modelspec.architecture"] = (
            f"stable-diffusion-v2-{'768-v' if kind == 'v_prediction' else '512'}"
        )
    return spec


def _written(out: Path, parts: Mapping[str, State], size: int, averaged: int) -> str:
    counts = ", ".join(f"{part} {len(state)}" for part, state in parts.items())
    ema = f" ({averaged} weights are EMA averages)" if averaged else ""
    return f"wrote {out}, {size / 1e9:.2f} GB: {counts} tensors{ema}"


def _counts(names: Mapping[str, Any]) -> str:
    groups = names if all(isinstance(g, list) for g in names.values()) else by_component(names)
    return ", ".join(f"{part} {len(group)}" for part, group in groups.items()) + " tensors"


def _about(made: list[str]) -> list[str]:
    """Say which weights are zeros, and that the pictures do not depend on them."""
    if not made:
        return []
    return [
        f"{len(made)} weights of the text encoder are not in the folder and zeros here: its blocks "
        "above the last one used, text_projection and logit_scale, which no picture depends on"
    ]
