"""The program that makes pictures larger."""

from __future__ import annotations

import numpy as np
import pytest
from family_models import write_family_model
from PIL import Image
from running import load_program

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
