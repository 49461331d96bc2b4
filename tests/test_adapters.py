"""Adapters end to end: the programs as a user runs them, with a tiny model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from adapter_shelves import write_shelves
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from running import load_program
from safetensors.torch import save_file

from ldm.adapters.handle import require_unet
from ldm.hints.make import make_hint
from ldm.modules.diffusionmodules.style_adapter import StyleAdapter
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
        (("--control", "style=net:photo.png", "--image_encoder", "models"), "is a ControlNet"),
        (("--lora", "ink:nan"), "--lora 'ink:nan' was given; expected FILE, FILE:scale"),
        (("--lora", "ink:1:2:3"), "--lora 'ink:1:2:3' was given; expected FILE, FILE:scale"),
        (("--lora", "models"), "is a folder; expected a file with a LoRA"),
        (("--embedding", "models"), "is a folder; expected a file with an embedding"),
        (("--box", "cat:0,0,1,1"), "without --control gligen=FILE"),
        (("--prompt", "<lora:nobody:1>"), "'<lora:nobody:1>' in a prompt is no file"),
        (
            ("--prompt", "a withLora(nobody)", "--prompt_syntax", "compel"),
            "'withLora(nobody)' in a prompt is no file",
        ),
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


def drawn(run, folder, *flags):
    """Run txt2img; return the pixels of its picture and what was said."""
    code, out, err = run(TXT2IMG, *flags, *few(folder))
    assert code == 0, err
    return pixels(folder), out + err


def test_compels_own_name_of_a_lora_acts_as_the_flag_does(run, tmp_path):
    compel = ("--prompt_syntax", "compel")
    flag, _ = drawn(run, tmp_path / "a", "--prompt", "a cat", "--lora", "hat:0.5", *compel)
    named = ("--prompt", "a cat withLora(hat,0.5)", *compel)
    by_name, said = drawn(run, tmp_path / "b", *named)
    assert np.array_equal(by_name, flag) and "not attached" not in said
    again = ("--from-image", tmp_path / "b/samples/00000.png", "--outdir", tmp_path / "c")
    assert run(TXT2IMG, *again)[0] == 0
    assert np.array_equal(pixels(tmp_path / "c"), flag)
    _, said = drawn(run, tmp_path / "d", "--prompt", "a cat withLora(hat, 0.5)")
    assert "drawn as plain text: 'withLora(hat, 0.5)'" in said


def test_a_strangers_name_of_a_lora_that_is_missing_is_taken_out_and_said(
    run, tmp_path, monkeypatch
):
    record = {"positive_prompt": "a cat++ withLora(gone,0.5)", "steps": 4, "width": 16}
    texts = PngInfo()
    texts.add_text("invokeai_metadata", json.dumps({**record, "height": 16, "seed": 1}))
    Image.new("RGB", (16, 16)).save(tmp_path / "theirs.png", pnginfo=texts)
    code, out, err = run(
        TXT2IMG, "--from-image", tmp_path / "theirs.png", "--n_samples", 1, "--outdir", tmp_path
    )
    assert code == 0, err
    assert "'withLora(gone, 0.5)' is no file" in out + err


@pytest.fixture(scope="module")
def styled(model, shelves):
    """A style adapter on its shelf, and CLIP's network in the folder ``clip``."""
    torch.manual_seed(0)
    width = require_unet(model).factory.context_dim
    adapter = StyleAdapter(16, width, blocks=1)
    torch.nn.init.normal_(adapter.proj, std=1.0)
    save_file(adapter.state_dict(), shelves / "models/controlnet/style.safetensors")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = transformers.CLIPVisionConfig(
        **sizes, num_attention_heads=2, image_size=32, patch_size=8, projection_dim=8
    )
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(shelves / "clip")


@pytest.mark.usefixtures("styled")
def test_a_style_is_taken_from_a_picture_and_again_by_the_recorded_encoder(run, shelves, tmp_path):
    style = ("--control", "style=style:photo.png", "--image_encoder", "clip")
    plain, _ = drawn(run, tmp_path / "a", "--prompt", "a cat")
    first, said = drawn(run, tmp_path / "b", "--prompt", "a cat", *style)
    assert "style adapter 'style.safetensors'" in said and not np.array_equal(first, plain)
    net = ("--control", "hint=net:photo.png", "--control_mode", "prompt")
    both, _ = drawn(run, tmp_path / "c", "--prompt", "a cat", *style, *net)
    assert not np.array_equal(both, first)
    picture = tmp_path / "b/samples/00000.png"
    assert run(TXT2IMG, "--from-image", picture, "--outdir", tmp_path / "d")[0] == 0
    assert np.array_equal(pixels(tmp_path / "d"), first)
    weights = shelves / "clip/model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept + b" ")
    code, _, err = run(TXT2IMG, "--from-image", picture, "--outdir", tmp_path / "e")
    weights.write_bytes(kept)
    assert code == 2 and "its image encoder 'clip' has the hash" in err
    (shelves / "clip").rename(shelves / "moved")
    code, _, err = run(TXT2IMG, "--from-image", picture, "--outdir", tmp_path / "e")
    given = ("--image_encoder", "moved", "--outdir", tmp_path / "f")
    assert run(TXT2IMG, "--from-image", picture, *given)[0] == 0
    (shelves / "moved").rename(shelves / "clip")
    assert code == 2 and "looked through the image encoder clip, which is not there" in err
    assert np.array_equal(pixels(tmp_path / "f"), first)


@pytest.mark.usefixtures("styled")
def test_a_style_adapter_given_as_a_drawings_network_is_refused(run, tmp_path):
    flags = ("--prompt", "a cat", "--control", "canny=style:photo.png")
    code, _, err = run(TXT2IMG, *flags, *few(tmp_path))
    assert code == 2 and "the file is a style adapter; expected a ControlNet or T2I" in err


@pytest.mark.parametrize(
    ("syntax", "typed", "english"),
    [
        ("a1111", "(赤い:1.3)猫 <lora:hat:0.5>", "(red:1.3)a cat <lora:hat:0.5>"),
        ("a1111", "[赤い:青い:2]猫 AND りんご", "[red:blue:2]a cat AND an apple"),
        ("compel", "赤い猫++ withLora(hat, 0.5)", "a red cat++ withLora(hat, 0.5)"),
    ],
)
def test_a_japanese_prompt_keeps_its_grammar(syntax, typed, english, run, tmp_path):
    grammar = ("--prompt_syntax", syntax)
    first, said = drawn(run, tmp_path / "a", "--prompt", typed, "--prompt_lang", "ja", *grammar)
    assert f"Drawn in English: {english!r}" in said
    assert np.array_equal(first, drawn(run, tmp_path / "b", "--prompt", english, *grammar)[0])
