"""The program txt2img as a user meets it: files, exit codes, and what it says."""

from __future__ import annotations

import re
import signal
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from running import ROOT, load_program, run_program, start_program
from safetensors.torch import load_file, save_file
from tiny_model import CONFIG

from ldm.images.io import save_picture
from ldm.settings.samplers import SAMPLERS

SCRIPT = "scripts/txt2img.py"
PROMPT = "富士山, ein Bär"


@pytest.fixture
def txt2img(tiny_ckpt, tmp_path, monkeypatch, capsys):
    """Run the program in this process with the tiny model; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    program = load_program(SCRIPT)
    base = ["--ckpt", str(tiny_ckpt), "--device", "cpu", "--ddim_steps", "4"]

    def run(*arguments, base=base):
        code = program.main([*base, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def pixels(path):
    return np.asarray(Image.open(path))


def assert_one_error(result, *hints):
    """Exit code 2, and one line on stderr that says what to do."""
    code, _, err = result
    lines = [line for line in err.splitlines() if line and not line.startswith("warning:")]
    lines = [line for line in lines if "step/s" not in line]
    assert code == 2, err
    assert len(lines) == 1 and lines[0].startswith("txt2img: error: "), err
    for hint in hints:
        assert hint in lines[0]


# --- what it writes ---


def test_default_run_writes_numbered_pictures_and_a_grid(txt2img, tmp_path):
    code, out, err = txt2img("--prompt", PROMPT)
    folder = tmp_path / "outputs" / "txt2img-samples"
    assert code == 0
    assert files(folder) == ["grid-0000.png", *(f"samples/{n:05d}.png" for n in range(6))]
    assert pixels(folder / "samples" / "00000.png").shape == (16, 16, 3)
    assert pixels(folder / "grid-0000.png").shape == (2 * 18 + 2, 3 * 18 + 2, 3)
    assert np.array_equal(
        pixels(folder / "grid-0000.png")[2:18, 2:18], pixels(folder / "samples" / "00000.png")
    )
    assert "Seed 42" in out and "outputs/txt2img-samples" in out
    assert "24/24" in err and "pictures 6/6" in err


def test_a_second_walk_at_the_same_size_is_said_too(txt2img):
    twice = ("--hires", 1.01, "--ddim_steps", 4, "--hires_strength", 0.3, "--n_iter", 1)
    _, out, _ = txt2img(*twice, "--n_samples", 1)
    assert "Then no larger and redrawn in 1 step." in out


def test_pictures_of_large_seeds_are_drawn_and_drawn_again(txt2img, tmp_path):
    seed = 2**63 - 2
    run = ("--seed", seed, "--seed_mode", "per-image", "--n_iter", 1, "--n_samples", 2)
    assert txt2img(*run, "--outdir", "o")[0] == 0
    second = tmp_path / "o" / "samples" / "00001.png"
    assert f"Seed: {seed + 1}," in Image.open(second).info["parameters"]
    assert txt2img("--from-image", second, "--outdir", "again")[0] == 0
    again = pixels(tmp_path / "again" / "samples" / "00000.png")
    assert np.array_equal(again, pixels(second))
    alone = ("--seed", seed + 1, *run[2:], "--n_samples", 1, "--outdir", "alone")
    assert txt2img(*alone)[0] == 0
    assert np.abs(pixels(tmp_path / "alone/samples/00000.png").astype(int) - again).max() <= 1


def test_what_suits_the_model_is_said_drawn_and_recorded_and_unknown_words_are_named(
    txt2img, tiny_ckpt, tmp_path
):
    more = {"sampling": {"scale": 3, "steps": 2, "W": 24}, "knows": ["a", "cat"]}
    config = OmegaConf.merge(CONFIG, more)
    OmegaConf.save(config, tmp_path / "own.yaml")
    base = ["--ckpt", str(tiny_ckpt), "--config", "own.yaml", "--device", "cpu", "--n_iter", 1]
    code, out, err = txt2img("--prompt", "a cat by Monet", "--outdir", "o", base=map(str, base))
    assert code == 0 and "As suits this model: scale 3, steps 2, W 24." in out
    assert "does not know: by, Monet;" in err
    picture = Image.open(tmp_path / "o/samples/00000.png")
    assert picture.size == (24, 16)
    assert (
        "Steps: 2," in picture.text["parameters"] and "CFG scale: 3," in picture.text["parameters"]
    )


def test_a_second_run_goes_on_numbering(txt2img, tmp_path):
    for _ in range(2):
        assert txt2img("--outdir", "o", "--n_iter", 1, "--n_samples", 1)[0] == 0
    expected = ["grid-0000.png", "grid-0001.png", "samples/00000.png", "samples/00001.png"]
    assert files(tmp_path / "o") == expected


def test_saving_and_grid_can_be_left_out(txt2img, tmp_path):
    assert txt2img("--outdir", "a", "--skip_grid", "--n_iter", 1)[0] == 0
    assert txt2img("--outdir", "b", "--skip_save", "--n_iter", 1, "--n_rows", 2)[0] == 0
    assert files(tmp_path / "a") == [f"samples/{n:05d}.png" for n in range(3)]
    assert files(tmp_path / "b") == ["grid-0000.png"]
    assert pixels(tmp_path / "b" / "grid-0000.png").shape == (38, 38, 3)


def test_jpg_pictures_carry_their_settings_too(txt2img, tmp_path):
    assert txt2img("--outdir", "o", "--format", "jpg", "--n_iter", 1, "--prompt", PROMPT)[0] == 0
    assert files(tmp_path / "o") == ["grid-0000.jpg", *(f"samples/{n:05d}.jpg" for n in range(3))]
    again = txt2img("--from-image", "o/samples/00001.jpg", "--outdir", "again")
    assert again[0] == 0
    first, second = tmp_path / "o/samples/00001.jpg", tmp_path / "again/samples/00000.jpg"
    assert first.read_bytes() == second.read_bytes()


def test_a_prompt_file_draws_each_line_once_per_iteration(txt2img, tmp_path):
    (tmp_path / "prompts.txt").write_bytes("\ufeffa cat\n富士山\na tree\na boat\n".encode())
    code, _, err = txt2img("--from-file", "prompts.txt", "--outdir", "o", "--prompt", "unused")
    assert code == 0
    assert len(files(tmp_path / "o" / "samples")) == 8
    text = Image.open(tmp_path / "o" / "samples" / "00005.png").info["parameters"]
    assert text.startswith("Mount Fuji\n") and "Original prompt: 富士山" in text
    assert "warning: --prompt is not used" in err


# --- drawn again from a picture ---


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_any_picture_is_drawn_again_to_the_bit(txt2img, tmp_path, sampler):
    run = ("--sampler", sampler, "--n_samples", 3, "--n_iter", 2, "--negative_prompt", "霧, fog:")
    assert txt2img("--prompt", PROMPT, *run, "--outdir", "run", "--seed", 9)[0] == 0
    wanted = tmp_path / "run" / "samples" / "00004.png"
    assert txt2img("--from-image", wanted, "--outdir", "again")[0] == 0
    assert files(tmp_path / "again") == ["samples/00000.png"]
    again = tmp_path / "again" / "samples" / "00000.png"
    assert again.read_bytes() == wanted.read_bytes()


def test_a_picture_of_a_prompt_file_is_drawn_again_when_the_file_is_gone(txt2img, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\na dog\na tree\na house\na boat", encoding="utf-8")
    options = ("--n_samples", 2, "--ddim_eta", 0.5, "--fixed_code", "--seed_mode", "compvis")
    assert txt2img("--from-file", file, *options, "--outdir", "run")[0] == 0
    file.unlink()
    for number in ("00004", "00008"):  # alone in a short batch; in the second iteration
        wanted = tmp_path / "run" / "samples" / f"{number}.png"
        assert txt2img("--from-image", wanted, "--outdir", f"again-{number}")[0] == 0
        again = tmp_path / f"again-{number}" / "samples" / "00000.png"
        assert again.read_bytes() == wanted.read_bytes()


def test_flags_beside_from_image_replace_single_settings(txt2img, tmp_path):
    assert txt2img("--prompt", "a cat", "--outdir", "run", "--seed", 5, "--n_iter", 1)[0] == 0
    picture = tmp_path / "run" / "samples" / "00000.png"
    assert txt2img("--from-image", picture, "--prompt", "a dog", "--outdir", "dog")[0] == 0
    dog = tmp_path / "dog" / "samples" / "00000.png"
    text = Image.open(dog).info["parameters"]
    assert text.startswith("a dog\n") and "Seed: 5" in text
    assert not np.array_equal(pixels(dog), pixels(picture))
    assert txt2img("--from-image", picture, "--n_iter", 2, "--outdir", "more")[0] == 0
    assert len(files(tmp_path / "more" / "samples")) == 6


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_picture_from_a_gpu_is_drawn_again_without_one_and_the_difference_told(
    txt2img, tiny_ckpt, tmp_path
):
    assert txt2img("--outdir", "run", "--n_iter", 1)[0] == 0
    text = Image.open(tmp_path / "run/samples/00000.png").info["parameters"]
    blank, moved = np.zeros((16, 16, 3), np.uint8), text.replace("Device: cpu", "Device: cuda")
    save_picture(blank, tmp_path / "gpu.png", metadata=moved)
    base = ["--ckpt", str(tiny_ckpt)]
    code, _, err = txt2img("--from-image", "gpu.png", "--outdir", "again", base=base)
    assert code == 0
    assert "made on cuda and will not be the same" in err
    code, _, err = txt2img("--from-image", "gpu.png", "--outdir", "asked", "--device", "cuda")
    assert code == 2


def test_another_model_than_the_pictures_is_told(txt2img, tiny_ckpt, tmp_path):
    assert txt2img("--outdir", "run", "--n_iter", 1)[0] == 0
    other = tmp_path / "other.safetensors"
    weights = load_file(tiny_ckpt)
    name = "model.diffusion_model.out.2.bias"
    save_file({**weights, name: weights[name] + 1}, other)
    (tmp_path / "other.yaml").write_text((tiny_ckpt.parent / "config.yaml").read_text())
    base = ["--ckpt", str(other), "--device", "cpu"]
    code, _, err = txt2img("--from-image", "run/samples/00000.png", base=base)
    assert code == 0
    assert "made by model tiny" in err and "--ckpt" in err


# --- what it says ---


def test_what_libraries_tell_programmers_is_not_shown_to_users(txt2img, monkeypatch, recwarn):
    from ldm.pipelines import pipeline as generate

    load_model = generate.load_model

    def noisy(*args, **kwargs):
        warnings.warn("use the new name", FutureWarning, stacklevel=1)
        return load_model(*args, **kwargs)

    monkeypatch.setattr(generate, "load_model", noisy)
    monkeypatch.setattr(sys, "warnoptions", [])
    code, _, err = txt2img("--n_iter", 1)
    assert code == 0
    assert not recwarn.list and "new name" not in err


def test_warnings_name_other_step_counts_and_lost_words(txt2img):
    code, _, err = txt2img("--ddim_steps", 7, "--n_iter", 1, "--prompt", "cat " * 75 + "zebra")
    assert code == 0
    assert len(re.findall("warning: 7 steps asked, 8 taken", err)) == 1
    assert len(re.findall("warning: .*77.*'zebra'", err)) == 1


def test_safety_and_watermark_are_told_once(txt2img):
    _, out, _ = txt2img("--safety_checker", "off")
    assert out.count("--safety_checker off") == 1
    assert out.count("16x16 are too small") == 1


def test_the_model_in_use_and_how_to_get_sd_v1_are_told(txt2img, tiny_ckpt, tmp_path, monkeypatch):
    from ldm.pipelines import models

    monkeypatch.setattr(models, "ROOT", tmp_path / "repository")
    demo = tmp_path / "repository" / "models" / "ldm" / "demo"
    demo.mkdir(parents=True)
    (demo / "config.yaml").write_text((tiny_ckpt.parent / "config.yaml").read_text())
    (demo / "model.safetensors").symlink_to(tiny_ckpt)
    code, out, _ = txt2img("--n_iter", 1, base=["--ddim_steps", "4", "--device", "cpu"])
    assert code == 0
    assert out.splitlines()[0].count("python scripts/download_models.py sd-v1-4") == 1
    assert pixels(tmp_path / "outputs/txt2img-samples/samples/00000.png").shape == (16, 16, 3)


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--ckpt", "none.ckpt"], "none.ckpt"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--from-file", "none.txt"], "none.txt"),
        (["--from-file", "empty.txt"], "no prompt"),
        (["--from-image", "none.png"], "none.png"),
        (["--from-image", "empty.txt"], "empty.txt"),
        (["--plms", "--ddim_eta", "0.5"], "PLMS"),
        (["--plms", "--dpm_solver"], "contradict"),
        (["--ddim_steps", "0"], "--ddim_steps 0"),
        (["--ddim_steps", "-5"], "--ddim_steps -5"),
        (["--n_samples", "0"], "--n_samples 0"),
        (["--H", "18"], "16 and 20"),
        (["--device", "gpu"], "--device gpu"),
        (["--device", "cuda:99"], "--device cuda:99"),
        (["--outdir", "empty.txt/o"], "--outdir"),
        (["--laion400m"], "--laion400m"),
        (["--use_ema"], "EMA"),
        (["--scale", "nan"], "--scale nan"),
        (["--n_iter", "1000000"], "3000000 in all"),
        (
            ["--seed", "18446744073709551615", "--seed_mode", "per-image"],
            "--seed 18446744073709551615",
        ),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_nothing_is_written(
    txt2img, tmp_path, arguments, hint
):
    (tmp_path / "empty.txt").write_text("")
    assert_one_error(txt2img(*arguments), hint)
    assert files(tmp_path) == ["empty.txt"]


def test_a_bad_checkpoint_is_an_error(txt2img, tiny_ckpt, tmp_path):
    weights = load_file(tiny_ckpt)
    partial = {name: value for name, value in weights.items() if "middle_block" not in name}
    save_file(partial, tmp_path / "partial.safetensors")
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    config = tiny_ckpt.parent / "config.yaml"
    for name, hint in (("partial.safetensors", "incomplete"), ("text.ckpt", "text.ckpt")):
        base = ["--ckpt", str(tmp_path / name), "--config", str(config), "--device", "cpu"]
        assert_one_error(txt2img(base=base), hint)
    assert not (tmp_path / "outputs").exists()


def test_nan_is_an_error_and_no_picture(txt2img, tiny_ckpt, tmp_path):
    weights = load_file(tiny_ckpt)
    name = "model.diffusion_model.out.2.bias"
    save_file(
        {**weights, name: torch.full_like(weights[name], float("nan"))},
        tmp_path / "nan.safetensors",
    )
    config = tiny_ckpt.parent / "config.yaml"
    base = ["--ckpt", str(tmp_path / "nan.safetensors"), "--config", str(config)]
    assert_one_error(txt2img("--device", "cpu", "--ddim_steps", 2, base=base), "NaN")
    assert not (tmp_path / "outputs").exists()


# --- as a process of its own ---


def test_help_imports_no_torch(tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['txt2img', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "heavy = {'torch', 'transformers', 'pytorch_lightning', 'cv2', 'omegaconf'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    (tmp_path / "check.py").write_text(code)
    status, out, err = run_program(str(tmp_path / "check.py"), cwd=tmp_path)
    assert status == 0, err
    assert "--ddim_steps" in out


def test_cheap_mistakes_are_told_before_torch_is_imported(tmp_path, tiny_ckpt):
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    result = run_program(
        SCRIPT, "--ckpt", tiny_ckpt, "--H", "18", cwd=tmp_path, PYTHONPATH=str(tmp_path)
    )
    assert_one_error(result, "--H 18", "16 and 20")


def test_a_process_from_any_folder_draws_and_imports_only_what_it_needs(tmp_path, tiny_ckpt):
    checked = tmp_path / "checked.py"
    checked.write_text(
        "import runpy, sys\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "unused = {'pytorch_lightning', 'transformers', 'taming', 'kornia', 'cv2'}\n"
        "assert not unused & sys.modules.keys(), unused & sys.modules.keys()\n"
    )
    arguments = ["--ckpt", tiny_ckpt, "--ddim_steps", "2", "--n_iter", "1", "--prompt", PROMPT]
    status, _, err = run_program(str(checked), *arguments, cwd=tmp_path)
    assert status == 0, err
    assert len(files(tmp_path / "outputs")) == 4


def test_a_reader_that_goes_away_does_not_stop_the_drawing(tmp_path, tiny_ckpt):
    """As with `| head -1`, and with both streams in one pipe."""
    arguments = ["--ckpt", tiny_ckpt, "--device", "cpu", "--n_iter", "2", "--ddim_steps", "2"]
    process = start_program(SCRIPT, *arguments, cwd=tmp_path)
    assert process.stdout.readline().startswith("Seed 42")
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=100) == 0
    assert len(files(tmp_path / "outputs")) == 7


def test_ctrl_c_keeps_finished_pictures_and_ends_with_130(tmp_path, tiny_ckpt):
    arguments = ["--ckpt", tiny_ckpt, "--device", "cpu", "--n_iter", "5000", "--ddim_steps", "2"]
    process = start_program(SCRIPT, *arguments, cwd=tmp_path)
    samples = tmp_path / "outputs" / "txt2img-samples" / "samples"
    deadline = time.monotonic() + 100
    while not (samples / "00003.png").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("txt2img: stopped: ")
    for name in files(samples):
        assert pixels(samples / name).shape == (16, 16, 3)
