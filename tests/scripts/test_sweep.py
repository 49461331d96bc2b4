"""The program sweep as a user meets it: a sheet, a table, and pictures that txt2img draws too."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image
from running import help_imports_torch, load_program

from ldm.images.io import load_image

SCRIPT = "scripts/sweep.py"
BASE = ("--device", "cpu", "--ddim_steps", "2", "--prompt", "a cat, a house")


@pytest.fixture
def sweep(tiny_ckpt, tmp_path, monkeypatch, capsys):
    """Run the program in this process with the tiny model; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, script=SCRIPT, base=BASE):
        code = load_program(script).main(["--ckpt", str(tiny_ckpt), *base, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pixels(path):
    return np.asarray(Image.open(path))


def test_each_picture_is_the_one_that_txt2img_draws_with_those_settings(sweep, tmp_path):
    axes = ("--x", "scale: 1, 7.5", "--y", "sampler: ddim, Euler a", "--z", "prompt: cat, dog")
    code, out, err = sweep(*axes, "--outdir", "swept", "--seed", 7)
    assert code == 0, err
    assert "2 x 2 x 2 combinations" in out and "sheet-0000.csv" in out
    rows = table("swept/sheet-0000.csv")
    assert [(row["x: scale"], row["y: sampler"], row["z: prompt"]) for row in rows] == [
        (x, y, z) for z in ("cat", "dog") for y in ("ddim", "Euler a") for x in ("1", "7.5")
    ]
    row = rows[-1]
    assert (row["sampler"], row["scale"], row["prompt"]) == ("euler_a", "7.5", "a dog, a house")
    for k in (1, 6):
        row = rows[k]
        flags = ("--scale", row["scale"], "--sampler", row["sampler"], "--prompt", row["prompt"])
        more = ("--seed_mode", "per-image", "--n_samples", 1, "--n_iter", 1)
        more += ("--seed", row["seed"], "--outdir", f"alone-{k}")
        code, _, err = sweep(*flags, *more, script="scripts/txt2img.py")
        assert code == 0, err
        (alone,) = (tmp_path / f"alone-{k}" / "samples").iterdir()
        assert np.array_equal(pixels(alone), pixels(row["file"]))
    sheet = pixels("swept/sheet-0000.png")
    drawn = pixels(rows[0]["file"])
    corners = np.argwhere((sheet == drawn[0, 0]).all(2))
    assert any(np.array_equal(sheet[y : y + 16, x : x + 16], drawn) for y, x in corners)


def test_a_swept_picture_is_redrawn_from_its_own_file(sweep):
    assert sweep("--x", "seed: 3, 4", "--outdir", "swept")[0] == 0
    second = table("swept/sheet-0000.csv")[1]["file"]
    again = ("--from-image", second, "--outdir", "again")
    assert sweep(*again, script="scripts/txt2img.py", base=("--device", "cpu"))[0] == 0
    assert np.array_equal(pixels("again/samples/00000.png"), pixels(second))


def test_combinations_that_may_share_a_batch_are_drawn_together(sweep, monkeypatch):
    from ldm.pipelines import together

    own, sizes = together.draw_together, []

    def noted(pipeline, requests, **rest):
        sizes.append(len(requests))
        return own(pipeline, requests, **rest)

    monkeypatch.setattr(together, "draw_together", noted)
    axes = ("--x", "scale: 2-6", "--y", "sampler: ddim, plms")
    assert sweep(*axes, "--together", 3, "--outdir", "swept")[0] == 0
    assert sizes == [3, 2, 3, 2]
    rows = table("swept/sheet-0000.csv")
    assert [row["x: scale"] for row in rows] == ["2", "3", "4", "5", "6"] * 2
    assert sweep("--x", "seed: 1-3", "--seed_mode", "compvis", "--outdir", "other")[0] == 0
    assert sizes[4:] == [1, 1, 1]


def test_a_recorded_picture_keeps_its_seed_mode(sweep):
    drawn = (
        "--seed",
        5,
        "--n_samples",
        1,
        "--n_iter",
        1,
        "--sampler",
        "euler_a",
        "--outdir",
        "one",
    )
    assert sweep(*drawn, script="scripts/txt2img.py")[0] == 0
    again = ("--from-image", "one/samples/00000.png", "--x", "scale: 7.5, 2", "--outdir", "swept")
    code, _, err = sweep(*again, base=("--device", "cpu"))
    assert code == 0, err
    first = table("swept/sheet-0000.csv")[0]["file"]
    assert np.array_equal(pixels(first), pixels("one/samples/00000.png"))


def test_strength_is_swept_over_a_picture_to_start_from(sweep, tmp_path):
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "init.png")
    axes = ("--x", "strength: 0, 1", "--y", "seed: 1-3")
    code, _, err = sweep(*axes, "--init-img", "init.png", "--outdir", "swept")
    assert code == 0, err
    rows = table("swept/sheet-0000.csv")
    assert [row["strength"] for row in rows] == ["0.0", "1.0"] * 3
    flags = ("--strength", "1", "--seed", rows[3]["seed"], "--n_samples", 1, "--outdir", "alone")
    flags += ("--seed_mode", "per-image")
    code, _, err = sweep(*flags, "--init-img", "init.png", script="scripts/img2img.py")
    assert code == 0, err
    assert np.array_equal(pixels("alone/samples/00000.png"), pixels(rows[3]["file"]))


def test_second_walks_are_swept_and_not_over_a_picture(sweep, tmp_path):
    axes = ("--x", "hires_strength: 0, 0.9", "--hires", "2", "--hires_upscaler", "lanczos")
    code, _, err = sweep(*axes, "--outdir", "swept")
    assert code == 0, err
    first, second = (load_image(row["file"]) for row in table("swept/sheet-0000.csv"))
    assert first.size == second.size == (32, 32) and first.tobytes() != second.tobytes()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "init.png")
    code, _, err = sweep(*axes, "--init-img", "init.png", "--outdir", "none")
    assert code == 2 and "with a picture to start from" in err and not (tmp_path / "none").exists()


def test_sizes_and_models_are_axes_too(sweep, tiny_ckpt):
    axes = ("--x", "W: 16, 24", "--y", f'ckpt: "{tiny_ckpt}", {tiny_ckpt}')
    code, out, err = sweep(*axes, "--outdir", "swept")
    assert code == 0, err
    assert [load_image(row["file"]).size for row in table("swept/sheet-0000.csv")] == [
        (16, 16),
        (24, 16),
    ] * 2


def test_several_pictures_of_a_combination_stand_together_in_its_cell(sweep):
    code, _, err = sweep("--x", "scale: 1, 2", "--n_samples", 2, "--outdir", "swept")
    assert code == 0, err
    rows = table("swept/sheet-0000.csv")
    assert [row["x: scale"] for row in rows] == ["1", "1", "2", "2"]
    assert len({row["file"] for row in rows}) == 4


def test_the_sheet_or_the_pictures_may_be_left_out(sweep, tmp_path):
    assert sweep("--x", "seed: 1, 2", "--skip_save", "--outdir", "a")[0] == 0
    names = sorted(path.name for path in (tmp_path / "a").rglob("*"))
    assert names == ["sheet-0000.csv", "sheet-0000.png"]
    assert {row["file"] for row in table("a/sheet-0000.csv")} == {""}
    assert sweep("--x", "seed: 1, 2", "--skip_grid", "--outdir", "b")[0] == 0
    assert not list((tmp_path / "b").glob("*.png"))
    assert len(table("b/sheet-0000.csv")) == 2


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ((), "no axis was given"),
        (("--x", "scael: 1"), "did you mean scale"),
        (("--x", "prompt: bird, dog"), "is to be replaced"),
        (("--x", "sampler: ddim, plms", "--y", "spacing: karras"), "of the sweep, at x: sampler"),
        (("--x", "W: 16, 17"), "of the sweep, at x: W 17"),
        (("--x", "ckpt: missing.ckpt"), "of the sweep, at x: ckpt missing.ckpt"),
        (("--x", "seed: 1", "--from-file", "x.txt"), "expected one prompt"),
        (("--x", "seed: 1", "--hint_only"), "without"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_drawn(sweep, tmp_path, arguments, hint):
    code, out, err = sweep(*arguments)
    lines = [line for line in err.splitlines() if not line.startswith("warning:")]
    assert code == 2 and len(lines) == 1, err
    assert lines[0].startswith("sweep: error: ") and hint in lines[0]
    assert not (tmp_path / "outputs").exists()


def test_help_imports_no_torch():
    assert not help_imports_torch(SCRIPT)
