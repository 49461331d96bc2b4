"""The program that converts, and the programs that draw from what it writes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from running import load_program
from safetensors.torch import load_file

from ldm import atomic

PROGRAM = "scripts/convert.py"


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """Run the program in this process and an empty folder; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    program = load_program(PROGRAM)

    def run(*arguments):
        code = program.main(list(map(str, arguments)))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_it_converts_there_and_back_and_says_what_it_did(convert, tiny_ckpt, tmp_path):
    code, out, err = convert(tiny_ckpt, "folder", "--meta", "author=me")
    assert (code, err) == (0, "")
    assert out.startswith("wrote ") and "unet 208, vae 120, text_encoder 20 tensors" in out
    code, out, err = convert("folder", "back.safetensors")
    assert (code, err) == (0, "")
    assert "back.yaml, its configuration" in out
    back, expected = load_file("back.safetensors"), load_file(tiny_ckpt)
    assert back.keys() == expected.keys()
    assert all((back[name] == expected[name]).all() for name in expected)
    assert {p.name for p in tmp_path.iterdir()} == {"folder", "back.safetensors", "back.yaml"}


def test_half_is_asked_for_by_a_flag(convert, tiny_ckpt):
    assert convert(tiny_ckpt, "folder", "--half")[0] == 0
    weights = load_file("folder/unet/diffusion_pytorch_model.safetensors")
    assert {str(value.dtype) for value in weights.values()} == {"torch.float16"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.ckpt", "folder"], "does not exist"),
        (["empty", "a.safetensors"], "model_index.json cannot be read"),
        (["CKPT", "folder", "--use_ema"], "no averaged"),
        (["CKPT", "folder", "--meta", "author"], "KEY=VALUE"),
        (["CKPT", "empty/a.ckpt"], "expected a folder's name"),
        (["CKPT", "folder", "--config", "no.yaml"], "no.yaml"),
        (["CKPT"], "DST"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(convert, tiny_ckpt, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    code, out, err = convert(*(tiny_ckpt if a == "CKPT" else a for a in arguments))
    assert (code, out) == (2, "")
    assert words in err and err.count("\n") == 1 and err.startswith("convert: ")
    assert [p.name for p in tmp_path.rglob("*")] == ["empty"]


def test_programs_draw_the_same_picture_from_the_file_the_folder_and_by_diffusers(
    convert, tiny_ckpt, tmp_path
):
    pytest.importorskip("diffusers")
    convert(tiny_ckpt, "folder")
    common = ["--prompt", "a red apple", "--seed", "7", "--n_samples", "1", "--n_iter", "1"]
    common += ["--ddim_steps", "4", "--skip_grid", "--device", "cpu"]
    ours, theirs = (
        load_program("scripts/txt2img.py"),
        load_program("optimizedSD/diffusers_txt2img.py"),
    )
    for ckpt, out in ((tiny_ckpt, "file"), ("folder", "folder-drawn")):
        own = ["--ckpt", str(ckpt), "--outdir", out, "--seed_mode", "per-image"]
        assert ours.main([*common, *own]) == 0
    own = ["--model", "folder", "--sampler", "ddim", "--outdir", "theirs"]
    assert theirs.main([*common, *own]) == 0
    drawn = [
        pixels(next((tmp_path / d).rglob("*.png"))) for d in ("file", "folder-drawn", "theirs")
    ]
    assert drawn[0].std() > 3
    assert np.array_equal(drawn[0], drawn[1])
    # The reference cuts off what is less than a level, diffusers rounds it.
    assert np.abs(drawn[0] - drawn[2]).max() <= 1


def test_the_folder_that_draws_is_named_in_the_picture(convert, tiny_ckpt, tmp_path):
    convert(tiny_ckpt, "my-model.v1")
    program = load_program("scripts/txt2img.py")
    given = ["--ckpt", "my-model.v1", "--prompt", "a", "--n_samples", "1", "--n_iter", "1"]
    assert program.main([*given, "--ddim_steps", "2", "--device", "cpu", "--outdir", "o"]) == 0
    text = Image.open(tmp_path / "o/samples/00000.png").info["parameters"]
    assert "Model: my-model.v1" in text and "Model hash: " in text


def put_aside(folder):
    """Put a folder aside as a run that was killed did while it replaced it."""
    folder.rename(folder.with_name(f".{folder.name}.ldm-{atomic._host()}-999999999-0123abcd-7.old"))


def test_a_folder_that_a_killed_run_put_aside_is_back_before_it_is_read_or_found_free(
    convert, tiny_ckpt, tmp_path
):
    assert convert(tiny_ckpt, "folder")[0] == 0
    put_aside(tmp_path / "folder")
    code, _, err = convert(tiny_ckpt, "folder")
    assert code == 2 and "exists; give another name, or --overwrite" in err
    put_aside(tmp_path / "folder")
    assert convert("folder", "back.safetensors")[0] == 0
    assert (tmp_path / "folder" / "model_index.json").exists()


def test_a_folder_in_rinnas_layout_and_its_file_draw_the_same_wherever_they_are_moved(
    convert, tmp_path
):
    for package in ("diffusers", "sentencepiece"):
        pytest.importorskip(package, reason="needs pip install -e '.[diffusers,japanese]'")
    from small_sentencepiece import write_tokenizer
    from tiny_diffusers import write_tiny_diffusers

    folder = write_tiny_diffusers(tmp_path, tokenizer=write_tokenizer(tmp_path / "t5"))
    shutil.rmtree(folder / "tokenizer")
    (tmp_path / "t5").rename(folder / "tokenizer")  # spiece.model, as rinna publishes it
    code, out, err = convert(folder, "new/ja.safetensors")
    assert (code, err) == (0, "")
    assert "ja.tokenizer, its tokenizer" in out
    (tmp_path / "new").rename(tmp_path / "moved")
    draw = load_program("scripts/txt2img.py")
    common = ["--ddim_steps", "2", "--n_samples", "1", "--n_iter", "1", "--device", "cpu"]
    drawn = []
    for number, (name, prompt) in enumerate(
        [(folder, "赤い猫"), ("moved/ja.safetensors", "赤い猫"), (folder, "青い犬")]
    ):
        own = ["--prompt", prompt, "--ckpt", str(name), "--outdir", str(number)]
        assert draw.main([*common, *own]) == 0
        drawn.append(pixels(tmp_path / str(number) / "samples/00000.png"))
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
