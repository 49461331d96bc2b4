"""Find the class without training that draws in place of a model's class.

The classes at the reference's addresses are LightningModules, and importing Lightning takes
seconds. Their modules name in ``DRAWN_BY`` the classes that drawing needs; that is read from the
source text, for importing it would import Lightning. A fork's own file at such an address has no
``DRAWN_BY``, so that its classes are imported and draw themselves.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from ldm.util import get_obj_from_str


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

    A class whose own body overrides something of that class draws itself: what somebody changed
    there must be seen in pictures.
    """
    module, _, name = str(target).rpartition(".")
    tree = _source(module)
    stand_in = _table(tree).get(name)
    if stand_in is None:
        return None
    return stand_in if not _overrides(tree, name) & _members(stand_in) else None


def _source(module: str) -> ast.Module:
    """Parse a module's source without importing it; an empty one where there is none."""
    try:
        spec = find_spec(module) if module.startswith("ldm.") else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.has_location or not str(spec.origin).endswith(".py"):
        return ast.Module([], [])
    text = Path(spec.origin).read_text(encoding="utf-8")
    return ast.parse(text) if "DRAWN_BY" in text else ast.Module([], [])


def _table(tree: ast.Module) -> dict[str, str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DRAWN_BY":
            return ast.literal_eval(node.value)
    return {}


def _overrides(tree: ast.Module, name: str) -> set[str]:
    """Return what the body of a class defines."""
    bodies = [n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    names = set()
    for statement in (statement for body in bodies for statement in body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            names |= {t.id for t in statement.targets if isinstance(t, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names.add(statement.target.id)
    return names


def _members(target: str) -> set[str]:
    """Return what a class and its bases define, up to ``nn.Module``."""
    bases = [base for base in get_obj_from_str(target).__mro__ if base not in nn.Module.__mro__]
    return {name for base in bases for name in vars(base)} - {"__doc__", "__module__"}
