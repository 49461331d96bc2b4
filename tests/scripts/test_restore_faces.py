"""The program that redraws faces."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from face_files import restorer_of
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from running import load_program

from ldm.faces.placing import TEMPLATE, Face
from ldm.pipelines import facing


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/restore_faces.py")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with pictures, where bright ones have a face, and networks paint faces white."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 100, (80, 90, 4), np.uint8)
    recipe = PngInfo()
    recipe.add_text("parameters", "a face\nSteps: 4, Seed: 3, Sampler: DDIM, CFG scale: 5")
    bright = pixels + 100
    bright[..., 3] = pixels[..., 3]
    Image.fromarray(bright).save("face.png", pnginfo=recipe)
    Image.fromarray(pixels[..., :3]).save("dark.JPG", quality=60, comment=b"mine")
    (tmp_path / "net.pth").write_bytes(b"")

    def find(picture):
        there = np.asarray(picture).mean() > 90
        return [Face((20.0, 10.0, 51.0, 51.0), TEMPLATE * 0.1 + (20, 10), 1.0)] if there else []

    white = restorer_of(lambda x: (torch.ones_like(x), None))
    monkeypatch.setattr(facing, "_loaded", lambda *_: white)
    monkeypatch.setattr(facing, "detector_of", lambda _: find)
    return tmp_path


def test_faces_are_redrawn_and_all_else_is_kept_with_what_the_file_says(program, here, capsys):
    assert program.main(["face.png", "--model", "net.pth", "--outdir", "out"]) == 0
    assert "face.png -> out/face_00000.png (1 face)" in capsys.readouterr().out
    with Image.open("face.png") as image, Image.open("out/face_00000.png") as restored:
        before, after = np.asarray(image), np.asarray(restored)
        said = restored.info["parameters"]
    assert (after[25:45, 35:55, :3] == 255).all()
    assert np.array_equal(before[..., 3], after[..., 3])
    kept = np.ones(before.shape[:2], bool)
    kept[9:63, 19:73] = False
    assert np.array_equal(before[kept], after[kept])
    assert "Seed: 3" in said and "Face restoration: RestoreFormer, Face fidelity: 0" in said


def test_a_picture_without_a_face_is_copied_byte_for_byte(program, here, capsys):
    assert program.main(["dark.JPG", "--model", "net.pth", "--outdir", "out"]) == 0
    assert "(no face found: a copy)" in capsys.readouterr().out
    copied = (here / "out/dark_00000.JPG").read_bytes()
    assert copied == (here / "dark.JPG").read_bytes()


def test_nothing_is_replaced_and_each_picture_is_shown(program, here, capsys):
    for _ in range(2):
        given = ["face.png", "dark.JPG", "--model", "net.pth", "--outdir", "out", "--fidelity", "1"]
        assert program.main(given) == 0
    names = sorted(path.name for path in (here / "out").iterdir())
    assert names == [
        f"{name}_0000{k}.{end}" for name, end in (("dark", "JPG"), ("face", "png")) for k in (0, 1)
    ]
    assert "fidelity 1 (a blend with what was there)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["none.png", "--model", "net.pth"], "none.png does not exist"),
        (["face.png", "net.pth", "--model", "net.pth"], "net.pth cannot be read"),
        (["face.png"], "--model was not given"),
        (["face.png", "--model", "nowhere"], "--model 'nowhere' is no file, and models/faces has"),
        (["face.png", "--model", "net.pth", "--fidelity", "2"], "--fidelity 2.0"),
        (["face.png", "--model", "net.pth", "--device", "abacus"], "--device abacus"),
        (["face.png", "--model", "net.pth", "--outdir", "net.pth/x"], "net.pth"),
    ],
)
def test_a_users_error_is_one_line_and_nothing_is_written(program, here, capsys, given, words):
    assert program.main(given) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.count("\n") == 1
    assert sorted(path.name for path in here.iterdir()) == ["dark.JPG", "face.png", "net.pth"]


def test_a_file_of_no_network_is_told_in_one_line(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    for name, content in (("x.pth", b"no network"), ("x.safetensors", json.dumps({}).encode())):
        (tmp_path / name).write_bytes(content)
        assert program.main(["a.png", "--model", name]) == 2
        said = capsys.readouterr()
        assert name in said.err and said.err.count("\n") == 1


def test_what_is_not_used_of_a_picture_with_a_face_is_said(program, here, capsys):
    with Image.open("face.png") as image:
        image.convert("RGB").save("face.tif", save_all=True, append_images=[image.convert("RGB")])
        image.convert("CMYK").save("inks.tif")
    given = ["face.tif", "inks.tif", "--model", "net.pth", "--outdir", "out"]
    assert program.main(given) == 0
    said = capsys.readouterr().err
    assert "face.tif holds several pictures: the first one is used" in said
    assert "inks.tif: its colour space (CMYK) is dropped" in said
