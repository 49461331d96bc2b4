"""Machines as people have them: no network, packages missing, another `ldm` in the way.

Each test is a way in which the reference fails to start; the programs run whole, in a process of
their own, on a small model.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_demo import write_small_demo

ROOT = Path(__file__).resolve().parents[1]
TXT2IMG = ROOT / "scripts" / "txt2img.py"

# Runs a script as `python SCRIPT ...` would, without network and without some packages.
BARE_MACHINE = """
import runpy, socket, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def refuse(*args, **kwargs):
    raise AssertionError(f"the network was asked for: {{args}}")

sys.meta_path.insert(0, Missing())
socket.socket.connect = socket.getaddrinfo = refuse
sys.argv = {arguments!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> list[str]:
    """The flags that name a small model."""
    _, checkpoint = write_small_demo(tmp_path_factory.mktemp("demo"))
    return ["--ckpt", str(checkpoint)]


def run_bare(arguments: list, missing: set[str], folder: Path) -> subprocess.CompletedProcess:
    """Run a program in ``folder`` with neither a network nor the ``missing`` packages."""
    program = BARE_MACHINE.format(missing=missing, arguments=[str(item) for item in arguments])
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(folder / "hub")},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def quick(model: list[str], size: int = 64) -> list[str]:
    return [*model, "--ddim_steps", "2", "--n_iter", "1", "--n_samples", "1", "--skip_grid"] + [
        *("--H", str(size), "--W", str(size))
    ]


def test_drawing_needs_neither_network_nor_training_packages_nor_opencv(model, tmp_path):
    missing = {"pytorch_lightning", "lightning", "taming", "kornia", "clip", "diffusers"}
    missing |= {"transformers", "cv2", "imwatermark", "torchvision", "tensorboard"}
    run = run_bare([TXT2IMG, "--prompt", "a cat", *quick(model)], missing, tmp_path)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "outputs/txt2img-samples/samples/00000.png").is_file()


def test_without_the_watermark_package_pictures_are_saved_and_the_run_says_so(model, tmp_path):
    run = run_bare([TXT2IMG, "--prompt", "a cat", *quick(model, 256)], {"imwatermark"}, tmp_path)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "outputs/txt2img-samples/samples/00000.png").is_file()
    assert "invisible-watermark" in run.stdout + run.stderr


def test_the_scripts_find_their_own_package_beside_a_foreign_one_of_its_name(tmp_path):
    """PyPI has an unrelated `ldm`; and nobody remembers to stand in the repository."""
    foreign = tmp_path / "site-packages"
    (foreign / "ldm").mkdir(parents=True)
    (foreign / "ldm" / "__init__.py").write_text("raise ImportError('another ldm')\n")
    run = subprocess.run(
        [sys.executable, TXT2IMG, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(foreign)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", ["txt2img.py", "img2img.py", "inpaint.py"])
def test_help_needs_no_large_package(name, tmp_path):
    missing = {"torch", "torchvision", "transformers", "open_clip", "pytorch_lightning"}
    run = run_bare([ROOT / "scripts" / name, "--help"], missing, tmp_path)
    assert run.returncode == 0, run.stderr
    assert "--prompt" in run.stdout
