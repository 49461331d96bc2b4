"""What users of the programs for small devices can choose: the fork's flags, and what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldm.errors import UserError
from ldm.pipelines.batches import plan, read_prompts
from ldm.settings.command_line import parse
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.low_memory import LowMemoryImg2ImgSettings, LowMemoryTxt2ImgSettings
from ldm.settings.option import options_of
from ldm.settings.samplers import SAMPLERS
from ldm.settings.swap import LowMemorySwapSettings

BOTH = [LowMemoryTxt2ImgSettings, LowMemoryImg2ImgSettings]

# The fork's flags with its defaults. Where ours is None, the model decides: SD v1 has the fork's.
COMMON = {
    "--skip_grid": False,
    "--skip_save": False,
    "--ddim_steps": 50,
    "--fixed_code": False,
    "--ddim_eta": 0.0,
    "--n_iter": 1,
    "--H": None,
    "--W": None,
    "--C": None,
    "--f": None,
    "--n_samples": 5,
    "--n_rows": 0,
    "--scale": 7.5,
    "--device": "auto",
    "--from-file": None,
    "--seed": None,
    "--unet_bs": 1,
    "--turbo": False,
    "--precision": "autocast",
    "--format": "png",
    "--ckpt": None,
}
TEXT = {"--outdir": "outputs/txt2img-samples", "--sampler": "plms"}
IMAGE = {"--outdir": "outputs/img2img-samples", "--sampler": "ddim"}
IMAGE |= {"--init-img": None, "--strength": 0.75}


@pytest.mark.parametrize(("schema", "own"), list(zip(BOTH, (TEXT, IMAGE), strict=True)))
def test_the_forks_flags_have_the_forks_defaults(schema, own):
    settings = schema()
    flags = {each.flag: getattr(settings, each.name) for each in options_of(schema)}
    wanted = COMMON | own
    assert {flag: flags[flag] for flag in wanted} == wanted
    assert "--prompt" in flags
    assert settings.seed_mode == "per-image"


@pytest.mark.parametrize(
    ("schema", "base"), list(zip(BOTH, (Txt2ImgSettings, Img2ImgSettings), strict=True))
)
def test_every_flag_of_the_scripts_is_there_too(schema, base):
    flags = {each.flag for each in options_of(base)}
    assert flags < {each.flag for each in options_of(schema)}


@pytest.mark.parametrize("schema", BOTH)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_can_be_asked_for(schema, sampler):
    given = parse(schema, "", ["--sampler", sampler, "--turbo", "--vram_budget", "1.5"])
    settings = schema(**given)
    settings.validate()
    assert (settings.sampler, settings.turbo, settings.vram_budget) == (sampler, True, 1.5)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--vram_budget", "much"], "--vram_budget much"),
        (["--vram_budget", "-1"], "--vram_budget -1"),
        (["--vram_budget", "inf"], "--vram_budget inf"),
        (["--unet_bs", "0"], "--unet_bs 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--format", "bmp"], "--format bmp"),
        (["--sampler", "dpm"], "--sampler dpm"),
        (["--turbo", "yes"], "'yes'"),
    ],
)
def test_wrong_values_are_named_with_their_flag(arguments, hint):
    with pytest.raises(UserError, match=hint):
        parse(LowMemoryTxt2ImgSettings, "", arguments)


# --- seeds ---


def test_a_seed_left_to_chance_is_chosen_once_in_the_forks_range():
    settings = [LowMemoryTxt2ImgSettings().with_seed() for _ in range(50)]
    seeds = [each.seed for each in settings]
    assert all(0 <= seed <= 10**6 for seed in seeds) and len(set(seeds)) > 1
    assert settings[0].with_seed() is settings[0]
    given = LowMemoryImg2ImgSettings(seed=0)
    assert given.with_seed() is given


# --- prompt files: sorted in the fork, and short batches crashed ---


def test_each_line_of_a_file_is_a_batch_of_its_own_in_the_files_order(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("zebra\nant:0.5 bee:0.5\n\nmole\n", encoding="utf-8")
    settings = LowMemoryTxt2ImgSettings(from_file=str(path), n_samples=3, n_iter=2, seed=10)
    batches = plan(settings, read_prompts(settings))
    lines = ["zebra", "ant:0.5 bee:0.5", "", "mole"]
    assert [batch.prompts for batch in batches] == [(line,) * 3 for line in lines] * 2
    indices = [place.index for batch in batches for place in batch.places]
    assert indices == list(range(24))


def test_a_file_is_checked_before_anything_is_drawn(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\na dog:-1\n", encoding="utf-8")
    with pytest.raises(UserError, match="-1 of 'a dog'"):
        read_prompts(LowMemoryTxt2ImgSettings(from_file=str(path), seed=1))
    plain = LowMemoryTxt2ImgSettings(from_file=str(path), seed=1, plain_prompt=True, n_samples=1)
    assert read_prompts(plain) == ["a cat", "a dog:-1"]
    many = LowMemoryTxt2ImgSettings(from_file=str(path), seed=1, n_samples=10**6, plain_prompt=True)
    with pytest.raises(UserError, match="2000000 in all"):
        read_prompts(many)


# --- weighted prompts ---


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_weights_that_cannot_be_are_found_with_the_other_settings(name):
    with pytest.raises(UserError, match="sum to 0"):
        LowMemoryTxt2ImgSettings(**{name: "a cat:0"}).validate()
    LowMemoryTxt2ImgSettings(**{name: "a cat:0"}, plain_prompt=True).validate()
    Txt2ImgSettings(**{name: "a cat:0"}).validate()


def test_only_the_programs_for_small_devices_read_weights():
    prompt = "a cat:1 a dog:3"
    assert LowMemoryImg2ImgSettings().mixture(prompt) == [("a cat", 0.25), ("a dog", 0.75)]
    assert LowMemoryImg2ImgSettings(plain_prompt=True).mixture(prompt) == [(prompt, 1.0)]
    assert Img2ImgSettings().mixture(prompt) == [(prompt, 1.0)]


def test_what_looks_like_a_weight_and_is_none_is_remarked_on_once():
    settings = LowMemoryTxt2ImgSettings(negative_prompt="fog: 2")
    notices = settings.notices(["at 12:30", "a cat", "at 12:30"])
    assert [text.split(" in the prompt")[0] for text in notices] == ["'12:30'", "'fog: 2'"]
    plain = LowMemoryTxt2ImgSettings(plain_prompt=True)
    assert not plain.notices(["at 12:30"]) and not Txt2ImgSettings().notices(["at 12:30"])


# --- the size of image-to-image ---


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ({}, None),
        ({"H": 512, "W": 768}, (512, 768)),
        ({"W": 512}, (384, 512)),
        ({"H": 512}, (512, 704)),
        ({"W": 64}, (64, 64)),
    ],
)
def test_one_side_brings_the_other_in_proportion(asked, target):
    settings = LowMemoryImg2ImgSettings(**asked)
    assert settings.target_size((1500, 2000), 512, 64) == target
    assert Img2ImgSettings().target_size((1500, 2000), 512, 64) is None


def test_a_picture_far_too_large_is_refused_unless_a_size_is_asked_for():
    settings = LowMemoryImg2ImgSettings()
    assert settings.target_size((2048, 2048), 512, 64) is None
    with pytest.raises(UserError, match="4000x3000 pixels.*about 2048x2048.*--W 512"):
        settings.target_size((3000, 4000), 512, 64)
    assert LowMemoryImg2ImgSettings(W=512).target_size((3000, 4000), 512, 64) == (384, 512)


@pytest.mark.parametrize("asked", [{"H": 65536, "W": 65536}, {"W": 65536}, {"H": 64000}])
def test_a_size_that_would_fill_the_memory_is_refused(asked):
    with pytest.raises(UserError, match="--H .* --W .*give smaller ones"):
        LowMemoryImg2ImgSettings(**asked).target_size((4000, 4000), 512, 64)


def test_the_programs_are_as_thin_as_promised():
    folder = Path(__file__).resolve().parents[3] / "optimizedSD"
    for name in ("optimized_txt2img.py", "optimized_img2img.py"):
        assert len((folder / name).read_text(encoding="utf-8").splitlines()) <= 40


def test_an_edit_on_a_small_device_has_the_devices_flags_and_plain_prompts():
    settings = LowMemorySwapSettings(sprompt="a cat:2 a tree:1", prompt="a dog:2", is_swap=True)
    own = {each.flag for each in options_of(settings)}
    assert {"--vram_budget", "--turbo", "--unet_bs"} <= own
    assert "--plain_prompt" not in own
    assert (settings.seed, settings.seed_mode, settings.low_memory) == (None, "per-image", True)
    assert [settings.mixture(text) for text in settings.drawn_prompts] == [
        [("a cat:2 a tree:1", 1.0)],
        [("a dog:2", 1.0)],
    ]
    assert not settings.notices(settings.drawn_prompts)
    settings.with_seed().validate()
