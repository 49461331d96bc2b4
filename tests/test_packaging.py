"""The dependencies are said once, admit the libraries that are promised, and cover every import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest depends on tomli where the standard library has no reader
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]

# Import names that differ from the distribution's.
DISTRIBUTIONS = {
    "PIL": "Pillow",
    "faiss": "faiss-cpu",
    "imwatermark": "invisible-watermark",
    "open_clip": "open_clip_torch",
    "pytorch_lightning": "pytorch-lightning",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "taming": "taming-transformers-rom1504",
    # Comes with its owner by declaration of that owner: invisible-watermark needs OpenCV.
    "cv2": "invisible-watermark",
    # omegaconf reads YAML with it; huggingface-hub, its own cache; pytest, requirement strings.
    "yaml": "omegaconf",
    # The part of gradio that asks a page over HTTP.
    "gradio_client": "gradio",
    "huggingface_hub": "transformers",
    "tokenizers": "transformers",
    "packaging": "pytest",
    "linebot": "line-bot-sdk",
    # Through which the SDK calls, and whose errors it lets pass.
    "urllib3": "line-bot-sdk",
    "_pytest": "pytest",
}
OWN = {"ldm", "main", "scripts", "optimizedSD", "apps", "container", "benchmarks", "conftest"}
OWN |= {"tests", "docs"}
EVERYTHING = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {canonical(Requirement(text).name) for text in requirements}


def specifier(name: str) -> SpecifierSet:
    (found,) = [r for r in map(Requirement, EVERYTHING) if canonical(r.name) == canonical(name)]
    return found.specifier


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("torch", ["2.11.0", "2.13.1", "2.15.0"], ["2.10.0", "3.0.0"]),
        ("transformers", ["4.57.0", "5.0.0", "5.23.0"], ["4.19.2", "6.0.0"]),
        ("pytorch-lightning", ["2.6.0", "2.6.6"], ["1.9.5", "3.0.0"]),
    ],
)
def test_the_ranges_admit_what_is_promised(name, inside, outside):
    assert all(version in specifier(name) for version in inside)
    assert not any(version in specifier(name) for version in outside)


def test_python_3_10_to_3_13_are_admitted():
    pythons = SpecifierSet(PROJECT["requires-python"])
    assert all(version in pythons for version in ("3.10.0", "3.11.7", "3.12.1", "3.13.5"))
    assert "3.9.18" not in pythons
    assert f"{sys.version_info.major}.{sys.version_info.minor}.0" in pythons


def test_taming_is_the_distribution_that_has_vector_quantizer_2():
    declared = names(PROJECT["dependencies"]) | names(EXTRAS["train"])
    assert "taming-transformers-rom1504" in declared
    assert "taming-transformers" not in declared


def test_a_package_that_several_extras_list_has_the_same_bounds_in_each():
    for lines in (PROJECT["dependencies"], *EXTRAS.values()):
        assert len(names(lines)) == len(lines)
    assert len(names(EVERYTHING)) == len(set(EVERYTHING))


def test_the_test_extra_includes_the_others():
    (own,) = [r for r in map(Requirement, EXTRAS["test"]) if r.name == PROJECT["name"]]
    assert own.extras == EXTRAS.keys() - {"test", "gcs"}


def test_the_conda_environment_installs_this_project_and_lists_nothing_itself():
    environment = OmegaConf.to_container(OmegaConf.load(ROOT / "environment.yaml"))
    assert environment["name"] == "ldm"
    *plain, pip = environment["dependencies"]
    assert [re.split(r"[<>=]", text)[0] for text in plain] == ["python", "pip"]
    assert pip == {"pip": ["-e .[train]"]}
    assert PROJECT["requires-python"] == plain[0].removeprefix("python")


def test_setup_py_says_nothing_of_its_own():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (call,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not call.args
    assert not call.keywords


def third_party_imports(folder: str) -> dict[str, set[str]]:
    """Return {top-level import name: files} of what is neither ours nor the standard library's."""
    found: dict[str, set[str]] = {}
    root = ROOT / folder
    for path in [root] if root.is_file() else root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            for module in modules:
                found.setdefault(module.split(".")[0], set()).add(str(path.relative_to(ROOT)))
    # Programs and tests import their helpers by bare name: a module, or the folder that it lies in.
    siblings = {
        path.stem
        for near in ("tests", "benchmarks", "notebooks")
        for path in (ROOT / near).rglob("*")
    }
    siblings -= set(DISTRIBUTIONS)
    # The standard library's own reader of TOML came with Python 3.11.
    known = OWN | siblings | set(sys.stdlib_module_names) | {"tomllib"}
    return {name: files for name, files in found.items() if name not in known}


# What users choose to install: a program says in one line where it is missing.
BY_CHOICE = {"controlnet_aux", "openvino", "spandrel_extra_arches", "playwright"}
BY_CHOICE |= {"stable_diffusion_cpp"}  # built by hand
BY_CHOICE |= {"triton"}  # comes with torch for CUDA


def undeclared(folder: str, requirements: list[str]) -> dict[str, set[str]]:
    declared = names(requirements)
    return {
        name: files
        for name, files in third_party_imports(folder).items()
        if canonical(DISTRIBUTIONS.get(name, name)) not in declared and name not in BY_CHOICE
    }


def test_everything_that_the_package_imports_is_declared():
    wanted = ("train", "retrieval", "japanese", "scale", "ray", "upscale", "repair")
    extras = [line for name in wanted for line in EXTRAS[name]]
    assert not undeclared("ldm", [*PROJECT["dependencies"], *extras])


@pytest.mark.parametrize(
    "room", ["process", "modules", "checkpoint", "images", "models", "safety", "pipelines"]
)
def test_inference_needs_only_the_plain_dependencies(room):
    # One kind of text encoder needs a package more, and asks for it when it reads its first prompt.
    assert not undeclared(f"ldm/{room}", [*PROJECT["dependencies"], *EXTRAS["japanese"]])


@pytest.mark.parametrize(
    "folder",
    ["scripts", "optimizedSD", "apps", "container", "benchmarks", "main.py", "tests", "docs"],
)
def test_everything_that_programs_and_tests_import_is_declared(folder):
    assert not undeclared(folder, EVERYTHING)


def test_nothing_is_declared_that_no_code_uses():
    used = {
        # Read for its vocabulary file, never imported.
        "open-clip-torch",
        # What YAML files of the family name as targets.
        "kornia",
        "taming-transformers-rom1504",
    }
    for folder in ("ldm", "scripts", "main.py"):
        used |= {canonical(DISTRIBUTIONS.get(name, name)) for name in third_party_imports(folder)}
    assert not names([*PROJECT["dependencies"], *EXTRAS["train"]]) - used


def test_every_folder_of_the_package_would_be_installed():
    """setuptools finds packages by their `__init__.py`; without one a folder is left out."""
    folders = {path.parent for path in (ROOT / "ldm").rglob("*.py")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").exists()]
    include = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert include == ["ldm", "ldm.*", "cldm", "cldm.*"]


def test_licence_and_notices_come_with_the_project():
    assert PROJECT["license"] == "MIT"
    for name in PROJECT["license-files"]:
        assert (ROOT / name).read_text(encoding="utf-8").strip()
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert all(
        word in notice for word in ("Noto Color Emoji", "Google Inc.", "OFL 1.1", "Apache-2.0")
    )


def test_the_fresh_machine_check_is_sound_shell():
    program = ROOT / ".ci" / "run"
    assert program.stat().st_mode & 0o111, ".ci/run is not executable"
    done = subprocess.run(["bash", "-n", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
