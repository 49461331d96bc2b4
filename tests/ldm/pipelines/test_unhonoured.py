"""What recorded pictures of other programs ask for that is not done here."""

from __future__ import annotations

import numpy as np
import pytest

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.images.recipes import Recipe
from ldm.pipelines.infotext import read_picture
from ldm.pipelines.made_by import fit_size
from ldm.pipelines.unhonoured import syntax_of
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.low_memory import LowMemoryImg2ImgSettings
from ldm.settings.swap import SwapSettings

START = "a cat\nNegative prompt: fog\nSteps: 20, Sampler: {}, CFG scale: 7, Seed: {}, Size: 512x768"


@pytest.fixture
def read(tmp_path):
    """Read a picture with a text; return the settings and what was told."""

    def reader(more="", schema=Txt2ImgSettings, given=(), sampler="Euler a", seed="1"):
        text = START.format(sampler, seed) + more
        name = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        path = save_picture(np.zeros((8, 8, 3), np.uint8), name, metadata=text)
        recorded = read_picture(str(path), schema, given)
        told = " | ".join(note for note in recorded.notices if "made by another" not in note)
        return recorded.values, told

    return reader


@pytest.mark.parametrize(
    "entry",
    [
        "ENSD: 31337",
        "Eta noise seed delta: 31337",
        "Seed resize from: 512x512",
        "Face restoration: CodeFormer",
        "Tiling: True",
        "Noise Schedule: Karras",
        "RNG: CPU",
        "RNG: NV",
        "Token merging ratio hr: 0.5",
        "Refiner: sdxl, Refiner switch at: 0.8",
        "Conditional mask weight: 0.5",
        'ControlNet 0: "Module: canny, Model: x [1234], Weight: 1"',
        "ControlNet-0 Enabled: True",
        'Lora hashes: "style: 0123456789ab"',
        "VAE: vae-ft-mse.pt",
        "Denoising strength: 0.7, First pass size: 0x0",
        "Denoising strength: 0.7, First pass size: 512x512",
        "Hires sampler: Euler a, Hires checkpoint: x, Hires prompt: more, Hires CFG Scale: 3",
        "Denoising strength: 0.4, Hires resize: 1024x1536, Hires upscaler: Lanczos",
        "Hypernet: anime, Hypernet strength: 0.8",
        "Eta: 0.67",
    ],
)
def test_what_changes_the_picture_and_is_not_done_is_listed_by_name(read, entry):
    values, told = read(f", {entry}, Model hash: 0123456789, Model: x, Version: v1.6.0")
    assert (values["seed"], values["H"], values["W"]) == (1, 768, 512)
    assert "change the picture and are not done here" in told and "not known" not in told
    for key in (part.split(":")[0] for part in entry.split('"')[0].split(", ")):
        assert key in told


@pytest.mark.parametrize(
    "entry",
    [
        "Version: v1.10.1",
        "Model hash: 0123456789, Model: v1-5-pruned",
        'Hashes: {"model": "0123456789"}',
        "Clip skip: 1",
        "ENSD: 0",
        "Variation seed: 5, Variation seed strength: 0",
        "Seed resize from: -1x-1",
        "Tiling: False",
        "Conditional mask weight: 1.0",
        "Batch size: 4, Batch pos: 2",
        "Schedule type: Automatic",
        "User: me, Created Date: 2024-01-01",
    ],
)
def test_what_does_not_change_the_picture_is_not_mentioned(read, entry):
    assert read(f", {entry}")[1] == ""


def test_an_entry_that_nobody_here_knows_is_named_as_such(read):
    _, told = read(", Frobnicate: 7, ENSD: 2")
    assert "not known here and not used: Frobnicate 7" in told
    assert "not done here: ENSD 2" in told
    assert read(", Frobnicate: " + "x" * 999)[1].count("x") < 50


@pytest.mark.parametrize(
    "lines",
    [
        "Template: a {cat:1|dog:2|bird:3}",
        "Template: red: 1, green: 2, blue: 3",
        "Template: a cat: with Seed: 9, Steps: 3, Size: 9x9\nNegative Template: fog: 1, ice: 2",
        "Template: two lines of\nsky:1, sea:2, sand:3\nNegative Template: x",
        "Wildcard prompt: one: 1, two: 2, three: 3",
        "\nand a last line with words:1 more:2 of:3 them",
    ],
)
def test_lines_after_the_settings_are_text_and_change_nothing(read, lines):
    values, told = read(f", Model: x\n{lines}")
    assert (values["prompt"], values["negative_prompt"]) == ("a cat", "fog")
    assert (values["seed"], values["ddim_steps"], values["W"]) == (1, 20, 512)
    assert told == ""


def test_an_extensions_own_line_after_the_settings_is_one_entry(read):
    values, told = read(", Model: x\nLora hashes: style: 1, Seed: 9, Steps: 3")
    assert "not done here: Lora hashes style: 1, Seed: 9, Steps: 3" in told
    assert (values["seed"], values["ddim_steps"]) == (1, 20)


@pytest.mark.parametrize("seed", [2**32, 156680208700286, 2**63, 2**64 - 1])
def test_seeds_of_64_bits_are_honoured(read, seed):
    values, told = read(seed=str(seed))
    assert (values["seed"], told) == (seed, "")
    Txt2ImgSettings(seed=values["seed"]).validate()


@pytest.mark.parametrize("seed", [str(2**64), "-1", "1.5", "random", "9" * 500])
def test_a_seed_that_cannot_be_honoured_is_refused_unless_one_is_given(read, seed):
    with pytest.raises(UserError, match="records the seed .*--seed"):
        read(seed=seed)
    assert "seed" not in read(seed=seed, given={"seed"})[0]


@pytest.mark.parametrize(
    ("entry", "name", "value"),
    [
        ("Mask blur: 4", "mask_blur", 4),
        ("Masked content: latent noise", "fill", "noise"),
        ("Masked content: fill", "fill", "fill"),
        ("Inpaint area: Only masked, Masked area padding: 32", "only_masked", 32),
        ("Inpaint area: Only masked", "only_masked", None),
    ],
)
def test_the_web_uis_inpaintings_are_known_in_old_and_new_files(read, entry, name, value):
    more = f", Denoising strength: 0.7, {entry}"
    with pytest.raises(UserError, match=r"scripts/inpaint\.py"):
        read(more)
    values, told = read(more, InpaintSettings, {"init_img", "mask"})
    assert values.get(name) == value
    assert (entry.replace(":", "") in told) == (value is None)


def test_variations_of_other_programs_are_variations_here(read):
    values, told = read(", Variation seed: 5, Variation seed strength: 0.3")
    assert (values["subseed"], values["subseed_strength"]) == (5, 0.3)
    assert "Variation" not in told


@pytest.mark.parametrize(
    ("sampler", "spacing"),
    [
        ("Euler", None),
        ("DPM2", "karras"),
        ("DPM2 a", "karras"),
        ("DPM++ 2M", "karras"),
        ("DPM++ 2M SDE", "exponential"),
        ("DPM++ 3M SDE", "exponential"),
        ("Restart", "karras"),
    ],
)
def test_the_automatic_schedule_is_the_samplers_own(read, sampler, spacing):
    values, told = read(", Schedule type: Automatic", sampler=sampler)
    assert (values.get("spacing"), told) == (spacing, "")


def test_eta_is_used_by_ddim_alone(read):
    assert read(", Eta: 0.5", sampler="DDIM")[0]["ddim_eta"] == 0.5
    for sampler in ("PLMS", "Euler a"):
        values, told = read(", Eta: 0.5", sampler=sampler)
        assert "ddim_eta" not in values and "Eta 0.5" in told


def test_diffusers_names_of_samplers_are_understood(read):
    assert read(sampler="EulerDiscreteScheduler")[0]["sampler"] == "euler"


def test_the_size_of_an_image_to_image_picture_is_its_init_images(read):
    more = ", Denoising strength: 0.6"
    values, told = read(more, Img2ImgSettings, {"init_img"})
    assert "H" not in values and "Size 512x768" in told
    values, told = read(more, LowMemoryImg2ImgSettings, {"init_img"})
    assert (values["H"], values["W"], told) == (768, 512, "")


def test_clip_skip_and_emphasis_are_honoured_under_the_names_that_others_write(read):
    values, told = read(", Clip skip: 2, Emphasis: No norm")
    assert (values["clip_skip"], values["emphasis"], told) == (2, "no-norm", "")
    assert "clip_skip" not in read(", Clip skip: 0")[0]
    values, told = read(", Clip skip: 2", SwapSettings)
    assert "clip_skip" not in values and "Clip skip 2" in told  # edits read plain prompts


GRAMMAR = ["(cat:1.3)", "<lora:style:0.8>", "<hypernet:x:1>", "BREAK", "[a|b]", "(cat)"]


@pytest.mark.parametrize("part", GRAMMAR)
def test_the_web_uis_pictures_are_redrawn_in_its_own_syntax(tmp_path, part):
    text = f"a {part} here\nSteps: 20, Sampler: DDIM, CFG scale: 7, Seed: 1, Size: 64x64"
    path = save_picture(np.zeros((8, 8, 3), np.uint8), tmp_path / "x.png", metadata=text)
    recorded = read_picture(str(path), Txt2ImgSettings)
    assert recorded.values["prompt_syntax"] == "a1111"
    assert "plain text" not in " ".join(recorded.notices)
    recorded = read_picture(str(path), Txt2ImgSettings, {"prompt"})  # another prompt
    assert recorded.values["prompt_syntax"] == "compvis"


def test_invokeais_prompts_are_redrawn_in_compels_syntax():
    recipe = Recipe("a red++ cat", "", {}, "InvokeAI")
    assert syntax_of(recipe, ()) == "compel" and syntax_of(recipe, {"prompt"}) == "compvis"
    assert syntax_of(Recipe("a (red) cat", "", {}, "ComfyUI"), ()) == "compvis"


@pytest.mark.parametrize("part", GRAMMAR[:4])
def test_edits_take_the_web_uis_syntax_for_text_and_say_so(tmp_path, part):
    text = f"a {part} here\nSteps: 20, Sampler: DDIM, CFG scale: 7, Seed: 1, Size: 64x64"
    path = save_picture(np.zeros((8, 8, 3), np.uint8), tmp_path / "x.png", metadata=text)
    recorded = read_picture(str(path), SwapSettings)
    assert "prompt_syntax" not in recorded.values
    said = " ".join(recorded.notices)
    assert f"plain text here, not weights or models: {part!r}" in said


@pytest.mark.parametrize(
    ("size", "given", "fitted"),
    [
        ((512, 768), {}, (512, 768)),
        ((500, 375), {}, (512, 384)),
        ((10, 375), {}, (64, 384)),
        ((500, 375), {"W": 500}, (500, 384)),
    ],
)
def test_a_recorded_size_is_rounded_to_what_the_model_draws_and_that_is_told(size, given, fitted):
    values, notices = fit_size({"W": size[0], "H": size[1], "seed": 1}, given, 64)
    assert values == {"W": fitted[0], "H": fitted[1], "seed": 1}
    assert bool(notices) is (size != fitted)
    assert not any("--" in text for text in notices)
