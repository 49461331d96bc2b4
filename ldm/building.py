"""Build what ``target`` / ``params`` mappings describe; errors say the place in the YAML."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ldm.errors import OURS, UserError, in_words, is_out_of_memory, raised_by

PLACEHOLDERS = ("__is_first_stage__", "__is_unconditional__")
# Classes of taming-transformers that configurations name, and ours with the same parameters.
# Theirs download VGG's weights when they are built.
STANDS_FOR = {
    "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator": (
        "ldm.modules.losses.vqperceptual.VQLPIPSWithDiscriminator"
    ),
    "taming.modules.losses.vqperceptual.DummyLoss": "ldm.modules.losses.contperceptual.DummyLoss",
}

# What constructors raise for a value of the wrong kind or range.
REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

# Beside the call and not in it: ``instantiate_from_config(config)`` has the reference's arguments,
# so that a fork's ``ldm/util.py`` can take the place of ours.
_place: ContextVar[str] = ContextVar("place in the configuration", default="")


@contextmanager
def place(name: str) -> Iterator[None]:
    """Say which part of the configuration is built inside the block, for error messages.

    Places add up: inside the constructor of what stands at ``model``, ``first_stage_config`` is
    ``model.params.first_stage_config``.

    Args:
        name: Key of the mapping below the place that is known already.

    Example:
        >>> with place("unet_config"):
        ...     build_from({"target": "torch.nn.Linaer"})
        Traceback (most recent call last):
        ...
        ldm.errors.UserError: unet_config.target: 'torch.nn.Linaer' cannot be imported ...
    """
    outer = _place.get()
    token = _place.set(f"{outer}.{name}" if outer and name else outer or name)
    try:
        yield
    finally:
        _place.reset(token)


def build_from(config: Any, where: str = "", **extra: Any) -> Any:
    """Build the object that a ``target:`` / ``params:`` mapping describes.

    Args:
        config: Mapping with ``target`` (dotted path) and optional ``params``; one of the
            placeholders ``__is_first_stage__`` and ``__is_unconditional__`` gives None.
        where: See ``place``.
        **extra: Further keyword arguments for the constructor; they win over ``params``.

    Raises:
        UserError: The target is missing or cannot be imported; a parameter is unknown or missing.
    """
    if isinstance(config, str) and config in PLACEHOLDERS:
        return None
    with place(where):
        cls, params = _read(config, extra)
        with _noted(config["target"]), place("params"):
            return cls(**{**params, **extra})


@contextmanager
def _noted(target: str) -> Iterator[None]:
    """Note on an error out of a constructor which part of the configuration it is of."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "built"):  # an inner part has not noted it already
            error.built = _place.get(), target
        raise


@contextmanager
def refusals_in_words() -> Iterator[None]:
    """Turn what constructors raise for a value of the wrong kind into a ``UserError``.

    Around a whole ``build_from``, not in it: some callers look at what a constructor raises and
    build in another way.

    Raises:
        UserError: It names the part of the configuration, the reason, and the line that raised it.
    """
    try:
        yield
    except UserError:
        raise
    except REFUSALS as error:
        where, target = getattr(error, "built", ("", ""))
        # AttributeErrors out of somebody else's class are mistakes in it and not in a value.
        theirs = isinstance(error, AttributeError) and raised_by(error)[0].split(".")[0] != OURS
        if not target or theirs or is_out_of_memory(error):
            raise
        expected = f"params of the kind and range that {target} takes; correct the configuration"
        if isinstance(error, ImportError):
            expected = "its package to be installed; install it, or configure another target"
        raise UserError(
            f"{where or 'config'}: {target} cannot be built ({in_words(error)}); "
            f"expected {expected}"
        ) from error


def _read(config: Any, extra: Iterable[str]) -> tuple[Callable, dict[str, Any]]:
    """Return what is to be built and its parameters, checked."""
    where = _place.get() or "config"
    if not isinstance(config, Mapping) and not hasattr(config, "get"):
        raise UserError(f"{where}: {config!r} given; expected a mapping with 'target' and 'params'")
    if "target" not in config:
        raise UserError(f"{where}: has no 'target'; add the dotted path of the class to build")
    target, params = config["target"], config.get("params") or {}
    if not isinstance(target, str):
        raise UserError(f"{where}.target: {target!r} given; expected the dotted path of a class")
    if not isinstance(params, Mapping) and not hasattr(params, "items"):
        raise UserError(f"{where}.params: {params!r} given; expected a mapping of names to values")
    cls, params = import_object(target, where=f"{where}.target"), dict(params)
    check_parameters(cls, params, where, extra)
    return cls, params


def import_object(path: str, where: str = "target", *, reload: bool = False) -> Any:
    """Import what a dotted path names, or its replacement in ``STANDS_FOR``.

    Args:
        path: ``package.module.Name``.
        where: Place in the YAML, for the error message.
        reload: Reload the module first (for notebooks).

    Raises:
        UserError: There is no such module or name.
    """
    module_name, _, name = STANDS_FOR.get(path, path).rpartition(".")
    try:
        module = importlib.import_module(module_name)
        if reload:
            module = importlib.reload(module)
        return getattr(module, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{where}: {path!r} cannot be imported ({error}); expected the dotted path of an "
            "importable class; check its spelling and that its package is installed"
        ) from error


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
