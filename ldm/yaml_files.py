"""Read a YAML file within budgets: no bombs, and references such as `${a.b}` for all it can say.

OmegaConf's resolvers (``${oc.env:HOME}``, ``${oc.create:...}`` and those that a library registers)
read the environment or run code; what a file says must be in the file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldm.budgets import (
    CONFIG_BYTES,
    CONFIG_DEPTH,
    CONFIG_DIGITS,
    CONFIG_LENGTH,
    CONFIG_NODES,
    QUOTED,
)
from ldm.errors import UserError
from ldm.legible import legible, quoted
from ldm.paths import file_fault

REFERENCE = re.compile(r"\$\{\s*(\.*[\w-]+(?:\.[\w-]+|\[[\w-]+\])*)\s*\}")
NUMBER = re.compile(r"[-+]?[\d.][\w.:+-]*")
UNREADABLE = (
    yaml.YAMLError,
    OmegaConfBaseException,
    OSError,
    ValueError,
    TypeError,
    RecursionError,
)
LONGEST_CHAIN = 4 * CONFIG_DEPTH
Place = tuple[str | int, ...]


def read_yaml(path: Path) -> DictConfig:
    """Read one configuration; nothing in it is resolved yet.

    Raises:
        UserError: It cannot be read, is no YAML mapping, is beyond a budget, or holds an
            interpolation other than a reference.
    """
    config = _read(path, lambda text: OmegaConf.load(io.StringIO(text)), DictConfig)
    check_references(config, f"config {str(path)!r}")
    return config


def read_record(path: Path) -> dict[str, Any]:
    """Read a mapping of plain values, whose texts mean themselves: a prompt may have any.

    Raises:
        UserError: It cannot be read, is no YAML mapping, or is beyond a budget.
    """
    return _read(path, yaml.safe_load, dict)


def _read(path: Path, load: Callable[[str], Any], kind: type[Mapping]) -> Any:
    what = f"config {str(path)!r}"
    if fault := file_fault(path):
        raise UserError(f"{what} {fault}; give the path of a YAML file")
    try:
        text = _text(path)
        _check_size(text, what)
        read = load(text)
    except UserError:
        raise
    except UNREADABLE as error:
        reason = legible(" ".join(str(error).split()), QUOTED)
        raise UserError(f"{what} is no readable YAML ({reason}); correct it") from error
    if not isinstance(read, kind):
        raise UserError(f"{what} holds no mapping; expected keys such as 'model'")
    return read


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(CONFIG_BYTES + 1)
    if len(content) > CONFIG_BYTES:
        raise _beyond(f"config {str(path)!r}", f"more than {CONFIG_BYTES} bytes")
    return content.decode("utf-8-sig")


def _check_size(text: str, what: str) -> None:
    """Count what a YAML text unfolds to, without unfolding it."""
    sizes: dict[str, int] = {}  # of what each anchor names
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the count where it began
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_nodes):
                raise _beyond(what, f"an alias {quoted(event.anchor)} within what it names")
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.NodeEvent):
            open_nodes.append((event.anchor, count))
            count += 1
        if isinstance(event, yaml.ScalarEvent):
            _check_scalar(event, what)
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionEndEvent):
            anchor, begun = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = count - begun
        if len(open_nodes) > CONFIG_DEPTH:
            raise _beyond(what, f"more than {CONFIG_DEPTH} levels within one another")
        if count > CONFIG_NODES:
            raise _beyond(what, f"more than {CONFIG_NODES} values, aliases unfolded")


def _check_scalar(event: yaml.ScalarEvent, what: str) -> None:
    """Refuse a number that takes long to read; a text may be long."""
    tagged = event.tag is not None and not event.implicit[0]
    plain = event.implicit[0] and NUMBER.fullmatch(event.value)
    if len(event.value) > CONFIG_DIGITS and (tagged or plain):
        raise _beyond(what, f"a number of {len(event.value)} digits")


def _beyond(what: str, claim: str) -> UserError:
    return UserError(f"{what} has {claim}; expected a model's configuration; shorten it")


def check_references(config: Mapping[str, Any], what: str) -> None:
    """Check that interpolations are references such as ``${a.b}``, and stay short put in.

    Args:
        config: Its texts as they were written.
        what: What to call it in messages.

    Raises:
        UserError: A resolver, a reference made of pieces, in a circle, or too long.
    """
    tree = OmegaConf.to_container(config, resolve=False)
    for place, text in _texts(tree, ()):
        if "${" in REFERENCE.sub("", text):
            raise UserError(
                f"{what}: {dotted(place)} has an interpolation that is more than a reference "
                f"({_named(text)}); expected ${{a.b}}, the place of another value in the same "
                "file: resolvers are off; write the value itself"
            )
    measure = _Measure(tree, what)
    if measure.length > CONFIG_LENGTH or measure.nodes > CONFIG_NODES:
        raise _beyond(what, "references that unfold to too much")


def _named(text: str) -> str:
    """Name the resolver of an interpolation; never quote what else is in it."""
    name = re.search(r"\$\{\s*([\w.]+)\s*:", text)
    return f"resolver {name[1][:QUOTED]}" if name else "nested or malformed"


def _texts(node: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(node, str):
        yield place, node
    for key, value in children(node):
        yield from _texts(value, (*place, key))


def children(node: Any) -> Iterator[tuple[str | int, Any]]:
    """Yield what a mapping or a list holds, by key or number; nothing of anything else."""
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, Sequence) and not isinstance(node, str | bytes):
        yield from enumerate(node)


def dotted(place: Place) -> str:
    """Return a place as it is written.

    Example:
        >>> dotted(("data", "params", 2))
        'data.params[2]'
    """
    parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return legible("".join(parts).lstrip("."), QUOTED) or "the file"


class _Measure:
    """Measures a tree with its references put in, without putting them in.

    Attributes:
        nodes: How many values it has.
        length: How many characters all of its texts have.
    """

    def __init__(self, tree: Any, what: str) -> None:
        self._tree, self._what = tree, what
        self._known: dict[Place, tuple[int, int]] = {}
        self._open: set[Place] = set()
        self.length, self.nodes = self._size((), tree)

    def _size(self, place: Place, node: Any) -> tuple[int, int]:
        if place in self._open:
            raise UserError(
                f"{self._what}: {dotted(place)} refers to itself; expected references that end at "
                "a value; write the value itself"
            )
        if len(self._open) > LONGEST_CHAIN:
            raise _beyond(self._what, f"references through more than {LONGEST_CHAIN} places")
        if place not in self._known:
            self._open.add(place)
            self._known[place] = self._measured(place, node)
            self._open.remove(place)
        return self._known[place]

    def _measured(self, place: Place, node: Any) -> tuple[int, int]:
        sizes = [(len(node) if isinstance(node, str) else 0, 1)]
        for key, value in children(node):
            sizes.append(self._size((*place, key), value))
        for reference in REFERENCE.findall(node) if isinstance(node, str) else ():
            named = _target(reference, place)
            sizes.append(self._size(named, _at(self._tree, named)))
        return sum(length for length, _ in sizes), sum(nodes for _, nodes in sizes)


def _target(reference: str, place: Place) -> Place:
    """Return the place that a reference at a place names; dots before it begin at its parents."""
    dots = len(reference) - len(reference.lstrip("."))
    keys = re.findall(r"[\w-]+", reference)
    return (*(place[: max(len(place) - dots, 0)] if dots else ()), *keys)


def _at(tree: Any, place: Place) -> Any:
    """Return what stands at a place; None where nothing does."""
    for key in place:
        if isinstance(tree, Mapping) and str(key).isdecimal() and key not in tree:
            key = int(key)
        try:
            tree = tree[key if isinstance(tree, Mapping) else int(key)]
        except (LookupError, TypeError, ValueError):
            return None
    return tree
