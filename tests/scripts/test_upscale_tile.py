"""The program that makes pictures larger in tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from running import load_program
from safetensors.torch import save_file

from ldm.adapters.handle import require_unet
from ldm.checkpoint.load import load_model
from ldm.modules.diffusionmodules.control_net import control_net_like


@pytest.fixture
def small(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    return tmp_path / "small.png"


@pytest.fixture
def upscale(tiny_ckpt, tmp_path, monkeypatch, capsys):
    """Run the program in this process with the tiny model; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    program = load_program("scripts/upscale_tile.py")
    base = ["--ckpt", str(tiny_ckpt), "--device", "cpu", "--ddim_steps", "4"]

    def run(*arguments):
        code = program.main([*base, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def control(tiny_ckpt, tmp_path_factory):
    """A ControlNet of random weights for the tiny model."""
    model = load_model(tiny_ckpt.parent / "config.yaml", tiny_ckpt)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = control_net_like(require_unet(model), 4, 3)
        state = {k: torch.randn(v.shape) * 0.05 for k, v in network.state_dict().items()}
    path = tmp_path_factory.mktemp("controls") / "tile.safetensors"
    save_file({f"control_model.{name}": value for name, value in state.items()}, path)
    return path


def read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")), image.info["parameters"]


def test_one_picture_of_the_size_asked_for_is_written_without_a_grid(upscale, small, tmp_path):
    code, out, err = upscale("--init-img", small, "--factor", 2.5)
    assert code == 0, err
    (written,) = (path for path in (tmp_path / "outputs").rglob("*") if path.is_file())
    pixels, text = read(written)
    assert pixels.shape == (22, 32, 3) and "Upscale factor: 2.5" in text
    assert "becomes 32x22, in tiles of 16 pixels that overlap by 8" in out
    assert "far above" not in err


def test_what_was_written_is_drawn_again_from_itself_to_the_bit(upscale, small, control, tmp_path):
    given = ["--init-img", small, "--prompt", "a cat", "--tile", 8, "--overlap", 2, "--seed", 7]
    given += ["--control_tile", control, "--control_tile_scale", 0.5]
    assert upscale(*given, "--outdir", "a")[0] == 0
    first, text = read(tmp_path / "a/samples/00000.png")
    assert "Tile: 8" in text and "Tile overlap: 2" in text and "Tile control scale: 0.5" in text
    again = ["--from-image", tmp_path / "a/samples/00000.png"]
    code, _, err = upscale(*again, "--outdir", "b")
    assert code == 0 and "not known here" not in err and "not done here" not in err
    assert (read(tmp_path / "b/samples/00000.png")[0] == first).all()
    control_bytes = control.read_bytes()
    moved = tmp_path / "changed.safetensors"
    moved.write_bytes(control_bytes)
    try:
        control.write_bytes(control_bytes + b"x")
        code, _, err = upscale(*again, "--outdir", "c")
        assert code == 2 and "which has changed since" in err and "--control_tile" in err
        code, _, err = upscale(*again, "--control_tile", moved, "--outdir", "d")
        assert code == 0
        assert (read(tmp_path / "d/samples/00000.png")[0] == first).all()
    finally:
        control.write_bytes(control_bytes)


def test_a_control_changes_the_result_as_strongly_as_asked(upscale, small, control, tmp_path):
    base = ["--init-img", small, "--seed", 1]
    for name, given in {"without": [], "zero": [0], "full": [1]}.items():
        extra = ["--control_tile", control, "--control_tile_scale", *given] if given else []
        code, out, err = upscale(*base, *extra, "--outdir", name)
        assert code == 0, err
        assert ("ControlNet 'tile.safetensors'" in out) == bool(given)
    results = {n: read(tmp_path / n / "samples/00000.png")[0] for n in ("without", "zero", "full")}
    assert (results["without"] == results["zero"]).all()
    assert (results["without"] != results["full"]).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--init-img", "nowhere.png"], "nowhere.png"),
        (["--tile", "10"], "--tile 10"),
        (["--tile", "8", "--overlap", "8"], "--overlap 8"),
        (["--factor", "0"], "--factor 0"),
        (["--factor", "64", "--max_pixels", "5000"], "--factor 64 makes the picture 832x576"),
        (
            ["--control_tile", "nowhere.pth"],
            "--control_tile 'nowhere.pth' is no file, and models/co",
        ),
        (["--control_tile", "small.png"], "small.png"),
        (["--strength", "2"], "--strength 2"),
        (["--device", "abacus"], "--device abacus"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(
    upscale, small, tmp_path, change, words, monkeypatch
):
    monkeypatch.setenv("LDM_MAX_PIXELS", "1000000")  # to be restored
    code, _, err = upscale("--init-img", small, *change)
    assert code == 2
    (line,) = [line for line in err.splitlines() if not line.startswith("warning:")]
    assert line.startswith("upscale_tile: error: ") and words in line
    assert not [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
