"""Imports go down the storeys, never in a circle; nothing prints or assumes CUDA.

Everything is read from the source with `ast`, so an import inside a function counts too: a lazy
import saves start-up time, it does not excuse an upward dependency.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# docs/architecture.md draws these; the longest matching prefix decides.
STOREYS = {
    "ldm": 0,
    "ldm.budgets": 0,
    "ldm.legible": 0,
    "ldm.errors": 0,
    "ldm.paths": 0,
    "ldm.arguments": 0,
    "ldm.atomic": 0,
    "ldm.util": 0,
    "ldm.building": 0,
    "ldm.lazy": 0,
    "ldm.prefetch": 0,
    "ldm.config": 0,
    "ldm.yaml_files": 0,
    "ldm.types": 0,
    "ldm.rng": 0,
    "ldm.lr_scheduler": 0,
    "ldm.muon": 0,
    "ldm.wrapping": 0,
    "ldm.tables": 0,
    "ldm.processor": 0,
    "ldm.keeping": 0,
    "ldm.digests": 0,
    "ldm.process": 1,
    "ldm.settings": 1,
    "ldm.modules": 2,
    "ldm.prompts": 2,
    "ldm.checkpoint": 2,
    "ldm.images": 2,
    "ldm.hints": 2,
    "ldm.data": 2,
    "ldm.translation": 2,
    "ldm.models": 3,
    "ldm.adapters": 4,
    "ldm.safety": 4,
    "ldm.shortcuts": 4,
    "ldm.offload": 4,
    "ldm.kernels": 4,
    "ldm.upscalers": 4,
    "ldm.faces": 4,
    "ldm.masking": 4,
    "ldm.pipelines": 5,
    "ldm.training": 5,
    "ldm.evaluation": 5,
    "ldm.retrieval": 5,
    "cldm": 5,
    "ldm.gallery": 5,
    "ldm.feedback": 5,
    "ldm.sweeps": 6,
    "ldm.jobs": 6,
    "ldm.programs": 6,
    "main": 6,
    "scripts": 6,
    "optimizedSD": 6,
    "benchmarks": 7,
    "apps": 7,
    "notebooks": 7,
}
PROGRAM_FOLDERS = ("cldm", "scripts", "optimizedSD", "benchmarks", "apps", "notebooks")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files() -> dict[str, Path]:
    """Return every module of the project by dotted name: the package and the programs."""
    files = [path for path in (ROOT / "ldm").rglob("*.py")]
    for folder in PROGRAM_FOLDERS:
        files += (ROOT / folder).rglob("*.py")
    files += [path for path in [ROOT / "main.py"] if path.exists()]
    return {module_name(path): path for path in sorted(files)}


FILES = source_files()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def storey(name: str) -> int:
    parts = name.split(".")
    # "ldm" itself is only its docstring: a new room does not inherit the ground floor from it.
    shortest = 2 if parts[0] == "ldm" and len(parts) > 1 else 1
    for length in range(len(parts), shortest - 1, -1):
        prefix = ".".join(parts[:length])
        if prefix in STOREYS:
            return STOREYS[prefix]
    raise AssertionError(f"{name} has no storey: give its room one in STOREYS and architecture.md")


def imported_names(name: str) -> set[str]:
    """Return the dotted names that a module imports, its own project's only."""
    found: set[str] = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import at line {node.lineno}"
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                found.add(dotted if dotted in FILES else node.module)
    roots = {*PROGRAM_FOLDERS, "ldm", "main"}
    return {dotted for dotted in found if dotted.split(".")[0] in roots}


IMPORTS = {name: imported_names(name) for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_a_module_imports_only_its_own_storey_and_those_below(name):
    above = {target for target in IMPORTS[name] if storey(target) > storey(name)}
    assert not above, f"{name} (storey {storey(name)}) imports from above: {sorted(above)}"


@pytest.mark.parametrize("name", FILES)
def test_a_module_imports_only_modules_that_exist(name):
    missing = {target for target in IMPORTS[name] if target not in FILES}
    assert not missing, f"{name} imports {sorted(missing)}"


def test_modules_do_not_import_in_a_circle():
    graph = {name: targets - {name} for name, targets in IMPORTS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(error.args[1]))


def test_rooms_do_not_import_in_a_circle():
    def room(name: str) -> str:
        return ".".join(name.split(".")[:2]) if name.startswith("ldm") else name.split(".")[0]

    graph: dict[str, set[str]] = {}
    for name, targets in IMPORTS.items():
        graph.setdefault(room(name), set()).update({room(t) for t in targets} - {room(name)})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of rooms: " + " -> ".join(error.args[1]))


def test_scripts_are_not_imported():
    """Scripts are run: what two of them need lives in `ldm`."""
    importers = {
        name: sorted(target for target in targets if target.split(".")[0] == "scripts")
        for name, targets in IMPORTS.items()
    }
    assert not {name: targets for name, targets in importers.items() if targets}


def test_the_plan_of_the_house_shows_every_room():
    """The drawing puts each on its storey; under "Rooms" each folder has a heading."""
    plan = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    drawing = re.search(r"^## Storeys.*?```\n(.*?)```", plan, re.DOTALL | re.MULTILINE)[1]
    drawn, level = {}, None
    for line in drawing.splitlines():
        level = level if line.startswith(" ") else int(line[0])
        # "5  ldm.pipelines  ldm.training      what they do"
        for name in re.split(r" {3,}", line[3:])[0].split():
            drawn[name.removesuffix("/").removesuffix(".py")] = level
    assert drawn == {name: level for name, level in STOREYS.items() if name != "ldm"}
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "ldm").rglob("*.py")}
    assert rooms <= set(re.findall(r"^### (\S+)$", plan, re.MULTILINE))


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


LIBRARY = [name for name in FILES if name.split(".")[0] == "ldm"]


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_does_not_print(name):
    lines = [
        call.lineno
        for call in calls(TREES[name])
        if isinstance(call.func, ast.Name) and call.func.id == "print"
    ]
    assert not lines, f"{name} prints at lines {lines}: log it, or let the program say it"


def is_cuda_text(node: ast.AST | None) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.split(":")[0] == "cuda"
    )


def cuda_assumptions(tree: ast.AST) -> list[int]:
    """Return lines that send something to CUDA unasked: `.cuda()`, `device="cuda"`, `to("cuda")`.

    Asking is fine: `torch.cuda.is_available()`, `device.type == "cuda"`.
    """
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            moved = isinstance(node.func, ast.Attribute) and node.func.attr == "cuda"
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            if moved or any(is_cuda_text(value) for value in given):
                lines.append(node.lineno)
        elif isinstance(node, ast.arguments):
            defaults = [*node.defaults, *node.kw_defaults]
            lines += [value.lineno for value in defaults if value and is_cuda_text(value)]
    return lines


@pytest.mark.parametrize("name", FILES)
def test_nothing_assumes_cuda(name):
    lines = cuda_assumptions(TREES[name])
    assert not lines, f"{name} names CUDA at lines {lines}: take the device from the caller"


def test_the_search_for_cuda_finds_each_way_of_assuming_it():
    guilty = [
        "model.cuda()",
        "x.to('cuda')",
        "torch.device('cuda:0')",
        "def f(device='cuda'): pass",
        "def f(*, device='cuda'): pass",
        "randn(3, device='cuda')",
    ]
    innocent = ["torch.cuda.is_available()", "device.type == 'cuda'", "torch.cuda.synchronize(d)"]
    assert all(cuda_assumptions(ast.parse(text)) for text in guilty)
    assert not any(cuda_assumptions(ast.parse(text)) for text in innocent)


def modules_loaded_by(*names: str) -> set[str]:
    """Import the named modules in a fresh interpreter; return all top-level packages loaded."""
    program = (
        "import importlib, json, sys\n"
        f"for name in {list(names)!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_what_can_be_chosen_is_known_without_torch():
    """`--help` must answer in half a second; torch alone takes longer than that."""
    packages = ["ldm", "ldm.errors", "ldm.models", "ldm.pipelines", "ldm.programs.drawing"]
    settings = [name for name in LIBRARY if name.startswith("ldm.settings.")]
    assert len(settings) >= 10
    loaded = modules_loaded_by(*packages, *settings)
    assert loaded.isdisjoint({"torch", "numpy", "PIL", "omegaconf"})


def test_inference_imports_neither_lightning_nor_the_optional_peers():
    """Lightning costs six seconds; transformers and cv2 are for features that may be off."""
    training = {"ldm.training", "ldm.data"}
    modules = [n for n in LIBRARY if ".".join(n.split(".")[:2]) not in training]
    # The classes that Lightning trains; what draws stands in modules of its own.
    trained = "hub_training two_sided_training first_stage_training autoencoder contrastive"
    diffusion = "ddpm latent_inpainting layout classifier dreambooth prior_preservation"
    modules = sorted(
        {*modules}
        - {f"ldm.models.{name}" for name in trained.split()}
        - {f"ldm.models.diffusion.{name}" for name in diffusion.split()}
    )
    heavy = {"pytorch_lightning", "lightning", "transformers", "diffusers", "cv2", "imwatermark"}
    assert modules_loaded_by(*modules).isdisjoint(heavy | {"taming", "kornia", "torchvision"})
