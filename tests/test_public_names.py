"""The reference's names are at its addresses, and we ask of its files no more than they have.

Then a fork finds what it imports, and any one of the reference's files, or a fork's version of it,
can take the place of ours; ``test_stand_ins`` does so.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest
from reference_surface import SURFACE, names_of

ROOT = Path(__file__).resolve().parents[1]
# Helpers that nothing outside their file uses; ours has other ones.
INNER = {"__models__", "interpolate_fn"}
# The reference gives these other parameter names from file to file.
RENAMED = {"exists", "max_neg_value"}
NAMES = [(module, name) for module in SURFACE for name in names_of(module) if name not in INNER]
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("ldm", "optimizedSD", "scripts", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
TREES["main.py"] = ast.parse((ROOT / "main.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_the_name_is_at_the_references_address(module, name):
    found = importlib.import_module(module)
    assert hasattr(found, name) and name in dir(found)


@pytest.mark.parametrize(
    ("module", "name"),
    [(m, n) for m, n in NAMES if names_of(m)[n] is not None and n not in RENAMED],
)
def test_what_the_reference_takes_is_taken_here_in_its_order(module, name):
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    expected = names_of(module)[name]
    by_place = expected[: expected.index("*")] if "*" in expected else expected
    by_place = [parameter for parameter in by_place if not parameter.startswith("*")]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        usual = inspect.Parameter.POSITIONAL_OR_KEYWORD
        in_order = [p.name for p in parameters.values() if p.kind is usual]
        # Behind what it names, a class of ours may hand keywords on to its base.
        known = len(in_order) if inspect.Parameter.VAR_KEYWORD in kinds else len(by_place)
        assert in_order[: len(by_place)] == by_place[:known]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        by_name = {parameter for parameter in expected if not parameter.startswith("*")}
        assert by_name <= set(parameters)


def imports(tree: ast.AST) -> list[tuple[str, str, str, int]]:
    """Return (module, name, name here, line) of what is imported from the reference's modules."""
    return [
        (node.module, alias.name, alias.asname or alias.name, node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in SURFACE
        for alias in node.names
    ]


def unknown_names(tree: ast.AST) -> list[str]:
    return [
        f"line {line}: {module} has no {name} in the reference; import it from a file of ours"
        for module, name, _, line in imports(tree)
        if name not in names_of(module)
    ]


def unknown_arguments(tree: ast.AST) -> list[str]:
    """Return the calls of imported names with more than the reference takes."""
    known = {here: names_of(module).get(name) for module, name, here, _ in imports(tree)}
    faults = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        expected = known.get(node.func.id)
        if expected is None or any(p.startswith("**") for p in expected):
            continue
        given = {keyword.arg for keyword in node.keywords if keyword.arg}
        by_place = expected.index("*") if "*" in expected else len(expected)
        if not given <= set(expected) or len(node.args) > by_place:
            faults.append(f"line {node.lineno}: {ast.unparse(node)}; it takes {expected}")
    return faults


@pytest.mark.parametrize("file", TREES)
def test_only_the_references_names_are_asked_of_its_modules(file):
    assert not unknown_names(TREES[file])


@pytest.mark.parametrize("file", TREES)
def test_only_the_references_arguments_are_given_to_its_functions(file):
    assert not unknown_arguments(TREES[file])


@pytest.mark.parametrize(
    "guilty",
    [
        "from ldm.util import lazy_exports",
        "from ldm.modules.ema import LitEma, restart",
        "def f():\n    from ldm.modules.attention import AttentionLayer as L",
    ],
)
def test_the_search_finds_names_that_the_reference_lacks(guilty):
    assert unknown_names(ast.parse(guilty))


@pytest.mark.parametrize(
    "call",
    [
        "instantiate_from_config(config, where='model')",
        "instantiate_from_config(config, 'model')",
        "checkpoint(f, (x,), recompute=True)",
        "SpatialTransformer(8, 2, 4, use_linear=True)",
    ],
)
def test_the_search_finds_arguments_that_the_reference_lacks(call):
    head = (
        "from ldm.util import instantiate_from_config\n"
        "from ldm.modules.attention import SpatialTransformer\n"
        "from ldm.modules.diffusionmodules.util import checkpoint\n"
    )
    assert unknown_arguments(ast.parse(head + call))
