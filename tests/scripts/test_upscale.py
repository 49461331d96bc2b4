"""The program that makes pictures larger."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from family_models import write_family_model
from PIL import ExifTags, Image
from running import load_program
from upscaler_files import write_nearest

from ldm.images.embed import DIGITAL_SOURCE_TYPE, XMP_KEYWORD, save_options
from ldm.images.metadata import parse_parameters, read_parameters
from ldm.pipelines import adapter_files
from ldm.safety.watermark import read_watermark


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/upscale.py")


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "sr"
    return write_family_model(folder, "upscaling") / "model.safetensors"


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "a {small} one.png"
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(path)
    return path


def test_results_are_new_files_of_twice_the_sides(program, ckpt, small, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["--init-img", str(small), "--ckpt", str(ckpt), "--outdir", str(out)]
    given += ["--steps", "1", "--n_samples", "2", "--device", "cpu"]
    assert program.main(given) == 0 and program.main(given) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"a _small_ one_{k:05}.png" for k in range(4)]
    for name in names:
        with Image.open(out / name) as result:
            assert result.size == (18, 12)
    assert "(9x6)" in capsys.readouterr().out


def test_the_models_folder_is_taken_for_its_checkpoint(program, ckpt, small, tmp_path):
    given = ["--init-img", str(small), "--ckpt", str(ckpt.parent), "--outdir", str(tmp_path / "o")]
    assert program.main([*given, "--steps", "1", "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--ckpt", "nowhere.ckpt"], "there is no such file"),
        (["--ckpt", "nowhere.ckpt"], "name another network by --model, or put"),
        (["--init-img", "nowhere.png"], "does not exist"),
        (["--steps", "0"], "--steps 0"),
        (["--steps", "few"], "--steps"),
        (["--device", "abacus"], "--device abacus"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--seed", "99999999999999999999"], "--seed 9999"),
        (["--outdir", __file__], "--outdir"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(program, ckpt, small, capsys, change, words):
    given = ["--init-img", str(small), "--ckpt", str(ckpt), "--outdir", str(small.parent / "out")]
    assert program.main([*given, *change]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""
    assert not (small.parent / "out").exists()


@pytest.mark.parametrize(
    ("kind", "words"),
    [("gentle", "too small for the watermark"), ("off", "--watermark off"), (None, "mark off")],
)
def test_results_without_a_watermark_say_so_once(
    kind, words, program, ckpt, small, tmp_path, capsys
):
    given = ["--init-img", str(small), "--ckpt", str(ckpt), "--outdir", str(tmp_path / "o")]
    given += ["--steps", "1", "--n_samples", "2", "--device", "cpu"]
    assert program.main(given + (["--watermark", kind] if kind else [])) == 0
    assert capsys.readouterr().out.count(words) == 1


def test_a_result_of_enough_pixels_is_marked_if_asked(program, ckpt, tmp_path):
    Image.new("RGB", (128, 128), (90, 120, 150)).save(tmp_path / "a.png")
    given = ["--init-img", str(tmp_path / "a.png"), "--ckpt", str(ckpt), "--steps", "1"]
    given += ["--device", "cpu", "--tile", "0", "--watermark", "gentle"]
    assert program.main([*given, "--outdir", str(tmp_path)]) == 0
    with Image.open(tmp_path / "a_00000.png") as result:
        assert read_watermark(np.asarray(result)) == "StableDiffusionV1"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A working folder with a network on its shelf that repeats pixels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adapter_files, "ROOT", tmp_path)
    return write_nearest(tmp_path / "models/upscalers/nearest.pth")


def drawn_picture(path, mode="RGBA"):
    """Write a picture as this project draws them, with what else a file may say."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 14, 4), np.uint8)
    recipe = "a cat\nSteps: 3, Sampler: DDIM, Seed: 1, Size: 14x10"
    options = save_options("PNG", recipe)
    options["pnginfo"].add_text("workflow", '{"nodes": []}')
    image = Image.fromarray(pixels).convert(mode)
    image.save(path, dpi=(300, 300), icc_profile=b"a profile" * 20, **options)
    return image


def test_a_network_enlarges_and_all_that_a_file_says_is_kept(program, shelf, tmp_path, capsys):
    image = drawn_picture(tmp_path / "a.png")
    given = ["--init-img", "a.png", "--model", "nearest", "--factor", "3", "--outdir", "out"]
    assert program.main([*given, "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert "nearest (RealESRGAN Compact, 2x) on cpu." in shown.out and "(42x30)" in shown.out
    with Image.open("out/a_00000.png") as made:
        assert made.size == (42, 30) and made.mode == "RGBA"
        alpha = image.getchannel("A").resize(made.size, Image.Resampling.LANCZOS)
        assert made.getchannel("A").tobytes() == alpha.tobytes()
        assert made.info["workflow"] == '{"nodes": []}'
        assert made.info["icc_profile"] == b"a profile" * 20
        assert made.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert DIGITAL_SOURCE_TYPE in made.info[XMP_KEYWORD]
    prompt, _, entries = parse_parameters(read_parameters("out/a_00000.png"))
    assert prompt == "a cat" and entries["Seed"] == "1"
    assert entries["Postprocess upscale by"] == "3"
    assert entries["Postprocess upscaler"] == "nearest"


def test_what_is_not_used_of_a_file_is_said(program, shelf, tmp_path, capsys):
    frames = [Image.new("CMYK", (8, 8), (k, 0, 0, 0)) for k in (0, 200)]
    frames[0].save("a.tif", save_all=True, append_images=frames[1:])
    assert program.main(["--init-img", "a.tif", "--model", "nearest", "--outdir", "out"]) == 0
    said = capsys.readouterr().err
    assert "a.tif holds several pictures: the first one is used" in said
    assert "a.tif: its colour space (CMYK) is dropped" in said
    deep = np.zeros((8, 8, 3), np.uint16)
    assert cv2.imwrite("b.png", deep)
    assert program.main(["--init-img", "b.png", "--model", "nearest", "--outdir", "out"]) == 0
    assert "b.png: what it has beyond 8 bits is dropped" in capsys.readouterr().err


def test_a_photograph_stays_one(program, shelf, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 6, "somebody"
    xmp = b"<x:xmpmeta>a photographer's</x:xmpmeta>"
    Image.new("RGB", (20, 10), (9, 8, 7)).save(tmp_path / "a.jpg", exif=exif, xmp=xmp)
    assert program.main(["--init-img", "a.jpg", "--model", str(shelf), "--outdir", "."]) == 0
    with Image.open("a_00000.png") as made:
        assert made.size == (20, 40) and made.mode == "RGB"  # upright
        assert dict(made.getexif()) == {ExifTags.Base.Artist: "somebody"}
        assert made.info[XMP_KEYWORD] == xmp.decode() and "parameters" not in made.info


def test_a_watermark_is_put_on_colours_and_leaves_transparency(program, shelf, tmp_path):
    Image.new("RGBA", (128, 128), (90, 120, 150, 77)).save(tmp_path / "a.png")
    given = ["--init-img", "a.png", "--model", "nearest", "--outdir", "."]
    assert program.main([*given, "--watermark", "gentle"]) == 0
    with Image.open("a_00000.png") as made:
        assert made.getchannel("A").getextrema() == (77, 77)
        assert read_watermark(np.asarray(made.convert("RGB"))) == "StableDiffusionV1"


def test_what_has_no_effect_on_a_network_is_said(program, shelf, tmp_path, capsys):
    drawn_picture(tmp_path / "a.png", "RGB")
    given = ["--init-img", "a.png", "--model", "nearest", "--outdir", ".", "--steps", "9"]
    assert program.main([*given, "--seed", "3"]) == 0
    assert "--steps, --seed: no effect with --model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--factor 2", "--factor 2 was given without --model"),
        ("--overlap 8", "--overlap 8 was given without --model"),
        ("--model nearset", "the nearest are 'nearest'"),
        ("--model nearest --factor 99", "--factor 99.0 was given; expected a number"),
        ("--model nearest --tile 32", "tiles of 32 pixels"),
        ("--model nearest --overlap 200", "overlap by 200"),
        ("--model a.png", "no checkpoint"),
        ("--model nearest --device abacus", "--device abacus"),
    ],
)
def test_a_networks_users_error_is_one_line(program, shelf, tmp_path, capsys, given, words):
    drawn_picture(tmp_path / "a.png", "RGB")
    assert program.main(["--init-img", "a.png", "--outdir", "out", *given.split()]) == 2
    shown = capsys.readouterr()
    assert words in shown.err and shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
