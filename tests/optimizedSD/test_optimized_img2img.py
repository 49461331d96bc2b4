"""The program optimized_img2img as a user meets it."""

from __future__ import annotations

import numpy as np
import pytest
from optimized_program import assert_one_error
from PIL import Image
from running import load_program

from ldm.settings.samplers import SAMPLERS

SCRIPT = "optimizedSD/optimized_img2img.py"
OUT = "outputs/img2img-samples"


@pytest.fixture
def img2img(program, sketch):
    """The program with the tiny model and a sketch of 20x16."""
    made = program(SCRIPT)
    made.base += ["--prompt", "a cat", "--seed", "7"]
    return made


def scripts_pictures(img2img, capsys, *arguments):
    script = load_program("scripts/img2img.py")
    given = [*img2img.base, "--seed_mode", "per-image", "--scale", 7.5, "--outdir", "plain"]
    assert script.main([str(argument) for argument in (*given, *arguments)]) == 0
    capsys.readouterr()
    return [np.asarray(Image.open(path)) for path in sorted(img2img.folder.glob("plain/*/*"))]


def test_default_run_writes_the_prompts_folder_a_grid_and_a_row(img2img):
    code, out, err = img2img("--init-img", "sketch.png", "--n_samples", 5)
    assert code == 0, err
    names = [f"seed_{7 + n}_{n:05d}.png" for n in range(5)]
    assert img2img.files(f"{OUT}/a_cat") == sorted(["grid-0000.png", *names])
    assert Image.open(img2img.folder / OUT / "a_cat" / names[0]).size == (20, 16)
    assert "Seed 7 (per-image), ddim in 4 steps" in out and "no part of it is swapped." in out
    (row,) = img2img.log("img2img_logs.csv")
    assert (row["init_img"], row["strength"], row["scale"]) == ("sketch.png", "0.75", "7.5")


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("strength", ["0", "0.75", "1"])
def test_every_sampler_draws_what_scripts_img2img_draws(img2img, capsys, sampler, strength):
    """In the fork there is ddim alone."""
    run = ("--init-img", "sketch.png", "--sampler", sampler, "--strength", strength)
    code, _, err = img2img(*run, "--outdir", "o")
    assert code == 0, err
    assert np.array_equal(img2img.pixels("o"), scripts_pictures(img2img, capsys, *run))


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        (["--H", "32", "--W", "8"], (8, 32)),
        (["--W", "40"], (40, 32)),
        (["--H", "8"], (8, 8)),
        ([], (20, 16)),
    ],
)
def test_the_picture_is_resized_to_what_is_asked_and_the_user_told(img2img, asked, size):
    code, out, _ = img2img("--init-img", "sketch.png", *asked, "--outdir", "o")
    assert code == 0
    assert {picture.shape[1::-1] for picture in img2img.pixels("o")} == {size}
    told = f"sketch.png is 20x16: resized to {size[0]}x{size[1]}, as requested."
    assert (told in out) is (size != (20, 16))


def test_a_size_that_is_no_multiple_is_brought_down_or_refused(img2img):
    Image.new("RGB", (23, 17)).save(img2img.folder / "odd.png")
    code, out, _ = img2img("--init-img", "odd.png", "--outdir", "o")
    assert code == 0 and "odd.png is 23x17: resized to 20x16" in out
    assert img2img.pixels("o")[0].shape == (16, 20, 3)
    refused = img2img("--init-img", "odd.png", "--H", "18")
    assert_one_error(refused, "optimized_img2img", "--H 18", "16 and 20")


def test_a_picture_far_too_large_is_refused_before_it_fills_the_memory(img2img):
    Image.new("RGB", (400, 300), "red").save(img2img.folder / "photo.png")
    refused = img2img("--init-img", "photo.png")
    assert_one_error(refused, "optimized_img2img", "400x300 pixels", "64x64", "--W 16")
    assert not [name for name in img2img.files() if name.startswith(("outputs", "logs"))]
    code, out, _ = img2img("--init-img", "photo.png", "--W", "16", "--outdir", "o")
    assert code == 0 and "resized to 16x12, as requested" in out


def test_fixed_code_starts_every_picture_from_the_first_ones_noise(img2img):
    run = ("--init-img", "sketch.png", "--strength", 1)
    assert img2img(*run, "--outdir", "a")[0] == 0
    assert img2img(*run, "--fixed_code", "--outdir", "b")[0] == 0
    free, fixed = img2img.pixels("a"), img2img.pixels("b")
    apart = [np.abs(pair[0].astype(int) - pair[1]).mean() for pair in (free, fixed)]
    assert apart[1] < apart[0] / 2


def test_a_resized_picture_is_drawn_again_to_the_bit(img2img):
    run = ("--init-img", "sketch.png", "--W", 40, "--n_samples", 3, "--n_iter", 2)
    assert img2img(*run, "--outdir", "run")[0] == 0
    (wanted,) = (img2img.folder / "run").rglob("*_00004.png")
    base = img2img.base[:4]
    assert img2img("--from-image", wanted, "--outdir", "again", base=base)[0] == 0
    (again,) = (img2img.folder / "again").rglob("seed_*.png")
    assert again.read_bytes() == wanted.read_bytes()


def test_weights_mix_prompts_here_too(img2img):
    run = ("--init-img", "sketch.png")
    for folder, prompt in (("m", "a cat:1 a dog:3"), ("c", "a cat:2"), ("p", "a cat")):
        assert img2img(*run, "--prompt", prompt, "--outdir", folder)[0] == 0
    mixed, cat, plain = (img2img.pixels(folder) for folder in "mcp")
    assert np.array_equal(cat, plain) and not np.array_equal(mixed[1], plain[1])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "--init-img"),
        (["--init-img", "none.png"], "none.png"),
        (["--init-img", "text.png"], "text.png"),
        (["--init-img", "sketch.png", "--strength", "1.5"], "--strength 1.5"),
        (["--init-img", "sketch.png", "--H", "0"], "--H 0"),
        (["--init-img", "sketch.png", "--H", "65536", "--W", "65536"], "give smaller ones"),
        (["--init-img", "sketch.png", "--plms", "--ddim_eta", "1"], "PLMS"),
        (["--init-img", "sketch.png", "--vram_budget", "-1"], "--vram_budget -1"),
        (["--init-img", "sketch.png", "--laion400m"], "scripts/txt2img.py"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(img2img, arguments, hint):
    (img2img.folder / "text.png").write_text("no picture")
    assert_one_error(img2img(*arguments), "optimized_img2img", hint)
    assert not img2img.files(OUT)
