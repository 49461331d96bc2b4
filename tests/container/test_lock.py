"""The container's packages are locked: exact, with sums, and within pyproject.toml's ranges."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCKED = re.compile(r"([A-Za-z0-9_.-]+)==([^ ;]+)(?: +--hash=sha256:[0-9a-f]{64})* *")
ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "container"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What an image with PACKAGES=... has; the others are for clusters, servers and notebooks.
ELSEWHERE = {"server", "scale", "gcs", "ray", "notebooks", "upscale", "repair"}
IN = {"draw": ("web", "japanese", "line"), "all": tuple(EXTRAS.keys() - {"test"} - ELSEWHERE)}
TORCH = ("cpu", "cu126")
IMAGE = {"python_version": "3.11", "python_full_version": "3.11.2", "sys_platform": "linux"}
STANDS_FOR = {"opencv-python": "opencv-python-headless"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str) -> dict[str, Version]:
    """Return the packages of a lock; all its lines are understood."""
    text = (HERE / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "--index"))]
    found = {}
    for line in lines:
        match = re.fullmatch(
            r"([A-Za-z0-9_.-]+)==([^ ;]+)((?: +--hash=sha256:[0-9a-f]{64})*) *", line
        )
        assert match, line
        found[canonical(match[1])] = Version(match[2])
    assert len(found) == len(lines), "a package is locked twice"
    return found


def wanted(packages: str) -> list[Requirement]:
    """Return this project's requirements that apply in the image."""
    texts = [*PROJECT["dependencies"], *(text for extra in IN[packages] for text in EXTRAS[extra])]
    found = [Requirement(text) for text in texts]
    return [each for each in found if each.marker is None or each.marker.evaluate(IMAGE)]


def left_out() -> set[str]:
    text = (HERE / "left-out.txt").read_text(encoding="utf-8")
    return {line for line in text.splitlines() if line and not line.startswith("#")}


@pytest.mark.parametrize("packages", IN)
@pytest.mark.parametrize("torch", TORCH)
def test_the_lock_has_every_requirement_in_its_range(packages, torch):
    there = {**locked(f"requirements-{packages}.txt"), **locked(f"torch-{torch}.txt")}
    for each in wanted(packages):
        assert canonical(each.name) in there, f"{each} is not locked: run container/lock.sh"
        assert there[canonical(each.name)] in each.specifier, f"{each}: run container/lock.sh"


@pytest.mark.parametrize("packages", IN)
def test_every_locked_package_has_its_sums(packages):
    text = (HERE / f"requirements-{packages}.txt").read_text(encoding="utf-8")
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


def test_both_locks_agree():
    draw, everything = (locked(f"requirements-{packages}.txt") for packages in IN)
    assert draw.items() <= everything.items()


@pytest.mark.parametrize("packages", IN)
def test_what_is_left_out_is_not_locked_and_has_what_stands_for_it(packages):
    there = locked(f"requirements-{packages}.txt")
    assert not left_out() & there.keys()
    assert {STANDS_FOR[name] for name in left_out() & STANDS_FOR.keys()} <= there.keys()


@pytest.mark.parametrize("torch", TORCH)
def test_torch_is_locked_for_its_device(torch):
    (version,) = locked(f"torch-{torch}.txt").values()
    assert version.local == torch
    # Its build for CPUs breaks torchvision.
    assert version.release != (2, 13, 0)


def test_one_release_of_torch_serves_every_device():
    assert len({locked(f"torch-{torch}.txt")["torch"].release for torch in TORCH}) == 1


def test_the_locks_of_torch_name_pytorchs_own_index_alone():
    for torch in TORCH:
        text = (HERE / f"torch-{torch}.txt").read_text(encoding="utf-8")
        assert re.findall(r"https?://\S+", text) == [f"https://download.pytorch.org/whl/{torch}"]
