"""The diffusers program as a user runs it: same files, seeds and metadata as the others."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from running import load_program, run_program
from safetensors.torch import load_file, save_file

from ldm.pipelines.infotext import read_picture
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.samplers import SAMPLERS
from optimizedSD.by_diffusers.settings import SCHEDULERS

SCRIPT = "optimizedSD/diffusers_txt2img.py"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with a pipeline of random weights."""
    pytest.importorskip("diffusers")
    from tiny_diffusers import write_tiny_diffusers

    return write_tiny_diffusers(tmp_path_factory.mktemp("diffusers"))


@pytest.fixture
def draw(tiny, tmp_path, monkeypatch, capsys):
    """Run the program in this process; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the program sets it too; this takes it back
    program = load_program(SCRIPT)
    base = ["--model", str(tiny), "--device", "cpu", "--ddim_steps", "2", "--prompt", "a cat"]

    def run(*arguments, base=base):
        code = program.main([*base, "--outdir", "o", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def assert_one_error(result, *hints):
    code, _, err = result
    lines = err.splitlines()
    assert code == 2, err
    assert len(lines) == 1 and lines[0].startswith("diffusers_txt2img: error: "), err
    for hint in hints:
        assert hint in lines[0]


# --- what it writes ---


def test_pictures_are_named_as_in_the_low_memory_programs(draw, tmp_path):
    code, out, err = draw("--n_samples", 2, "--seed", 7)
    assert code == 0
    assert files(tmp_path / "o" / "a_cat") == [
        "grid-0000.png",
        "seed_7_00000.png",
        "seed_8_00001.png",
    ]
    assert "Seed 7" in out and "4/4" in err and "pictures 2/2" in err


def test_a_prompt_file_is_drawn_line_by_line(draw, tmp_path):
    (tmp_path / "prompts.txt").write_text("a dog\na fox\n", encoding="utf-8")
    code, _, err = draw("--from-file", "prompts.txt", "--n_samples", 1, "--skip_grid", "--seed", 1)
    assert code == 0
    assert files(tmp_path / "o") == ["a_dog/seed_1_00000.png", "a_fox/seed_2_00000.png"]
    assert "--prompt is not used" in err


def test_only_the_grid_is_written_if_asked(draw, tmp_path):
    assert draw("--n_samples", 2, "--skip_save", "--format", "jpg")[0] == 0
    assert files(tmp_path / "o") == ["a_cat/grid-0000.jpg"]


def test_a_picture_stores_how_it_was_made_for_the_other_programs_to_read(draw, tiny, tmp_path):
    draw("--n_samples", 2, "--seed", 7, "--sampler", "euler", "--negative_prompt", "a dog")
    read = read_picture(str(tmp_path / "o/a_cat/seed_8_00001.png"), Txt2ImgSettings)
    made = {"prompt": "a cat", "negative_prompt": "a dog", "sampler": "euler", "seed": 8}
    assert made.items() <= read.values.items()
    assert {"seed_mode": "per-image", "ddim_steps": 2, "H": 32}.items() <= read.values.items()
    assert read.model == tiny.name
    assert read.place.index == 1


def test_the_folders_own_spacing_of_the_steps_is_used_and_stored(draw, tiny, tmp_path):
    karras = tmp_path / "karras"
    shutil.copytree(tiny, karras)
    file = karras / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"use_karras_sigmas": True}
    file.write_text(json.dumps(config), encoding="utf-8")
    for folder in (tiny, karras):
        sampler = [
            "--sampler",
            "euler",
            "--ddim_steps",
            4,
        ]  # with fewer, both spacings take the same steps
        draw("--model", folder, "--n_samples", 1, "--seed", 7, *sampler)
    pictures = [str(tmp_path / f"o/a_cat/seed_7_{n:05d}.png") for n in range(2)]
    stored = [read_picture(path, Txt2ImgSettings).values["spacing"] for path in pictures]
    assert stored == ["uniform", "karras"]
    assert not np.array_equal(*map(pixels, pictures))


# --- what it draws ---


def test_the_same_seed_gives_the_same_picture(draw, tmp_path):
    for _ in range(2):
        assert draw("--n_samples", 1, "--seed", 7)[0] == 0
    first, second = (tmp_path / f"o/a_cat/seed_7_{n:05d}.png" for n in range(2))
    assert np.array_equal(pixels(first), pixels(second))


@pytest.mark.parametrize("sampler", ["plms", "euler_a"])  # without and with noise in the steps
def test_a_picture_does_not_depend_on_those_drawn_beside_it(sampler, draw, tmp_path):
    draw("--n_samples", 3, "--seed", 5, "--sampler", sampler)
    draw("--n_samples", 1, "--seed", 7, "--sampler", sampler)
    together, alone = (tmp_path / f"o/a_cat/seed_7_{n:05d}.png" for n in (2, 3))
    # Sums have another order in a batch, which can change how a pixel is rounded.
    assert np.abs(pixels(together) - pixels(alone)).max() <= 1


def test_seed_prompt_and_guidance_each_change_the_picture(draw, tmp_path):
    for words in (["--seed", 7], ["--seed", 8], ["--seed", 7, "--scale", 1]):
        assert draw("--n_samples", 1, *words)[0] == 0
    draw("--n_samples", 1, "--seed", 7, "--prompt", "zz")
    drawn = [pixels(path) for path in sorted((tmp_path / "o").rglob("seed_*"))]
    assert len(drawn) == 4
    assert all((a != b).any() for n, a in enumerate(drawn) for b in drawn[:n])


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_every_sampler_that_is_offered_has_its_counterpart(sampler, draw, tmp_path):
    if sampler == "lms":
        pytest.importorskip("scipy")
    code, _, err = draw("--n_samples", 1, "--sampler", sampler, "--ddim_steps", 3)
    assert code == 0 and "3/3" in err
    assert len(files(tmp_path / "o" / "a_cat")) == 2


def test_samplers_without_one_are_refused_in_a_line(draw):
    code, _, err = draw("--n_samples", 1, "--sampler", "dpmpp_2m_sde")
    assert code == 2 and "dpmpp_2m_sde" in err and SAMPLERS.keys() > SCHEDULERS.keys()


def test_a_long_prompt_is_cut_with_a_warning(draw):
    code, _, err = draw("--n_samples", 1, "--prompt", "cat " * 90 + "dog")
    assert code == 0 and "longer than 77 tokens" in err and "dog'" in err


def answer(monkeypatch, images, flags=None):
    """Make diffusers' pipeline return these pictures (B, H, W, 3) in [0, 1]."""
    import diffusers

    out = SimpleNamespace(images=images, nsfw_content_detected=flags)
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "__call__", lambda *_, **__: out)


def test_a_picture_that_the_folders_safety_checker_blacked_out_is_named(draw, monkeypatch):
    answer(monkeypatch, np.zeros((2, 32, 32, 3), np.float32), [False, True])
    code, _, err = draw("--n_samples", 2)
    assert code == 0
    assert "picture 2 was blacked out" in err and "picture 1 was" not in err


def test_pictures_of_nan_are_an_error(draw, monkeypatch):
    answer(monkeypatch, np.full((1, 32, 32, 3), np.nan, np.float32))
    assert_one_error(draw("--n_samples", 1), "came out as NaN", "guidance scale")


def test_an_interrupted_run_says_which_pictures_it_leaves(draw, monkeypatch, tmp_path):
    from optimizedSD.by_diffusers.drawing import Run

    pictures = Run.pictures

    def interrupted(self):
        yield next(pictures(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "pictures", interrupted)
    code, _, err = draw("--n_samples", 1, "--n_iter", 2, "--seed", 7)
    assert code == 130 and "finished pictures are kept" in err.splitlines()[-1]
    assert files(tmp_path / "o") == ["a_cat/seed_7_00000.png"]


# --- errors, in one line ---


def test_a_name_on_the_hub_is_not_looked_up(draw):
    result = draw("--model", "runwayml/stable-diffusion-v1-5")
    assert_one_error(result, "hf download runwayml/stable-diffusion-v1-5", "nothing is downloaded")


def test_for_a_checkpoint_file_the_program_that_takes_it_is_named(draw, tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"")
    assert_one_error(draw("--model", "model.ckpt"), "optimized_txt2img.py --ckpt model.ckpt")


def test_a_folder_without_a_pipeline_is_an_error(draw, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_one_error(draw("--model", "empty"), "model_index.json cannot be read")


def test_another_kind_of_pipeline_is_an_error_that_names_it(draw, tmp_path):
    (tmp_path / "xl").mkdir()
    index = {"_class_name": "StableDiffusionXLPipeline"}
    (tmp_path / "xl" / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    assert_one_error(draw("--model", "xl"), "StableDiffusionXLPipeline")


def test_a_tokenizer_that_it_does_not_have_is_an_error_that_names_the_program_that_does(
    draw, tiny, tmp_path
):
    shutil.copytree(tiny, tmp_path / "ja")
    path = tmp_path / "ja" / "model_index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(index | {"tokenizer": ["transformers", "T5Tokenizer"]}))
    assert_one_error(draw("--model", "ja"), "T5Tokenizer", "scripts/txt2img.py --ckpt ja")


@pytest.mark.parametrize(
    "missing", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json", "text_encoder"]
)
def test_an_incomplete_folder_is_an_error_that_names_it(missing, draw, tiny, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    path = broken / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_one_error(draw("--model", "broken"), "--model broken", "fetch the model again")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_network_that_lacks_a_weight_is_an_error(part, draw, tiny, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    (file,) = (broken / part).glob("*.safetensors")
    weights = load_file(file)
    left_out = sorted(weights)[0]
    save_file({k: v for k, v in weights.items() if k != left_out}, file, {"format": "pt"})
    assert_one_error(draw("--model", "broken"), f"{part} lacks 1 weights")


def test_text_encoders_saved_by_older_libraries_are_loaded(draw, tiny, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(tiny, older)
    file = older / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    named = {f"text_model.{key.removeprefix('text_model.')}": v for key, v in weights.items()}
    save_file(named, file, {"format": "pt"})
    for folder in (older, tiny):
        assert draw("--model", folder, "--n_samples", 1, "--seed", 7)[0] == 0
    first, second = (tmp_path / f"o/a_cat/seed_7_{n:05d}.png" for n in range(2))
    assert np.array_equal(pixels(first), pixels(second))


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--H", 33], "the nearest are 32 and 34"),
        (["--ddim_steps", 1001], "1000 or fewer"),
        (["--scale", 0.5], "1.0 or more"),
        (["--sampler", "dpm3"], "dpm2"),
        (["--offload", "model"], "leave --offload out"),
        (["--n_samples", 0], "from 1"),
        (["--seed", -1], "from 0"),
        (["--modle", "x"], "did you mean --model?"),
        (["--device", "gpu"], "auto, cpu, cuda"),
    ],
)
def test_a_value_that_is_not_allowed_is_an_error_before_anything_is_drawn(
    arguments, hint, draw, tmp_path
):
    assert_one_error(draw(*arguments), hint)
    assert not (tmp_path / "o").exists()


def test_a_missing_model_is_an_error(draw):
    assert_one_error(draw(base=[]), "--model FOLDER")


def test_offloading_on_a_machine_without_a_gpu_is_an_error(draw, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_one_error(draw("--device", "auto", "--offload", "group"), "this run is on the CPU")


def test_help_names_the_flags_and_imports_neither_torch_nor_diffusers(tmp_path):
    code, out, imports = run_program(SCRIPT, "--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert code == 0 and "--offload {none,model,sequential,group}" in out
    loaded = {line.split("|")[-1].strip() for line in imports.splitlines()}
    assert "ldm.settings.command_line" in loaded
    assert loaded.isdisjoint({"torch", "numpy", "diffusers", "transformers"})
