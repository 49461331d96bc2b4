"""Find the class without training that draws in place of a model's class.

The classes at the reference's addresses are LightningModules, and importing Lightning takes
seconds. Their modules name in ``DRAWN_BY`` the classes that drawing needs; that is read from the
source text, for importing it would import Lightning. A fork's own file at such an address has no
``DRAWN_BY``, so that its classes are imported and draw themselves.
"""

from __future__ import annotations

import ast
import functools
from collections import deque
from collections.abc import Iterator, Mapping
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from torch import nn

from ldm.util import get_obj_from_str

# Whose classes nobody edits to change what is drawn.
LIBRARIES = ("pytorch_lightning", "lightning", "torch")


def for_drawing(node: Any) -> Any:
    """Copy a model's configuration, plain containers, with the classes that draw named in it.

    It is returned as it is where the model itself has no such class: whoever wrote a hub may ask
    of which class its parts are.
    """
    if not isinstance(node, Mapping) or drawn_by(node.get("target")) is None:
        return node
    return _renamed(node)


def _renamed(node: Any) -> Any:
    if isinstance(node, list):
        return [_renamed(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    copy = {key: _renamed(value) for key, value in node.items()}
    target = drawn_by(copy.get("target"))
    return copy if target is None else {**copy, "target": target}


def drawn_by(target: Any) -> str | None:
    """Return the dotted path of the class that draws in place of ``target``, or None for itself.

    A class that overrides something of that class draws itself: what somebody changed there must
    be seen in pictures. Its own body counts, and those of its bases and mixins, wherever they lie.
    """
    module, _, name = str(target).rpartition(".")
    tree = _source(module)
    stand_in = _table(tree).get(name)
    if stand_in is None:
        return None
    plain = _ancestors(stand_in)
    seen = {f"{base.__module__}.{base.__qualname__}" for base in plain}
    changed = set().union(*map(_names, _bodies(f"{module}.{name}", seen)))
    members = {name for base in plain for name in vars(base)}
    return None if changed & (members - {"__doc__", "__module__"}) else stand_in


def _source(module: str) -> ast.Module:
    """Parse a module's source without importing it; an empty one where there is none."""
    try:
        spec = find_spec(module) if module else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.has_location or not str(spec.origin).endswith(".py"):
        return ast.Module([], [])
    return _parsed(Path(spec.origin).read_text(encoding="utf-8"))


# A hub and its parts ask for the same texts.
_parsed = functools.lru_cache(maxsize=64)(ast.parse)


def _table(tree: ast.Module, name: str = "DRAWN_BY") -> dict[str, str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    return {}


def _bodies(address: str, seen: set[str]) -> Iterator[list[ast.stmt]]:
    """Find the bodies of a class and its bases in source text, but for classes in ``seen``."""
    module, _, name = address.rpartition(".")
    if address in seen or module.partition(".")[0] in LIBRARIES:
        return
    seen.add(address)
    tree = _source(module)
    elsewhere = _imported(tree, module)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield node.body
            for base in map(ast.unparse, node.bases):
                first, dot, rest = base.partition(".")
                yield from _bodies(elsewhere.get(first, f"{module}.{first}") + dot + rest, seen)
            return
    if name in elsewhere:
        yield from _bodies(elsewhere[name], seen)


def _imported(tree: ast.Module, module: str) -> dict[str, str]:
    """Return name -> address of what a module's text imports, or offers by ``ELSEWHERE``."""
    found = {}
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom):
            where = node.module or ""
            if node.level:
                where = resolve_name("." * node.level + where, module.rpartition(".")[0])
            found = {one.asname or one.name: f"{where}.{one.name}" for one in node.names} | found
        elif isinstance(node, ast.Import):
            for one in node.names:
                top = one.name.partition(".")[0]
                found.setdefault(one.asname or top, one.name if one.asname else top)
    elsewhere = _table(tree, "ELSEWHERE").items()
    return {name: f"{where}.{name}" for name, where in elsewhere} | found


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Find a module's own statements, also those in a try or an if; outer ones come first.

    What is within a function or a class is no name of the module's, and most of the text.
    """
    left = deque(tree.body)
    while left:
        node = left.popleft()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                left += getattr(node, part, ())


def _names(body: list[ast.stmt]) -> set[str]:
    """Return what the body of a class defines."""
    names, left = set(), [*body]
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)  # what is within it is its own
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        left += ast.iter_child_nodes(node)
    return names


def _ancestors(target: str) -> list[type]:
    """Return a class and its bases, up to ``nn.Module``."""
    return [c for c in get_obj_from_str(target).__mro__ if c not in nn.Module.__mro__]
