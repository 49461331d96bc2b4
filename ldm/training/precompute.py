"""Encode a data set once, shard by shard: pictures as latents, captions as embeddings.

Shapes: B batch, C latent channels, h w latent sides, L tokens, D width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ldm.atomic import clear, is_hidden
from ldm.checkpoint.load import load_component
from ldm.checkpoint.write import save_safetensors, size_of, whole
from ldm.config import build, load_config
from ldm.data.precomputed import EMPTY, INDEX, TEXTS, Index, fingerprint, read_index
from ldm.errors import UserError
from ldm.models.diffusion.batch_conditioning import conditioner_input, empty_of
from ldm.models.training_parts import pictures_from
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.paths import ERRORS, exists, is_file, is_folder, listing, reason
from ldm.training.seeding import SeededItems

# The lowest log-variance of ``DiagonalGaussianDistribution``: a latent without spread.
NO_SPREAD = -30.0


@dataclass(frozen=True)
class Precomputation:
    """What to encode, and where to write it.

    Attributes:
        base: Configurations with ``model`` and ``data``, merged in order.
        out: The folder to write.
        overrides: ``a.b=c`` for the configurations.
        split: Data set of ``data.params``: train, validation or test.
        ckpt: File of a whole model with the encoders' weights; None loads them as configured.
        text: Also encode the conditioning.
        half: Write float16; float32 otherwise.
        batch_size: Pictures encoded at once.
        shard_size: Items per file.
        num_workers: Processes that read pictures.
        device: Where encoders run.
        seed: Seed of random crops and flips, which are drawn only once.
        part: Which share of the shards to encode, and of how many, from (1, 1) on: several
            processes, on any machines that see the folder, each encode one of them.
    """

    base: tuple[Path, ...]
    out: Path
    overrides: tuple[str, ...] = ()
    split: str = "train"
    ckpt: Path | None = None
    text: bool = True
    half: bool = False
    batch_size: int = 8
    shard_size: int = 1024
    num_workers: int = 0
    device: str = "cpu"
    seed: int = 23
    part: tuple[int, int] = (1, 1)


@torch.no_grad()
def precompute(task: Precomputation, tell: Callable[[str], None] = lambda _: None) -> Index:
    """Encode a data set; existing shards in the folder are kept.

    Args:
        task: What to do.
        tell: Called with lines about the progress.

    Raises:
        UserError: The configuration, the checkpoint or the data set cannot be used, or the folder
            holds something else.
    """
    config = load_config(*task.base, overrides=task.overrides)
    model = build_encoders(config, task.ckpt).to(task.device)
    dataset = build(config, f"data.params.{task.split}")
    index = _describe(task, config, model, len(dataset))
    _prepare(task.out, index)
    key = f"{index.first_stage_key}_moments"
    share, shares = task.part
    for number, name in list(enumerate(index.shards))[share - 1 :: shares]:
        path = task.out / name
        if is_file(path):
            tell(f"{name}: there already")
            continue
        start = number * index.shard_size
        rows = range(start, min(index.count, start + index.shard_size))
        tensors, texts = _encode(task, model, dataset, rows)
        _check_same(task.out, index)
        with whole(path, size_of(tensors)) as part:
            save_safetensors(tensors, part, {TEXTS: json.dumps(texts, ensure_ascii=False)})
        tell(f"{name}: {rows.stop} of {index.count} items, latents {tuple(tensors[key].shape[1:])}")
    return index


def build_encoders(config: DictConfig, ckpt: Path | None) -> nn.Module:
    """Build a hub's first stage and conditioner with their weights, without its network.

    Raises:
        UserError: No latent diffusion model is configured, or weights are missing.
    """
    config = config.copy()
    params = OmegaConf.select(config, "model.params")
    if params is None or "first_stage_config" not in params:
        raise UserError(
            "the configuration has no model.params.first_stage_config; expected that of a latent "
            "diffusion model; for a first stage itself nothing can be precomputed"
        )
    path = ckpt or (None if params.get("load_only_unet") else params.get("ckpt_path"))
    first_stage = params.first_stage_config.get("params") or {}
    if path is None and first_stage.get("ckpt_path", "") is None:
        raise UserError(
            "the first stage has no weights; give --ckpt, model.params.ckpt_path or "
            "model.params.first_stage_config.params.ckpt_path"
        )
    left_out = {"ckpt_path": None, "use_ema": False, "scheduler_config": None}
    params.update({**left_out, "unet_config": {"target": "torch.nn.Identity"}})
    model = build(config, "model").eval()
    if path is not None:
        organs = {"first_stage_model": model.first_stage_model}
        if model.cond_stage_model not in (None, model.first_stage_model):
            organs["cond_stage_model"] = model.cond_stage_model
        for name, organ in organs.items():
            if any(True for _ in organ.parameters()):
                load_component(organ, path, prefix=f"{name}.")
    return model


def _describe(task: Precomputation, config: DictConfig, model: Any, count: int) -> Index:
    encoded = task.text and model.cond_stage_model is not None
    if encoded and model.cond_stage_trainable:
        raise UserError(
            "model.params.cond_stage_trainable is true, so captions cannot be encoded beforehand; "
            "add --no_text to encode the pictures alone"
        )
    source = OmegaConf.to_container(config.data.params[task.split], resolve=True)
    return Index(
        first_stage_key=model.first_stage_key,
        cond_stage_key=model.cond_stage_key,
        first_stage=fingerprint(model.first_stage_model),
        cond_stage=fingerprint(model.cond_stage_model) if encoded else None,
        source=json.dumps([source, task.seed], ensure_ascii=False, sort_keys=True),
        dtype="float16" if task.half else "float32",
        count=count,
        shard_size=task.shard_size,
    )


def _prepare(out: Path, index: Index) -> None:
    """Make the folder, or check that it was begun earlier for the same work."""
    clear(out)
    begun = exists(out / INDEX)
    earlier = read_index(out) if begun else None
    if earlier == index:
        return
    if earlier is not None and any(exists(out / name) for name in earlier.shards):
        _check_same(out, index)
    # A lone index is left by a run that failed before its first shard: it may be replaced.
    held = [] if begun or not is_folder(out) else listing(out)
    others = [path for path in held if path.name != INDEX and not is_hidden(path)]
    if others or (exists(out) and not is_folder(out)):
        raise UserError(f"--out {str(out)!r} holds something else; give a new or empty folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if begun:
            (out / EMPTY).unlink(missing_ok=True)  # may be another model's
        index.write(out)
    except ERRORS as error:
        raise UserError(
            f"--out {str(out)!r} cannot be written ({reason(error)}); expected a folder "
            "with space; give another one"
        ) from error


def _check_same(out: Path, index: Index) -> None:
    """Refuse a folder of other contents, also one that another process has begun meanwhile."""
    earlier = read_index(out)
    for name, value in vars(index).items():
        if getattr(earlier, name) != value:
            raise UserError(
                f"--out {str(out)!r} was begun with another {name} ({getattr(earlier, name)}, "
                f"now {value}); give another folder, or remove that one"
            )


def _encode(
    task: Precomputation, model: Any, dataset: Any, rows: range
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Encode the items of one shard; return tensors (n, ...) and texts by name."""
    tensors: dict[str, list[Tensor]] = {}
    texts: dict[str, list[str]] = {}
    for batch in _batches(task, dataset, rows):
        for name, value in _encoded(task, model, batch).items():
            tensors.setdefault(name, []).append(_for_disk(value, task.half))
        for name, value in batch.items():
            if isinstance(value, list | tuple):
                texts.setdefault(name, []).extend(map(str, value))
            elif name != model.first_stage_key:
                tensors.setdefault(name, []).append(_for_disk(value, task.half))
    if task.text and model.cond_stage_model is not None:
        _write_empty(task, model, batch)
    return {name: torch.cat(parts) for name, parts in tensors.items()}, texts


def _batches(task: Precomputation, dataset: Any, rows: range) -> Iterator[Mapping[str, Any]]:
    numbered = SeededItems(dataset, task.seed, "precompute")
    loader = DataLoader(
        numbered,
        batch_size=task.batch_size,
        sampler=[(row, row) for row in rows],
        num_workers=task.num_workers,
    )
    return iter(loader)


def _encoded(task: Precomputation, model: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Encode a batch: moments (B, 2C, h, w) and, if requested, embeddings (B, L, D)."""
    on_device = {
        name: value.to(task.device) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }
    posterior = model.encode_first_stage(pictures_from(on_device, model.first_stage_key))
    if isinstance(posterior, DiagonalGaussianDistribution):
        moments = torch.cat([posterior.mean, posterior.logvar], dim=1)
    else:
        moments = torch.cat([posterior, torch.full_like(posterior, NO_SPREAD)], dim=1)
    found = {f"{model.first_stage_key}_moments": moments}
    if task.text and model.cond_stage_model is not None:
        key = model.cond_stage_key
        c = conditioner_input(on_device, key)
        found[f"{key}_embedding"] = model.get_learned_conditioning(c)
    return found


def _write_empty(task: Precomputation, model: Any, batch: Mapping[str, Any]) -> None:
    """Write the embedding of the empty conditioning, once."""
    path, key = task.out / EMPTY, model.cond_stage_key
    if is_file(path):
        return
    first = {name: value[:1] for name, value in batch.items()}
    empty = empty_of(conditioner_input(first, key), key, model.cond_stage_model)
    if empty is None:
        raise UserError(f"{key!r} has no empty form; add --no_text to encode the pictures alone")
    moved = {k: v.to(task.device) for k, v in empty.items()} if isinstance(empty, dict) else empty
    embedding = {"embedding": _for_disk(model.get_learned_conditioning(moved)[0], task.half)}
    with whole(path, size_of(embedding)) as part:
        save_safetensors(embedding, part, {})


def _for_disk(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    if value.is_floating_point():
        value = value.to(torch.float16 if half else torch.float32)
    return value.contiguous()
