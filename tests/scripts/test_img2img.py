"""The program img2img as a user meets it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from running import load_program

from ldm.settings.samplers import SAMPLERS

SCRIPT = "scripts/img2img.py"


@pytest.fixture
def sketch(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "sketch.png")
    return tmp_path / "sketch.png"


@pytest.fixture
def img2img(tiny_ckpt, tmp_path, monkeypatch, capsys):
    """Run the program in this process with the tiny model; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    program = load_program(SCRIPT)
    base = ["--ckpt", str(tiny_ckpt), "--device", "cpu", "--ddim_steps", "4", "--prompt", "a cat"]

    def run(*arguments):
        code = program.main([*base, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def assert_one_error(result, hint):
    code, _, err = result
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if not line.startswith("warning:")]
    assert line.startswith("img2img: error: ") and hint in line


def test_default_run_writes_two_pictures_of_the_inputs_size(img2img, sketch, tmp_path):
    code, out, err = img2img("--init-img", sketch)
    folder = tmp_path / "outputs" / "img2img-samples"
    assert code == 0
    assert files(folder) == ["grid-0000.png", "samples/00000.png", "samples/00001.png"]
    assert Image.open(folder / "samples" / "00000.png").size == (20, 16)
    assert "Seed 42" in out and "pictures 2/2" in err
    text = Image.open(folder / "samples" / "00000.png").info["parameters"]
    assert "CFG scale: 5, " in text and "Denoising strength: 0.75" in text


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("strength", ["0", "0.3", "1"])
def test_every_sampler_takes_every_strength(img2img, sketch, tmp_path, sampler, strength):
    code, _, err = img2img(
        *("--init-img", sketch, "--sampler", sampler, "--strength", strength, "--outdir", "o")
    )
    assert code == 0, err
    assert len(files(tmp_path / "o" / "samples")) == 2


def test_strength_decides_how_far_the_picture_moves(img2img, tiny_ckpt, sketch, tmp_path):
    assert img2img("--init-img", sketch, "--strength", 0, "--n_samples", 1, "--outdir", "a")[0] == 0
    assert img2img("--init-img", sketch, "--strength", 1, "--n_samples", 1, "--outdir", "b")[0] == 0
    first, last = (np.asarray(Image.open(tmp_path / d / "samples/00000.png")) for d in "ab")
    assert not np.array_equal(first, last)


def test_another_size_is_resized_and_the_user_told(img2img, tmp_path):
    Image.new("RGB", (23, 17)).save(tmp_path / "odd.png")
    code, out, _ = img2img("--init-img", "odd.png")
    assert code == 0
    assert "odd.png is 23x17: resized to 20x16" in out
    picture = tmp_path / "outputs" / "img2img-samples" / "samples" / "00000.png"
    assert Image.open(picture).size == (20, 16)


@pytest.mark.parametrize("seed_mode", ["compvis", "per-image"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_any_picture_is_drawn_again_to_the_bit(img2img, sketch, tmp_path, sampler, seed_mode):
    run = ("--sampler", sampler, "--seed_mode", seed_mode, "--n_samples", 3, "--n_iter", 2)
    assert img2img("--init-img", "sketch.png", *run, "--strength", 0.8, "--outdir", "run")[0] == 0
    wanted = tmp_path / "run" / "samples" / "00004.png"
    program_default = ("--from-image", wanted, "--outdir", "again", "--prompt", "a cat")
    assert img2img(*program_default)[0] == 0
    assert files(tmp_path / "again") == ["samples/00000.png"]
    assert (tmp_path / "again" / "samples" / "00000.png").read_bytes() == wanted.read_bytes()


def test_a_prompt_files_last_short_batch_is_drawn_again_to_the_bit(img2img, sketch, tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat\na dog\na tree\n", encoding="utf-8")
    run = ("--from-file", "prompts.txt", "--n_iter", 2, "--fixed_code", "--outdir", "run")
    assert img2img("--init-img", "sketch.png", *run)[0] == 0
    assert len(files(tmp_path / "run" / "samples")) == 6
    wanted = tmp_path / "run" / "samples" / "00005.png"
    assert img2img("--from-image", wanted, "--prompt", "a tree", "--outdir", "again")[0] == 0
    assert (tmp_path / "again" / "samples" / "00000.png").read_bytes() == wanted.read_bytes()


def test_a_changed_first_picture_is_an_error_unless_given_anew(img2img, sketch, tmp_path):
    assert img2img("--init-img", "sketch.png", "--outdir", "run")[0] == 0
    Image.new("RGB", (16, 16)).save(sketch)
    picture = tmp_path / "run" / "samples" / "00000.png"
    assert_one_error(img2img("--from-image", picture, "--outdir", "no"), "changed")
    assert not (tmp_path / "no").exists()
    assert img2img("--from-image", picture, "--init-img", sketch, "--outdir", "yes")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "--init-img"),
        (["--init-img", "none.png"], "none.png"),
        (["--init-img", "text.png"], "text.png"),
        (["--init-img", "sketch.png", "--strength", "1.5"], "--strength 1.5"),
        (["--init-img", "sketch.png", "--strength", "-0.5"], "--strength -0.5"),
        (["--init-img", "sketch.png", "--plms", "--ddim_eta", "1"], "PLMS"),
        (["--init-img", "sketch.png", "--H", "64"], "--H"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(img2img, sketch, tmp_path, arguments, hint):
    (tmp_path / "text.png").write_text("no picture")
    assert_one_error(img2img(*arguments), hint)
    assert not (tmp_path / "outputs").exists()
