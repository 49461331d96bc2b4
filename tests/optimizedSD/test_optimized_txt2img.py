"""The program optimized_txt2img as a user meets it: files, exit codes, and what it says."""

from __future__ import annotations

import re
import signal
import time

import numpy as np
import pytest
from optimized_program import assert_one_error
from PIL import Image
from running import ROOT, load_program, run_program, start_program

from ldm.images.io import save_picture
from ldm.settings.samplers import SAMPLERS

SCRIPT = "optimizedSD/optimized_txt2img.py"
OUT = "outputs/txt2img-samples"
PROMPT = "富士山, ein bär"


@pytest.fixture
def txt2img(program):
    """The program with the tiny model, 2 pictures of 4 steps each."""
    return program(SCRIPT)


@pytest.fixture
def scripts_pictures(txt2img, capsys):
    """Draw with scripts/txt2img.py and one seed a picture; return the pictures."""
    script = load_program("scripts/txt2img.py")

    def draw(*arguments, folder="plain"):
        given = [*txt2img.base, "--seed_mode", "per-image", "--n_iter", 1, "--outdir", folder]
        assert script.main([str(argument) for argument in (*given, *arguments)]) == 0
        capsys.readouterr()
        return [
            np.asarray(Image.open(path)) for path in sorted(txt2img.folder.glob(f"{folder}/*/*"))
        ]

    return draw


# --- what it writes ---


def test_default_run_writes_the_prompts_folder_a_grid_and_a_row(txt2img, tiny_ckpt):
    code, out, err = txt2img("--prompt", PROMPT, "--seed", 7, "--n_samples", 5)
    assert code == 0, err
    folder = f"{OUT}/富士山,_ein_bär"
    names = [f"seed_{7 + n}_{n:05d}.png" for n in range(5)]
    assert txt2img.files(folder) == ["grid-0000.png", *sorted(names)]
    assert txt2img.files(OUT) == [f"富士山,_ein_bär/{name}" for name in txt2img.files(folder)]
    assert "Seed 7 (per-image), plms in 4 steps" in out and "no part of it is swapped." in out
    (row,) = txt2img.log("txt2img_logs.csv")
    assert (row["prompt"], row["seed"], row["n_samples"], row["turbo"]) == (
        PROMPT,
        "7",
        "5",
        "False",
    )
    assert (row["ckpt"], row["device"], row["H"]) == (str(tiny_ckpt), "cpu", "16")


def test_a_seed_of_chance_is_shown_and_stored_and_draws_the_same_again(txt2img):
    code, out, _ = txt2img("--prompt", "a cat", "--outdir", "a")
    seed = int(re.search(r"Seed (\d+) \(per-image\)", out)[1])
    assert code == 0 and 0 <= seed <= 10**6
    names = [f"a_cat/seed_{seed + n}_{n:05d}.png" for n in range(2)]
    assert txt2img.files("a") == ["a_cat/grid-0000.png", *sorted(names)]
    assert txt2img.log("txt2img_logs.csv")[0]["seed"] == str(seed)
    assert txt2img("--prompt", "a cat", "--outdir", "b", "--seed", seed)[0] == 0
    assert np.array_equal(txt2img.pixels("a"), txt2img.pixels("b"))


def test_a_second_run_goes_on_numbering_and_adds_a_row(txt2img):
    for seed in (7, 3):
        assert txt2img("--prompt", "a cat", "--seed", seed, "--n_samples", 1)[0] == 0
    files = ["grid-0000.png", "grid-0001.png", "seed_3_00001.png", "seed_7_00000.png"]
    assert txt2img.files(f"{OUT}/a_cat") == files
    assert [row["seed"] for row in txt2img.log("txt2img_logs.csv")] == ["7", "3"]


def test_flags_that_the_fork_ignored_do_what_they_say(txt2img):
    """--skip_grid, --skip_save, --n_rows and --fixed_code."""
    run = ("--prompt", "a cat", "--seed", 7, "--n_samples", 3)
    assert txt2img(*run, "--outdir", "a", "--skip_grid")[0] == 0
    assert txt2img(*run, "--outdir", "b", "--skip_save", "--n_rows", 1)[0] == 0
    assert txt2img(*run, "--outdir", "c", "--fixed_code")[0] == 0
    assert txt2img.files("a/a_cat") == [f"seed_{7 + n}_{n:05d}.png" for n in range(3)]
    assert txt2img.files("b/a_cat") == ["grid-0000.png"]
    assert Image.open(txt2img.folder / "b/a_cat/grid-0000.png").size == (20, 56)
    free, fixed = txt2img.pixels("a"), txt2img.pixels("c")
    assert not np.array_equal(free[0], free[1])
    assert np.abs(fixed[0].astype(int) - fixed[1]).max() <= 1
    assert np.array_equal(fixed[0], free[0])


def test_jpg_pictures_are_named_and_carry_their_settings_too(txt2img):
    assert txt2img("--prompt", "a cat", "--seed", 7, "--format", "jpg", "--outdir", "o")[0] == 0
    assert txt2img.files("o/a_cat")[-1] == "seed_8_00001.jpg"
    text = Image.open(txt2img.folder / "o/a_cat/seed_8_00001.jpg").getexif()
    assert text


def test_a_prompt_file_is_drawn_in_its_order_a_batch_a_line(txt2img):
    lines = ["zebra", "ant", "mole"]
    (txt2img.folder / "prompts.txt").write_text("\n".join(lines), encoding="utf-8")
    code, _, err = txt2img(
        "--from-file", "prompts.txt", "--seed", 0, "--n_iter", 2, "--outdir", "o"
    )
    assert code == 0, err
    for place, line in enumerate(lines):
        seeds = [iteration * 6 + place * 2 + row for iteration in range(2) for row in range(2)]
        names = [f"seed_{seed}_{number:05d}.png" for number, seed in enumerate(seeds)]
        assert txt2img.files(f"o/{line}") == sorted(["grid-0000.png", *names])
    assert txt2img("--prompt", "ant", "--seed", 2, "--outdir", "alone")[0] == 0
    assert np.array_equal(txt2img.pixels("alone/ant"), txt2img.pixels("o/ant")[:2])


# --- the same pictures as the scripts' ---


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_what_scripts_txt2img_draws(txt2img, scripts_pictures, sampler):
    """Also ddim, which in the fork ends in an AttributeError."""
    run = ("--prompt", "a cat", "--sampler", sampler, "--seed", 7)
    code, _, err = txt2img(*run, "--outdir", "o")
    assert code == 0, err
    assert np.array_equal(txt2img.pixels("o"), scripts_pictures(*run))


def test_on_a_processor_flags_for_small_devices_are_said_to_have_no_effect(
    txt2img, scripts_pictures
):
    run = ("--prompt", "a cat", "--sampler", "euler_a", "--seed", 7)
    flags = ["--turbo", "--unet_bs", 3, "--vram_budget", 2]
    code, _, err = txt2img(*run, *flags, "--outdir", "o")
    assert code == 0
    assert "without effect: --vram_budget 2.0, --turbo, --unet_bs 3." in err
    assert np.array_equal(txt2img.pixels("o"), scripts_pictures(*run))


def test_one_picture_alone_is_the_picture_in_the_batch(txt2img):
    assert txt2img("--prompt", "a cat", "--seed", 7, "--n_samples", 3, "--outdir", "o")[0] == 0
    assert txt2img("--prompt", "a cat", "--seed", 9, "--n_samples", 1, "--outdir", "a")[0] == 0
    together, (alone,) = txt2img.pixels("o"), txt2img.pixels("a")
    assert np.abs(together[2].astype(int) - alone).max() <= 1
    assert np.abs(together[0].astype(int) - alone).max() > 1


# --- weighted prompts ---


@pytest.mark.parametrize("scale", [7.5, 1.0])
def test_weights_mix_prompts_in_every_row_with_and_without_guidance(txt2img, scale):
    run = ("--seed", 7, "--scale", scale)
    prompts = {"mixed": "a cat:1 a dog:3", "swapped": "a dog:3 a cat:1", "dog": "a dog:2"}
    for folder, prompt in prompts.items():
        assert txt2img(*run, "--prompt", prompt, "--outdir", folder)[0] == 0
    assert txt2img(*run, "--prompt", "a dog", "--outdir", "plain")[0] == 0
    mixed, swapped, dog, plain = map(txt2img.pixels, [*prompts, "plain"])
    assert np.abs(np.subtract(mixed, swapped, dtype=int)).max() <= 1
    assert np.array_equal(dog, plain)
    assert not np.array_equal(mixed[0], dog[0]) and not np.array_equal(mixed[1], dog[1])


def test_a_colon_without_a_weight_is_text_and_what_looks_like_one_is_named(
    txt2img, scripts_pictures
):
    for prompt, warned in (("a sign: hello", False), ("at 12:30", True)):
        run = ("--prompt", prompt, "--seed", 7, "--sampler", "plms")
        code, _, err = txt2img(*run, "--outdir", prompt[:4])
        assert code == 0 and ("is text, not a weight" in err) is warned
        assert np.array_equal(txt2img.pixels(prompt[:4]), scripts_pictures(*run, folder=prompt[:5]))
    code, _, err = txt2img("--prompt", "at 12:30", "--plain_prompt")
    assert code == 0 and "weight" not in err


def test_a_mixture_is_drawn_again_from_its_picture_and_scripts_say_that_they_cannot(
    txt2img, capsys
):
    run = ("--prompt", "a cat:1 a dog:3", "--seed", 7, "--n_samples", 3)
    assert txt2img(*run, "--outdir", "o")[0] == 0
    (wanted,) = (txt2img.folder / "o").rglob("seed_8_*.png")
    assert txt2img("--from-image", wanted, "--outdir", "again", base=txt2img.base[:4])[0] == 0
    (again,) = (txt2img.folder / "again").rglob("seed_8_*.png")
    assert again.read_bytes() == wanted.read_bytes()
    script = load_program("scripts/txt2img.py")
    arguments = [*txt2img.base[:4], "--from-image", wanted, "--outdir", "plain"]
    assert script.main([str(argument) for argument in arguments]) == 0
    assert "optimizedSD/optimized_txt2img.py draws the mixture" in capsys.readouterr().err


def test_a_picture_of_the_scripts_is_drawn_again_though_its_text_looks_weighted(
    txt2img, scripts_pictures
):
    wanted = scripts_pictures("--prompt", "a cat:1 a dog:3", "--seed", 7)
    saved = txt2img.folder / "plain" / "samples" / "00001.png"
    assert txt2img("--from-image", saved, "--outdir", "again", base=txt2img.base[:4])[0] == 0
    assert np.array_equal(txt2img.pixels("again"), wanted[1:])


# --- folders: too long and bad characters, in the fork an OSError ---


@pytest.mark.parametrize(
    "prompt", ["cat " * 300, 'a/b\\c:d*e?f"g<h>i|j', "../../up", "nul", "...", "猫" * 300, ""]
)
def test_any_prompt_has_a_folder_inside_the_given_one(txt2img, prompt):
    code, _, err = txt2img("--prompt", prompt, "--n_samples", 1, "--outdir", "o", "--skip_grid")
    assert code == 0, err
    (name,) = txt2img.files("o")
    assert name.count("/") == 1
    assert txt2img.files() == ["logs/.txt2img_logs.csv.lock", "logs/txt2img_logs.csv", f"o/{name}"]


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--ckpt", "none.ckpt"], "none.ckpt"),
        (["--from-file", "none.txt"], "none.txt"),
        (["--from-file", "empty.txt"], "no prompt"),
        (["--from-image", "empty.txt"], "empty.txt"),
        (["--ddim_eta", "0.5"], "PLMS"),
        (["--sampler", "klms"], "--sampler klms"),
        (["--n_samples", "0"], "--n_samples 0"),
        (["--H", "18"], "16 and 20"),
        (["--W", "30"], "28 and 32"),
        (["--C", "3"], "leave --C out"),
        (["--device", "gpu"], "--device gpu"),
        (["--device", "cuda:99"], "--device cuda:99"),
        (["--outdir", "empty.txt/o"], "--outdir"),
        (["--unet_bs", "0"], "--unet_bs 0"),
        (["--vram_budget", "-1"], "--vram_budget -1"),
        (["--prompt", "a cat:-1"], "-1 of 'a cat'"),
        (["--prompt", "a cat:0"], "sum to 0"),
        (["--n_iter", "1000000"], "2000000 in all"),
        (["--seed", "18446744073709551615"], "--seed 18446744073709551615"),
        (["--init-img", "x.png"], "scripts/img2img.py"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_no_picture(txt2img, arguments, hint):
    (txt2img.folder / "empty.txt").write_text("")
    assert_one_error(txt2img(*arguments), "optimized_txt2img", hint)
    assert not [name for name in txt2img.files() if name.endswith(".png")]


def test_a_table_that_cannot_be_written_does_not_stop_the_drawing(txt2img):
    (txt2img.folder / "logs").write_text("in the way")
    code, _, err = txt2img("--prompt", "a cat")
    assert code == 0 and "warning: the run cannot be logged in" in err
    assert len(txt2img.files(OUT)) == 3


def test_the_device_that_is_named_is_the_one_that_is_loaded_for(txt2img, monkeypatch):
    """--device cuda:1 with torch's answers replaced: in the fork memory of another one is read."""
    import torch

    from ldm.errors import UserError
    from ldm.pipelines.pipeline import Pipeline

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    asked = {}

    def load(*_, **given):
        asked.update(given)
        raise UserError("far enough")

    monkeypatch.setattr(Pipeline, "load", load)
    assert_one_error(txt2img("--device", "cuda:1"), "optimized_txt2img", "far enough")
    assert asked["device"] == "cuda:1" and asked["staging"] is not None


def test_an_older_picture_of_another_program_is_drawn_with_a_remark(txt2img):
    text = "a fox\nSteps: 4, Sampler: LMS, CFG scale: 5, Seed: 3, Size: 16x16"
    save_picture(np.zeros((16, 16, 3), np.uint8), txt2img.folder / "a.png", metadata=text)
    code, out, err = txt2img("--from-image", "a.png", "--outdir", "o", base=txt2img.base[:4])
    assert code == 0 and "another program" in err and "lms in 4 steps" in out
    assert txt2img.files("o") == ["a_fox/grid-0000.png", "a_fox/seed_3_00000.png"]


# --- as a process of its own ---


def test_help_imports_no_torch(tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['optimized_txt2img', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "heavy = {'torch', 'numpy', 'PIL', 'transformers', 'pytorch_lightning', 'omegaconf'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    (tmp_path / "check.py").write_text(code)
    status, out, err = run_program(str(tmp_path / "check.py"), cwd=tmp_path)
    assert status == 0, err
    assert "--unet_bs" in out and "--vram_budget" in out


def test_cheap_mistakes_are_told_before_torch_is_imported(tmp_path, tiny_ckpt):
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    arguments = ["--ckpt", tiny_ckpt, "--prompt", "a cat:-1"]
    result = run_program(SCRIPT, *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert_one_error(result, "optimized_txt2img", "--negative_prompt")


def test_ctrl_c_keeps_finished_pictures_and_ends_with_130(tmp_path, tiny_ckpt):
    arguments = ["--ckpt", tiny_ckpt, "--device", "cpu", "--n_iter", "5000", "--ddim_steps", "2"]
    arguments += ["--prompt", "a cat", "--n_samples", "1", "--seed", "0"]
    process = start_program(SCRIPT, *arguments, cwd=tmp_path)
    folder = tmp_path / OUT / "a_cat"
    deadline = time.monotonic() + 100
    while not (folder / "seed_3_00003.png").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("optimized_txt2img: stopped: ")
    for path in folder.iterdir():
        assert np.asarray(Image.open(path)).shape == (16, 16, 3)
