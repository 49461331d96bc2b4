"""Small helpers that the whole package shares. Add no more: a helper belongs beside its use."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ldm.errors import UserError

logger = logging.getLogger(__name__)

PLACEHOLDERS = ("__is_first_stage__", "__is_unconditional__")
# Classes of taming-transformers that configurations name, and ours with the same parameters.
# Theirs download VGG's weights when they are built.
STANDS_FOR = {
    "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator": (
        "ldm.modules.losses.vqperceptual.VQLPIPSWithDiscriminator"
    ),
    "taming.modules.losses.vqperceptual.DummyLoss": "ldm.modules.losses.contperceptual.DummyLoss",
}


def exists(value: Any) -> bool:
    """Check whether ``value`` is not None."""
    return value is not None


def default(value: Any, fallback: Any) -> Any:
    """Return ``value``, or ``fallback`` (called if it is a function) when ``value`` is None."""
    if value is not None:
        return value
    return fallback() if inspect.isfunction(fallback) else fallback


def ismap(x: Any) -> bool:
    """Check whether ``x`` is a tensor (B, C, H, W) with more than three channels: a label map."""
    return _is_image_batch(x) and x.shape[1] > 3


def isimage(x: Any) -> bool:
    """Check whether ``x`` is a tensor (B, C, H, W) of one or three channels: a picture."""
    return _is_image_batch(x) and x.shape[1] in (1, 3)


def _is_image_batch(x: Any) -> bool:
    import torch

    return isinstance(x, torch.Tensor) and x.ndim == 4


def mean_flat(tensor):
    """Average over all dimensions but the first: (B, ...) -> (B,)."""
    return tensor.flatten(1).mean(1)


def count_params(model, verbose: bool = False) -> int:
    """Count a module's parameters; with ``verbose`` log the number in millions."""
    total = sum(p.numel() for p in model.parameters())
    if verbose:
        logger.info("%s has %.2f M parameters", type(model).__name__, total / 1e6)
    return total


def log_txt_as_img(wh: tuple[int, int], captions: list[str], size: int = 10):
    """Draw captions as black text on white pictures.

    Args:
        wh: Width and height of a picture, in pixels.
        captions: One text per picture; any script that the default font knows.
        size: Font size, in pixels.

    Returns:
        Tensor (B, 3, H, W) in [-1, 1].
    """
    import numpy as np
    import torch
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    columns = max(1, int(1.8 * wh[0] / size))
    pictures = []
    for caption in captions:
        canvas = Image.new("RGB", wh, "white")
        lines = (caption[i : i + columns] for i in range(0, len(caption), columns))
        ImageDraw.Draw(canvas).text((0, 0), "\n".join(lines), fill="black", font=font)
        pictures.append(np.asarray(canvas, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1.0)
    return torch.from_numpy(np.stack(pictures))


def parallel_data_prefetch(
    func: Callable, data: Iterable, n_proc: int = 4, **kwargs: Any
) -> list[Any]:
    """Apply ``func`` to every item of ``data`` in ``n_proc`` threads, results in order."""
    with ThreadPoolExecutor(max_workers=n_proc) as pool:
        return list(pool.map(lambda item: func(item, **kwargs), data))


def get_obj_from_str(string: str, reload: bool = False, where: str = "target") -> Any:
    """Import what a dotted path names, or its replacement in ``STANDS_FOR``.

    Args:
        string: ``package.module.Name``.
        reload: Reload the module first (for notebooks).
        where: Place in the YAML, for the error message.

    Raises:
        UserError: There is no such module or name.
    """
    module_name, _, name = STANDS_FOR.get(string, string).rpartition(".")
    try:
        module = importlib.import_module(module_name)
        if reload:
            module = importlib.reload(module)
        return getattr(module, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{where}: {string!r} cannot be imported ({error}); expected the dotted path of an "
            "importable class; check its spelling and that its package is installed"
        ) from error


def lazy_exports(
    module: str, addresses: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a module that offers names of other modules.

    They are imported when somebody first asks: a text-to-image run needs one conditioner of ten.

    Args:
        module: The module's ``__name__``.
        addresses: Name -> module that it lies in.
    """

    def __getattr__(name: str) -> Any:
        if name not in addresses:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(addresses[name]), name)
        vars(sys.modules[module])[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[module]), *addresses})

    return __getattr__, __dir__


def accepted_parameters(cls: Callable) -> set[str] | None:
    """Return the keyword names that ``cls`` takes, or None when it takes any.

    A ``**kwargs`` is taken to be passed on to the base class, and followed along the bases.
    """
    names: set[str] = set()
    constructors = [c.__init__ for c in inspect.getmro(cls)] if inspect.isclass(cls) else [cls]
    for constructor in constructors:
        try:
            parameters = inspect.signature(constructor).parameters.values()
        except (TypeError, ValueError):
            return None
        named = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        names |= named - {"self"}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return names
    return None


def required_parameters(cls: Callable) -> list[str]:
    """Return the names that ``cls`` itself requires; its bases are not examined."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        return []
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in by_name and p.default is p.empty]


def check_parameters(
    cls: Callable, params: Mapping[str, Any], where: str, extra: Iterable[str] = ()
) -> None:
    """Refuse parameters that ``cls`` does not have, and missing ones that it requires.

    Args:
        cls: What is to be built.
        params: Its parameters in the YAML.
        where: Place of the mapping in the YAML, for error messages.
        extra: Names that are passed in addition to the YAML.

    Raises:
        UserError: The message gives the closest name, or the missing names.
    """
    accepted = accepted_parameters(cls)
    for key in params:
        if accepted is None or key in accepted:
            continue
        near = difflib.get_close_matches(str(key), accepted, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(sorted(accepted))}"
        raise UserError(f"{where}.params.{key}: {cls.__name__} has no parameter {key!r}; {hint}")
    given = {*params, *extra}
    missing = [name for name in required_parameters(cls) if name not in given]
    if missing:
        raise UserError(
            f"{where}.params: {cls.__name__} needs {', '.join(missing)}; add what is missing"
        )


def instantiate_from_config(config: Any, *, where: str = "config", **extra: Any) -> Any:
    """Build the object that a ``target:`` / ``params:`` mapping describes.

    Args:
        config: Mapping with ``target`` (dotted path) and optional ``params``; one of the
            placeholders ``__is_first_stage__`` and ``__is_unconditional__`` gives None.
        where: Place of this mapping in the YAML, for error messages.
        **extra: Further keyword arguments for the constructor; they win over ``params``.

    Raises:
        UserError: The target is missing or cannot be imported; a parameter is unknown or missing.
    """
    if isinstance(config, str) and config in PLACEHOLDERS:
        return None
    if not isinstance(config, Mapping) and not hasattr(config, "get"):
        raise UserError(f"{where}: {config!r} given; expected a mapping with 'target' and 'params'")
    if "target" not in config:
        raise UserError(f"{where}: has no 'target'; add the dotted path of the class to build")
    cls = get_obj_from_str(config["target"], where=f"{where}.target")
    params = dict(config.get("params") or {})
    check_parameters(cls, params, where, extra)
    return cls(**{**params, **extra})
