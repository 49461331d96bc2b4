from __future__ import annotations

import copy
import hashlib

import pytest
import torch
from omegaconf import OmegaConf
from tiny_inpainting import SIGHTED, TEXTLESS
from tiny_model import CONFIG, MULTIPLE, SIZE

from ldm.checkpoint.default_config import V1_CONFIG, V1_INPAINTING_CONFIG
from ldm.errors import UserError
from ldm.pipelines import models
from ldm.pipelines.models import Fingerprint, choose_model, resolve
from ldm.programs.inpainting import InpaintProgramSettings
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.model_kind import FILL, INPAINT, TEXT


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty repository, and an empty working directory beside it."""
    monkeypatch.setattr(models, "ROOT", tmp_path / "repository")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "repository"


def put(path, config=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if config is None:
        path.write_bytes(b"weights")
    else:
        OmegaConf.save(OmegaConf.create(config), path)
    return path


def with_size(image_size):
    config = copy.deepcopy(CONFIG)
    config["model"]["params"]["image_size"] = image_size
    return config


def test_sd_v1_is_used_when_it_is_there_and_without_a_word(root):
    put(root / V1_CONFIG, with_size(64))
    put(root / models.DEMO_CHECKPOINT)
    put(root / models.DEMO_CONFIG, {**CONFIG, "scale": 3})
    safetensors = put(root / models.V1_CHECKPOINTS[1])
    assert choose_model(Txt2ImgSettings()).ckpt_path == safetensors
    ckpt = put(root / models.V1_CHECKPOINTS[0])
    choice = choose_model(Txt2ImgSettings())
    assert (choice.ckpt_path, choice.size, choice.notice) == (ckpt, 128, None)
    assert choice.name == "stable-diffusion-v1"


def test_the_demo_model_steps_in_and_says_how_to_get_sd_v1(root):
    put(root / models.DEMO_CHECKPOINT)
    put(root / models.DEMO_CONFIG, {**CONFIG, "scale": 3})
    choice = choose_model(Txt2ImgSettings())
    assert choice.name == "demo"
    assert "python scripts/download_models.py sd-v1-4" in choice.notice
    assert choice.sampling == {"scale": 3.0}, "at SD's 7.5 its colours burn"
    assert "\n" not in choice.notice
    resolved = resolve(Txt2ImgSettings(), choice)
    assert (resolved.H, resolved.W, resolved.C, resolved.f) == (SIZE, SIZE, 4, 2)


def test_without_any_model_the_way_to_one_is_told(root):
    with pytest.raises(UserError, match=r"download_models\.py sd-v1-4"):
        choose_model(Txt2ImgSettings())
    put(root / "own.yaml", CONFIG)
    with pytest.raises(UserError, match=r"--config own\.yaml .* --ckpt"):
        choose_model(Txt2ImgSettings(config="own.yaml"))


def test_the_configuration_beside_the_checkpoint_is_taken(root, tmp_path):
    put(root / V1_CONFIG, with_size(64))
    ckpt = put(tmp_path / "zoo" / "cat.ckpt")
    assert choose_model(Txt2ImgSettings(ckpt=str(ckpt))).size == 128
    put(tmp_path / "zoo" / "config.yaml", with_size(32))
    assert choose_model(Txt2ImgSettings(ckpt=str(ckpt))).size == 64
    put(tmp_path / "zoo" / "cat.yaml", with_size(24))
    choice = choose_model(Txt2ImgSettings(ckpt=str(ckpt)))
    assert (choice.size, choice.name) == (48, "cat")
    other = put(tmp_path / "other.yaml", with_size(20))
    assert choose_model(Txt2ImgSettings(ckpt=str(ckpt), config=str(other))).size == 40


def test_paths_are_looked_up_here_first_then_in_the_repository(root, tmp_path):
    put(root / "own.yaml", with_size(8))
    in_root = put(root / "own.ckpt")
    assert choose_model(Txt2ImgSettings(ckpt="own.ckpt")).ckpt_path == in_root
    put(tmp_path / "elsewhere" / "own.ckpt")
    put(tmp_path / "elsewhere" / "own.yaml", with_size(16))
    assert choose_model(Txt2ImgSettings(ckpt="own.ckpt")).size == 32


def test_laion400m_names_its_files(root):
    with pytest.raises(UserError, match=r"--laion400m.*text2img-large/model\.ckpt"):
        choose_model(Txt2ImgSettings(laion400m=True))
    put(root / models.LAION_CHECKPOINT)
    with pytest.raises(UserError, match=r"txt2img-1p4B-eval\.yaml"):
        choose_model(Txt2ImgSettings(laion400m=True))
    put(root / models.LAION_CONFIG, with_size(32))
    assert choose_model(Txt2ImgSettings(laion400m=True)).size == 64


def test_a_model_without_text_is_refused(root, tmp_path):
    config = copy.deepcopy(CONFIG)
    config["model"]["params"]["cond_stage_config"] = "__is_unconditional__"
    put(tmp_path / "faces.yaml", config)
    ckpt = put(tmp_path / "faces.ckpt")
    with pytest.raises(UserError, match="without a text encoder"):
        choose_model(Txt2ImgSettings(ckpt=str(ckpt)))
    put(tmp_path / "faces.yaml", {"model": {"target": "torch.nn.Identity"}})
    with pytest.raises(UserError, match=r"no model\.params\."):
        choose_model(Txt2ImgSettings(ckpt=str(ckpt)))


@pytest.mark.parametrize("name", ["cin256", "layout2img-openimages256"])
def test_a_model_of_classes_or_boxes_is_refused_where_text_is_drawn(tmp_path, name):
    ckpt, config = put(tmp_path / "own.ckpt"), models.ROOT / f"models/ldm/{name}/config.yaml"
    with pytest.raises(UserError, match="not text.*scripts/sample_diffusion"):
        choose_model(Txt2ImgSettings(ckpt=str(ckpt), config=str(config)))
    with pytest.raises(UserError, match="not text"):
        choose_model(inpaint_settings(prompt="a cat", ckpt=str(ckpt), config=str(config)))


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("image_size", "big", "image_size is 'big'; expected a whole number"),
        ("timesteps", 0, "timesteps is 0; expected a whole number"),
        ("channels", 4.5, "channels is 4.5; expected a whole number"),
        ("image_size", "${nothing}", "image_size cannot be resolved"),
        ("first_stage_config.params.ddconfig.ch_mult", 4, "ch_mult is 4; expected a list"),
        ("unet_config.params.channel_mult", [], r"channel_mult is \[\]; expected a list"),
    ],
)
def test_a_configuration_with_nonsense_in_it_is_refused_naming_the_entry(
    tmp_path, key, value, hint
):
    config = OmegaConf.create(CONFIG)
    OmegaConf.update(config, f"model.params.{key}", value)
    OmegaConf.save(config, tmp_path / "own.yaml")
    ckpt = put(tmp_path / "own.ckpt")
    with pytest.raises(UserError, match=rf"own\.yaml.*{hint}"):
        choose_model(Txt2ImgSettings(ckpt=str(ckpt)))


@pytest.fixture
def choice(tiny_ckpt):
    return choose_model(Txt2ImgSettings(ckpt=str(tiny_ckpt)))


@pytest.mark.parametrize(("asked", "nearest"), [(33, (32, 36)), (35, (32, 36)), (1, (4, 8))])
def test_a_size_between_two_that_fit_is_refused_naming_both(choice, asked, nearest):
    assert choice.multiple == MULTIPLE
    with pytest.raises(UserError) as caught:
        resolve(Txt2ImgSettings(W=asked), choice)
    message = str(caught.value)
    assert f"--W {asked}" in message and f"{nearest[0]} and {nearest[1]}" in message


def test_sd_v1s_sizes_are_multiples_of_64(tmp_path):
    ckpt = put(tmp_path / "model.ckpt")
    settings = Txt2ImgSettings(ckpt=str(ckpt), config=V1_CONFIG)
    choice = choose_model(settings)
    resolved = resolve(settings, choice)
    assert (resolved.H, resolved.W, resolved.C, resolved.f) == (512, 512, 4, 8)
    with pytest.raises(UserError, match="--H 520 .* multiple of 64; the nearest are 512 and 576"):
        resolve(Txt2ImgSettings(H=520), choice)


def test_channels_and_factor_must_be_the_models(choice):
    assert resolve(Txt2ImgSettings(C=4, f=2), choice).f == 2
    with pytest.raises(UserError, match=r"--f 8 .* has 2"):
        resolve(Txt2ImgSettings(f=8), choice)
    with pytest.raises(UserError, match=r"--C 3 .* has 4"):
        resolve(Img2ImgSettings(C=3), choice)


def test_more_steps_than_the_model_has_are_refused(choice):
    assert resolve(Txt2ImgSettings(ddim_steps=1000), choice).ddim_steps == 1000
    with pytest.raises(UserError, match=r"--ddim_steps 1001 .* 1000"):
        resolve(Txt2ImgSettings(ddim_steps=1001), choice)


def test_the_models_hash_is_that_of_its_file(choice):
    expected = hashlib.sha256(choice.ckpt_path.read_bytes()).hexdigest()
    assert choice.fingerprint.short == expected[:10]


def test_a_model_that_goes_before_its_hash_is_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"gone\.ckpt cannot be read any more \(.+\); expected .+;"):
        _ = Fingerprint(tmp_path / "gone.ckpt").short


# --- models that are made for inpainting ---


def inpaint_settings(**changes):
    return InpaintProgramSettings(init_img="a.png", mask="b.png", **changes)


@pytest.mark.parametrize(
    ("path", "kind", "inputs"),
    [
        ("configs/stable-diffusion/v1-inference.yaml", TEXT, 4),
        ("configs/stable-diffusion/v1-inpainting-inference.yaml", INPAINT, 9),
        ("configs/stable-diffusion/v2-inpainting-inference.yaml", INPAINT, 9),
        ("models/ldm/inpainting_big/config.yaml", FILL, 7),
    ],
)
def test_a_configuration_tells_what_its_unet_takes(tmp_path, path, kind, inputs):
    ckpt = put(tmp_path / "own.ckpt")
    config = str(models.ROOT / path)
    choice = choose_model(inpaint_settings(prompt="", ckpt=str(ckpt), config=config))
    assert (choice.kind, choice.inputs) == (kind, inputs)
    assert f"({inputs} input channels)" in choice.kind.sentence(choice.inputs)


@pytest.mark.parametrize("config", [SIGHTED, TEXTLESS], ids=["with text", "without"])
def test_a_model_for_inpainting_is_refused_where_something_else_is_drawn(tmp_path, config):
    put(tmp_path / "zoo" / "config.yaml", config)
    ckpt = put(tmp_path / "zoo" / "own.ckpt")
    for settings in (Txt2ImgSettings(ckpt=str(ckpt)), Img2ImgSettings(ckpt=str(ckpt))):
        with pytest.raises(UserError, match=r"scripts/inpaint\.py") as caught:
            choose_model(settings)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"in_channels": 8}, {"in_channels": 9}])
def test_channels_that_no_program_here_fills_are_named(tmp_path, changes):
    config = copy.deepcopy(CONFIG)
    config["model"]["params"]["unet_config"]["params"] |= changes
    put(tmp_path / "own.yaml", config)
    ckpt = put(tmp_path / "own.ckpt")
    given = f"{changes['in_channels']} input channels for latents with 4; expected 4, or 9"
    with pytest.raises(UserError, match=given):
        choose_model(inpaint_settings(prompt="a cat", ckpt=str(ckpt)))


def test_without_a_prompt_the_reference_s_model_is_taken_or_asked_for(root):
    put(root / models.DEMO_CHECKPOINT)
    put(root / models.DEMO_CONFIG, {**CONFIG, "scale": 3})
    with pytest.raises(UserError, match=r"no --prompt .*inpainting_big/last\.ckpt") as caught:
        choose_model(inpaint_settings())
    assert "\n" not in str(caught.value)
    put(root / models.FILL_CONFIG, TEXTLESS)
    ckpt = put(root / models.FILL_CHECKPOINT)
    choice = choose_model(inpaint_settings())
    assert (choice.ckpt_path, choice.kind, choice.name) == (ckpt, FILL, "inpainting_big")
    assert choose_model(inpaint_settings(prompt="")).name == "demo"


def test_to_inpaint_from_text_the_checkpoint_made_for_it_comes_first(root):
    put(root / V1_CONFIG, with_size(64))
    ordinary = put(root / models.V1_CHECKPOINTS[0])
    assert choose_model(inpaint_settings(prompt="a cat")).ckpt_path == ordinary
    made_for_it = root / models.V1_INPAINTING_CHECKPOINT
    made_for_it.parent.mkdir(parents=True, exist_ok=True)
    weights = {"input_blocks.0.0.weight": (9, 9)}
    weights["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"] = (9, 768)
    state = {f"model.diffusion_model.{k}": torch.zeros(v) for k, v in weights.items()}
    torch.save({"state_dict": state}, made_for_it)
    put(root / V1_INPAINTING_CONFIG, SIGHTED)
    choice = choose_model(inpaint_settings(prompt="a cat"))
    assert (choice.ckpt_path, choice.kind) == (made_for_it, INPAINT)
    assert choose_model(Txt2ImgSettings()).ckpt_path == ordinary
