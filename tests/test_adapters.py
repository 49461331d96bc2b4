"""Adapters end to end: the programs as a user runs them, with a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
from adapter_shelves import write_shelves
from PIL import Image, ImageOps
from running import load_program

from ldm.hints.make import make_hint
from ldm.pipelines import adapter_files
from ldm.pipelines.pipeline import Pipeline

TXT2IMG = "scripts/txt2img.py"


@pytest.fixture(scope="module")
def model(tiny_ckpt):
    return Pipeline.load(tiny_ckpt, device="cpu").model


@pytest.fixture(scope="module")
def shelves(model, tmp_path_factory):
    return write_shelves(tmp_path_factory.mktemp("shelves"), model)


@pytest.fixture
def run(tiny_ckpt, shelves, monkeypatch, capsys):
    """Run a program in this process beside the shelves; return exit code, stdout, stderr."""
    monkeypatch.chdir(shelves)
    monkeypatch.setattr(adapter_files, "ROOT", adapter_files.Path("elsewhere"))
    base = ["--ckpt", str(tiny_ckpt), "--device", "cpu", "--safety_checker", "off"]

    def started(program, *arguments):
        code = load_program(program).main([*base, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return started


def pixels(folder, number=0):
    return np.asarray(Image.open(folder / "samples" / f"{number:05d}.png"))


def few(folder, *more):
    return "--ddim_steps", 4, "--n_samples", 1, "--n_iter", 1, "--outdir", folder, *more


def test_everything_together_and_again_from_the_picture(run, tmp_path):
    first, again, plain = (tmp_path / name for name in ("first", "again", "plain"))
    code, out, err = run(
        TXT2IMG,
        *("--prompt", "a sunny cat <lora:hat:0.5>", "--lora", "ink:0.5:0.25"),
        *("--embedding", "sunny", "--control", "canny=net:photo.png:0.8:0:0.75"),
        *few(first),
    )
    assert code == 0, err
    for said in (
        "'hat.safetensors', kohya format",
        "'ink.safetensors'",
        "'sunny.pt'",
        "ControlNet",
    ):
        assert said in out + err
    assert run(TXT2IMG, "--prompt", "a sunny cat", *few(plain))[0] == 0
    assert not np.array_equal(pixels(first), pixels(plain))
    code, _, err = run(TXT2IMG, "--from-image", first / "samples" / "00000.png", "--outdir", again)
    assert code == 0, err
    assert np.array_equal(pixels(first), pixels(again))


def test_few_steps_of_lcm_with_a_lora(run, tmp_path):
    code, _, err = run(
        TXT2IMG,
        *("--prompt", "a cat", "--lora", "ink", "--sampler", "lcm", "--scale", 1),
        *few(tmp_path / "out"),
    )
    assert code == 0, err
    picture = Image.open(tmp_path / "out/samples/00000.png")
    assert "Steps: 4, Sampler: LCM" in picture.info["parameters"]
    assert "lcm is for" not in err


def test_lcm_with_the_usual_scale_is_warned_of(run, tmp_path):
    _, out, err = run(TXT2IMG, "--prompt", "a cat", "--sampler", "lcm", *few(tmp_path / "out"))
    assert "--sampler lcm is for a latent consistency model or LoRA" in out + err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--lora", "inc"), "the nearest are 'ink'"),
        (("--lora", "photo.png"), "photo.png"),
        (("--embedding", "ink"), "models/embeddings has no embedding of that name"),
        (("--embedding", "models/lora/ink.safetensors"), "expected an embedding of one word"),
        (("--control", "canny=net"), "expected canny=FILE:IMAGE"),
        (("--control", "canny=models/lora/ink.safetensors:photo.png"), "a LoRA; give it as one"),
        (("--control", "style=net:photo.png"), "--image_encoder"),
        (("--box", "cat:0,0,1,1"), "without --control gligen=FILE"),
        (("--prompt", "<lora:nobody:1>"), "'<lora:nobody:1>' in a prompt is no file"),
    ],
)
def test_what_cannot_be_used_ends_with_one_line(flags, said, run, tmp_path):
    code, _, err = run(TXT2IMG, *flags, *few(tmp_path / "out"))
    (line,) = [each for each in err.splitlines() if "error" in each]
    assert code == 2
    assert said in line


@pytest.mark.parametrize(
    ("program", "more"),
    [
        ("optimizedSD/optimized_txt2img.py", ("--seed", 1, "--H", 16, "--W", 16)),
        ("scripts/img2img.py", ("--init-img", "photo.png", "--strength", 0.75)),
    ],
)
def test_other_programs_have_the_same_flags_and_tags(program, more, run, tmp_path):
    drawn = {}
    for name, prompt, flags in (
        ("plain", "a cat", ()),
        ("flag", "a cat", ("--lora", "hat:0.5")),
        ("tag", "a cat<lora:hat:0.5>", ()),
        ("control", "a cat", ("--control", "hint=net:photo.png")),
    ):
        folder = tmp_path / name
        code, _, err = run(program, "--prompt", prompt, *flags, *few(folder), *more)
        assert code == 0, err
        (first,) = [p for p in sorted(folder.rglob("*.png")) if "grid" not in p.name]
        drawn[name] = np.asarray(Image.open(first))
    assert np.array_equal(drawn["flag"], drawn["tag"])
    assert not np.array_equal(drawn["flag"], drawn["plain"])
    assert not np.array_equal(drawn["control"], drawn["plain"])


def test_hints_alone_are_written_without_a_model(run, tmp_path):
    flags = ["--control", "canny=net:photo.png", "--control", "hint=net:other.png", "--hint_only"]
    code, out, err = run(TXT2IMG, "--prompt", "a cat", *flags, *few(tmp_path))
    assert code == 0, err
    assert "net.safetensors" not in out  # nothing was attached
    edges, other = pixels(tmp_path, 0), pixels(tmp_path, 1)
    expected = make_hint(
        "canny", ImageOps.fit(Image.open("photo.png"), edges.shape[1::-1], Image.Resampling.LANCZOS)
    )
    np.testing.assert_array_equal(edges, np.asarray(expected))
    np.testing.assert_array_equal(other, np.asarray(Image.open("other.png")))
    assert b"trainedAlgorithmicMedia" not in (tmp_path / "samples/00000.png").read_bytes()
    assert not list(tmp_path.glob("grid*"))


def test_hints_alone_need_a_control_with_a_picture(run, tmp_path):
    code, _, err = run(TXT2IMG, "--prompt", "a cat", "--hint_only", *few(tmp_path))
    assert code == 2 and "without a --control that looks at a picture" in err
