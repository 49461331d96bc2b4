"""Load YAML configurations and build what they describe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ldm.building import accepted_parameters, build_from, import_object, refusals_in_words
from ldm.errors import UserError
from ldm.paths import exists
from ldm.yaml_files import check_references, read_yaml

SECTIONS = ("model", "data", "lightning")
# What main.py reads beside `target` and `params`.
BESIDE = {"model": ("base_learning_rate",)}
# Places of objects whose `target` may be left to a default.
WITHOUT_TARGET = re.compile(r"lightning\.(callbacks\.[^.]+|modelcheckpoint|logger)")
OURS = ("ldm.", "main.")
TOKENIZER = "model.params.cond_stage_config.params.tokenizer_path"
MERGING = (
    OmegaConfBaseException,
    YAMLError,
    TypeError,
    ValueError,
    LookupError,
    RecursionError,
)
SHORT = {"lr": "learning_rate", "bs": "batch_size"}


def load_config(
    *paths: str | Path,
    overrides: Sequence[str] = (),
    recorded: Sequence[str] = (),
    screen: Callable[[DictConfig], DictConfig] | None = None,
) -> DictConfig:
    """Merge YAML files from left to right, then ``a.b=c`` overrides.

    Args:
        *paths: The files. A tokenizer that a file names and that lies beside it is found there.
        overrides: The user's changes.
        recorded: Changes that a file records; they come before the user's.
        screen: Is shown what files and records say together, before anything in it is imported,
            and returns what counts of it.

    Raises:
        UserError: A file is missing or not a YAML mapping, an override is not ``key=value`` or
            begins a section that nothing reads, or as ``read_yaml`` and ``check_keys``.
    """
    parts = [_near(read_yaml(Path(path)), Path(path)) for path in paths]
    known = {*SECTIONS, *(str(key) for part in parts for key in part)}
    for item in (*recorded, *overrides):
        if "=" not in item:
            raise UserError(f"override {item!r} given; expected key=value, as model.params.x=1")
        _check_section(item, known)
    try:
        config = _merged(*parts, changes=recorded)
        config = config if screen is None else screen(config)
        config = _merged(config, changes=overrides)
    except UserError:
        raise
    except MERGING as error:
        raise UserError(
            f"configuration cannot be merged: {str(error).splitlines()[0]}; check the overrides "
            f"{[*recorded, *overrides]} and the files {[str(p) for p in paths]}"
        ) from error
    check_keys(config)
    return config


def _near(part: DictConfig, file: Path) -> DictConfig:
    """Let a relative ``tokenizer_path`` lead to what lies beside the file that has it, if it does.

    So a model and its tokenizer can be moved together, and be used from any working directory.
    """
    with suppress(OmegaConfBaseException):  # wrong values are told where they are used
        given = OmegaConf.select(part, TOKENIZER)
        if isinstance(given, str) and given and exists(near := file.parent / given):
            OmegaConf.update(part, TOKENIZER, str(near))
    return part


def _merged(*parts: DictConfig, changes: Sequence[str]) -> DictConfig:
    """Merge parts, then changes; one part without changes is returned as it is."""
    if len(parts) == 1 and not changes:
        return parts[0]
    config = OmegaConf.merge(*parts, OmegaConf.from_dotlist(list(changes)))
    check_references(config, f"the configuration{' with its overrides' if changes else ''}")
    return config


def _check_section(override: str, known: set[str]) -> None:
    section = re.split(r"[.\[=]", override)[0]
    if section not in known:
        near = difflib.get_close_matches(section, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}"
        raise UserError(f"override {override!r} given; nothing reads {section!r}; {hint}")


def build(config: DictConfig, path: str = "model", **extra: Any) -> Any:
    """Build the object that ``config`` describes at a dotted ``path``.

    Raises:
        UserError: Nothing at that path, a value there is of the wrong kind, or as ``check_keys``
            and ``instantiate_from_config``.
    """
    check_keys(config)
    node = OmegaConf.select(config, path)
    if node is None:
        raise UserError(f"the configuration has no {path!r}; expected a mapping with 'target'")
    with refusals_in_words():
        return build_from(node, where=path, **extra)


@dataclass(frozen=True)
class _Description:
    """A mapping that describes an object by ``target`` and ``params``.

    Attributes:
        path: Its place in the configuration.
        node: The mapping.
        ours: Whether one of our classes builds it, which reads nothing else.
    """

    path: str
    node: Mapping[str, Any]
    ours: bool

    def strays(self) -> list[str]:
        """Return the keys that nobody reads."""
        known = ("target", "params", *BESIDE.get(self.path, ()))
        found = [str(key) for key in self.node if key not in known]
        # Somebody else's class may read keys of its own, but not parameters of what it builds.
        return found if self.ours else [key for key in found if key in self.parameters()]

    def parameters(self) -> set[str]:
        """Return the names that may stand in ``params``, as far as they are known."""
        given = self.node.get("params")
        names = set(map(str, given)) if isinstance(given, Mapping) else set()
        try:
            cls = import_object(self.node.get("target", ""))
        except Exception:  # whatever is wrong with the class is told when it is built
            return names
        return names | (accepted_parameters(cls) or set())

    def fault(self, key: str) -> str:
        """Say that nobody reads a key, and where it may belong."""
        beside, inside = ["target", "params", *BESIDE.get(self.path, ())], self.parameters()
        spelt = "_".join(SHORT.get(word, word) for word in key.split("_"))
        near = difflib.get_close_matches(spelt, [*inside, *beside], n=1)
        if not near:
            hint = f"a parameter of the class is written {self.path}.params.{key}"
        elif near[0] in beside:
            hint = f"did you mean {self.path}.{near[0]}?"
        else:
            hint = f"did you mean {self.path}.params.{near[0]}?"
        return f"{self.path}.{key}: nothing reads it; expected only {', '.join(beside)}; {hint}"


def check_keys(config: DictConfig) -> None:
    """Refuse settings that nothing would read, because they stand beside ``params``.

    Args:
        config: A whole configuration.

    Raises:
        UserError: The message gives the place that was probably meant.

    Example:
        >>> check_keys(OmegaConf.create({"model": {"target": "torch.nn.Linear", "bias": False}}))
        Traceback (most recent call last):
        ...
        ldm.errors.UserError: model.bias: nothing reads it; expected only target, params, \
base_learning_rate; did you mean model.params.bias?
    """
    tree = OmegaConf.to_container(config, resolve=False)
    for description in _descriptions(tree, "", ours=True):
        for key in description.strays():
            raise UserError(description.fault(key))


def _descriptions(node: Any, path: str, *, ours: bool) -> Iterator[_Description]:
    """Yield what describes objects in a part of a configuration, outer ones first."""
    if isinstance(node, Sequence) and not isinstance(node, str):
        for number, item in enumerate(node):
            yield from _descriptions(item, f"{path}[{number}]", ours=ours)
    if not isinstance(node, Mapping):
        return
    target = node.get("target")
    if isinstance(target, str) or WITHOUT_TARGET.fullmatch(path):
        yield _Description(path, node, ours)
    if path and ("target" in node or "params" in node):
        ours = str(target).startswith(OURS)
    for key, value in node.items():
        yield from _descriptions(value, f"{path}.{key}".lstrip("."), ours=ours)
