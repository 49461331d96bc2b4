"""Load a checkpoint into a model: strictly, and without initialising weights first.

The model is built on the meta device (shapes without memory), and the file's memory-mapped tensors
become its weights (``assign=True``): a file of 4 GB is ready in well under a second, and its pages
are read when first used. Only tensors whose element type or device must change are copied, one at
a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ldm.building import build_from, refusals_in_words
from ldm.checkpoint.align import align
from ldm.checkpoint.claims import within_budget
from ldm.checkpoint.diffusers.json_files import is_diffusers
from ldm.checkpoint.drawn_by import for_drawing
from ldm.checkpoint.io import Checkpoint, read_checkpoint
from ldm.checkpoint.mapped import release_pages
from ldm.checkpoint.matching import match, of_part, renamed, shapes
from ldm.checkpoint.names import (
    EMA,
    EMA_STATE,
    LOSS,
    SCHEDULE,
    TEXT,
    UNET,
    VAE,
    component_of,
    ema_name,
)
from ldm.checkpoint.report import LoadReport, compare
from ldm.config import check_keys, load_config
from ldm.errors import UserError

logger = logging.getLogger(__name__)

# What samplers and training read of a schedule; each buffer is loaded as the file has it.
SCHEDULE_VALUES = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
)


def load_model(
    config: DictConfig | str | Path,
    ckpt: str | Path,
    *,
    use_ema: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> tuple[nn.Module, LoadReport]:
    """Build the model of a configuration and fill it from a checkpoint.

    Draws no random number and executes nothing in the file.

    Args:
        config: Configuration with ``model`` (``target`` / ``params``), or the path of a YAML file.
            ``ckpt_path`` entries in it are ignored (every weight comes from ``ckpt``), and an
            autoencoder gets no training loss. The classes that draw are built, see ``for_drawing``;
            to train, build the model by ``ldm.config.build`` and fill it by ``load_component``.
        ckpt: See ``read_checkpoint``; or a diffusers folder, see ``read_diffusers``.
        use_ema: Take the UNet's moving averages in place of its weights.
        dtype: Element type of UNet, VAE and text encoder; None keeps the model's own (float32),
            whatever the file has. The noise schedule stays float32 in any case.
        device: Where the model goes.

    Returns:
        The model in evaluation mode, and the report of what fitted.

    Raises:
        UserError: As ``read_checkpoint``; or the UNet, VAE or text encoder is incomplete, or
            ``use_ema`` is set and the file has no averages.
    """
    if not isinstance(config, DictConfig):
        config = load_config(config)
    if is_diffusers(ckpt):
        from ldm.checkpoint.diffusers.folder import read_diffusers  # files need no translation

        source = read_diffusers(ckpt, config)
        model = build_empty(config)
        checkpoint, _ = source.completed(model.state_dict())
    else:
        checkpoint, model = read_checkpoint(ckpt), build_empty(config)
    report = _load(model, checkpoint, _Options(use_ema, dtype, torch.device(device)))
    _leave_out_empty_loss(model)
    _check_filled(model)
    model.to(device).eval()
    logger.info("%s", report.summary())
    return model, report


def build_empty(config: DictConfig) -> nn.Module:
    """Build a configuration's model without memory for its weights; its schedule has values.

    Args:
        config: As for ``load_model``.

    Raises:
        UserError: It has no ``model``, a value there is of the wrong kind, or as ``check_keys`` and
            ``instantiate_from_config``.
    """
    if "model" not in config:
        raise UserError("the configuration has no 'model'; expected 'target' and 'params' there")
    check_keys(config)
    build = partial(build_from, for_drawing(for_inference(config.model)), where="model")
    with refusals_in_words(), within_budget():
        return _built_empty(build)


def _built_empty(build: Callable[[], nn.Module]) -> nn.Module:
    try:
        with torch.device("meta"), _NoInitialisation():
            return build()
    except (RuntimeError, TypeError) as error:
        from ldm.checkpoint.emptied import build_then_empty, needs_values  # forks' hubs alone

        if not needs_values(error):
            raise
    return build_then_empty(build)


def load_weights(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    use_ema: bool = False,
    ignore: Sequence[str] = (),
    source: str = "the checkpoint",
) -> LoadReport:
    """Fill an existing model: its tensors keep their memory, type and device.

    Tensors on the meta device are replaced by those given.

    Args:
        model: Model with CompVis's checkpoint names.
        tensors: Name to tensor.
        use_ema: Take the UNet's moving averages in place of its weights.
        ignore: Prefixes of keys to leave as they are in the model.
        source: What to call the tensors in messages.

    Raises:
        UserError: UNet, VAE or text encoder incomplete, or no averages for ``use_ema``.
    """
    checkpoint = Checkpoint(dict(tensors), Path(source))
    return _load(model, checkpoint, _Options(use_ema, ignore=tuple(ignore)))


def load_component(
    model: nn.Module,
    path: str | Path,
    *,
    prefix: str,
    ignore: Sequence[str] = (),
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> LoadReport:
    """Fill a part, such as an autoencoder, from its own file or from a whole model's.

    Args:
        model: The part.
        path: See ``read_checkpoint``.
        prefix: Prefix of the part's keys in a whole model's file; if any key has it, keys without
            it are ignored.
        ignore: Prefixes of the part's keys to leave as they are.
        adapt: Converts the file's tensors, by the names of a whole model, to what the model takes.

    Raises:
        UserError: As ``read_checkpoint`` and ``load_weights``.
    """
    tensors = read_checkpoint(path).tensors
    if adapt is not None:
        whole = {prefix + name: shape for name, shape in shapes(model.state_dict()).items()}
        tensors = adapt(renamed(tensors, whole, str(path)))
    return load_weights(model, of_part(tensors, prefix), ignore=ignore, source=str(path))


class _NoInitialisation(TorchFunctionMode):
    """Skips the random filling of tensors that have no memory.

    It would be wasted, and torch's meta version of ``normal_`` spends 1.5 s importing its compiler.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
        kwargs = kwargs or {}
        initialises = getattr(func, "__module__", None) == "torch.nn.init"
        if initialises or func in (Tensor.normal_, Tensor.uniform_):
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


@dataclass(frozen=True)
class _Options:
    use_ema: bool = False
    dtype: torch.dtype | None = None
    device: torch.device | None = None
    ignore: tuple[str, ...] = ()


def _load(model: nn.Module, checkpoint: Checkpoint, options: _Options) -> LoadReport:
    wanted, source = model.state_dict(), str(checkpoint.path)
    targets = shapes(wanted)
    spare = (SCHEDULE, EMA, LOSS)
    if any(n not in checkpoint.tensors for n in targets if component_of(n) not in spare):
        from ldm.checkpoint.diffusers.parts import from_diffusers

        checkpoint = replace(checkpoint, tensors=from_diffusers(targets, checkpoint.tensors))
    held = shapes(checkpoint.tensors)
    alignment = align(source, targets, held)
    offered, leftover = match(
        wanted, checkpoint, alignment, use_ema=options.use_ema, ignore=options.ignore
    )
    unused = {name: held[name] for name in leftover}
    own_names = [alignment.own_name(name) for name in leftover]
    report = compare(source, targets, shapes(offered), own_names, unused)
    report.found_under = alignment.found_under
    report.ema_used = options.use_ema
    report.ema_present |= options.use_ema
    report.ema_kept = report.loaded.get(EMA, 0) > len(EMA_STATE)
    _pass_over(report, options.ignore)
    report.raise_if_incomplete()
    report.notes += _notes(wanted, offered)
    report.stubbed = checkpoint.stubbed
    _drop_rounded_schedule(wanted, offered)
    _start_averages(wanted, offered)
    on_meta = any(value.is_meta for value in wanted.values())
    if on_meta:
        offered = _converted(wanted, offered, checkpoint.mapped, options)
    model.load_state_dict(offered, strict=False, assign=on_meta)
    return report


def _pass_over(report: LoadReport, ignore: tuple[str, ...]) -> None:
    """Take what the caller asked to ignore out of the report."""
    for groups in (report.missing, report.unexpected):
        for part in list(groups):
            groups[part] = [name for name in groups[part] if not name.startswith(ignore)]
            if not groups[part]:
                del groups[part]


def _is_rounded(wanted: Tensor, value: Tensor) -> bool:
    """Check whether the file's tensor has lower precision than the model's own."""
    return value.is_floating_point() and value.dtype.itemsize < wanted.dtype.itemsize


def _notes(wanted: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> list[str]:
    """Compare the file's noise schedule with the configuration's."""
    pairs = {
        name: (wanted[name], offered[name])
        for name in SCHEDULE_VALUES
        if name in wanted and name in offered and not wanted[name].is_meta
    }
    notes = []
    if any(_is_rounded(*pair) for pair in pairs.values()):
        notes.append("its noise schedule is rounded to half precision; the configuration's is used")
    others = [name for name, pair in pairs.items() if not _is_rounded(*pair) and _differ(*pair)]
    if others:
        where = "" if others[0] == "betas" else f" in {', '.join(others)}"
        notes.append(
            f"its noise schedule differs from the configuration's{where}; the file's is used"
        )
    return notes


def _differ(own: Tensor, value: Tensor) -> bool:
    # More than float32 and the order of a cumulative product can make it.
    return not torch.allclose(value.float().cpu(), own.float().cpu(), rtol=1e-4, atol=1e-7)


def _drop_rounded_schedule(wanted: Mapping[str, Tensor], offered: dict[str, Tensor]) -> None:
    """Keep the model's own schedule if the file's was rounded along with the weights.

    A schedule from half-precision values changes every picture (``alphas_cumprod`` loses its
    small end).
    """
    for name in list(offered):
        own = wanted[name]
        if component_of(name) == SCHEDULE and not own.is_meta and _is_rounded(own, offered[name]):
            del offered[name]


def _start_averages(wanted: Mapping[str, Tensor], offered: dict[str, Tensor]) -> None:
    """Start averages that the file lacks from the weights themselves, as a new model does."""
    weights = {ema_name(name): name for name in offered}
    for name in wanted:
        if component_of(name) == EMA and name not in offered and name in weights:
            offered[name] = offered[weights[name]].clone()


def _converted(
    wanted: Mapping[str, Tensor],
    offered: Mapping[str, Tensor],
    mapped: bool,
    options: _Options,
) -> dict[str, Tensor]:
    """Convert each tensor to its element type and device; unchanged tensors stay mapped."""
    converted = {}
    for name, value in offered.items():
        target = wanted[name].dtype
        weight = component_of(name) in (UNET, VAE, TEXT) and target.is_floating_point
        if weight and options.dtype is not None:
            target = options.dtype
        converted[name] = value.to(device=options.device, dtype=target)
        if mapped and converted[name].data_ptr() != value.data_ptr():
            release_pages(value)
    return converted


def for_inference(node: Any) -> Any:
    """Copy a configuration as plain containers, without what only training needs.

    That is ``ckpt_path`` (the weights come from elsewhere) and the autoencoder's loss (it may have
    networks of its own, and download them).
    """
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=True)
    if isinstance(node, list):
        return [for_inference(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: for_inference(value) for key, value in node.items() if key != "ckpt_path"}
    return {**kept, "lossconfig": {"target": "torch.nn.Identity"}} if "lossconfig" in kept else kept


def _leave_out_empty_loss(model: nn.Module) -> None:
    """Drop a training loss that the file does not hold: exported files have none."""
    loss = getattr(model, "loss", None)
    if isinstance(loss, nn.Module) and any(
        value.is_meta for value in (*loss.parameters(), *loss.buffers())
    ):
        model.loss = None


def _check_filled(model: nn.Module) -> None:
    """Assert that no tensor of the model is left on the meta device."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    empty = [name for name, value in tensors if value.is_meta]
    assert not empty, f"{len(empty)} tensors were left without memory: {', '.join(empty[:5])}"
