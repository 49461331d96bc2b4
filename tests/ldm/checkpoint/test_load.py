"""Filling a model: strict by component, on meta, lazily, with or without averages."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from golden_keys import V1, recorded_keys
from omegaconf import OmegaConf
from safetensors.torch import save_file
from tiny_model import CONFIG

from ldm.checkpoint.load import SCHEDULE_VALUES, load_component, load_model, load_weights
from ldm.checkpoint.names import ema_name
from ldm.config import build, load_config
from ldm.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def config():
    return OmegaConf.create(CONFIG)


@pytest.fixture(scope="module")
def reference(config):
    """The model as its constructor makes it, on the CPU, every weight random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build(config)
        for parameter in model.parameters():
            parameter.data.normal_(std=0.05)
    return model.eval()


@pytest.fixture
def state(reference):
    return {name: value.clone() for name, value in reference.state_dict().items()}


def write(folder, state, name="model.ckpt", **extra):
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, **extra}, path)
    return path


def with_averages(state, offset=1.0):
    """Add moving averages that differ from the weights."""
    averages = {
        ema_name(name): value + offset for name, value in state.items() if name.startswith(UNET)
    }
    counters = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(9)}
    return {**state, **averages, **counters}


def assert_equal_states(model, state):
    loaded = model.state_dict()
    assert set(loaded) == set(state)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_a_loaded_model_has_the_files_values_and_computes_the_same(
    name, config, reference, state, tmp_path
):
    model, report = load_model(config, write(tmp_path, state, name))
    assert_equal_states(model, state)
    assert not model.training
    assert report.loaded == report.expected
    assert not (report.missing or report.unexpected or report.mismatched or report.warnings())
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([1, 900])
    with torch.no_grad():
        c = reference.get_learned_conditioning(["a cat", ""])
        assert torch.equal(model.get_learned_conditioning(["a cat", ""]), c)
        assert torch.equal(model.apply_model(x, t, c), reference.apply_model(x, t, c))
        assert torch.equal(model.decode_first_stage(x), reference.decode_first_stage(x))


def test_loading_draws_no_random_number_and_leaves_nothing_on_meta(config, state, tmp_path):
    path = write(tmp_path, state)
    torch.manual_seed(5)
    expected = torch.randn(4)
    torch.manual_seed(5)
    model, _ = load_model(config, path)
    assert torch.equal(torch.randn(4), expected)
    tensors = [*model.parameters(), *model.buffers()]
    assert not any(value.is_meta for value in tensors)


def test_weights_stay_pages_of_the_file_until_used(config, state, tmp_path):
    # One tensor's values change in the file after loading: a copy would not notice.
    path = write(tmp_path, state, "model.safetensors")
    model, _ = load_model(config, path)
    untouched = model.first_stage_model.decoder.conv_in.weight
    values = state["first_stage_model.decoder.conv_in.weight"].numpy().tobytes()
    place = path.read_bytes().index(values)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\0" * untouched.nbytes)
    assert not untouched.any()


def test_the_config_may_be_a_path(config, state, tmp_path):
    OmegaConf.save(config, tmp_path / "config.yaml")
    model, _ = load_model(str(tmp_path / "config.yaml"), write(tmp_path, state))
    assert_equal_states(model, state)


def test_half_files_fill_float32_models_and_keep_the_exact_schedule(
    config, reference, state, tmp_path
):
    half = {name: value.half() for name, value in state.items()}
    model, report = load_model(config, write(tmp_path, half))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    weight = model.state_dict()[f"{UNET}out.2.weight"]
    assert torch.equal(weight, half[f"{UNET}out.2.weight"].float())
    assert torch.equal(model.alphas_cumprod, reference.alphas_cumprod)
    assert any("half precision" in line for line in report.warnings())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtype_converts_weights_and_never_the_schedule(dtype, config, reference, state, tmp_path):
    model, _ = load_model(config, write(tmp_path, state, "model.safetensors"), dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert model.alphas_cumprod.dtype == torch.float32
    assert torch.equal(model.alphas_cumprod, reference.alphas_cumprod)
    for name in (f"{UNET}out.2.weight", "first_stage_model.quant_conv.weight"):
        assert torch.equal(model.state_dict()[name], state[name].to(dtype))


def test_a_file_with_another_schedule_is_followed_and_said(config, state, tmp_path):
    state["betas"] = state["betas"] * 1.1
    model, report = load_model(config, write(tmp_path, state))
    assert torch.equal(model.betas, state["betas"])
    assert any("schedule differs" in line for line in report.warnings())


@pytest.mark.parametrize("name", SCHEDULE_VALUES)
@pytest.mark.parametrize("place", [0, -1])
def test_a_single_value_of_the_schedule_that_differs_is_said(name, place, config, state, tmp_path):
    state[name] = state[name].clone()
    state[name][place] = state[name][place] * 0.99 + 1e-4
    model, report = load_model(config, write(tmp_path, state))
    assert torch.equal(getattr(model, name), state[name])
    (line,) = [line for line in report.warnings() if "schedule differs" in line]
    assert name == "betas" or f"in {name};" in line


def test_a_schedule_computed_in_another_order_is_the_same_schedule(config, state, tmp_path):
    state["alphas_cumprod"] = (1.0 - state["betas"]).cumprod(0)
    _, report = load_model(config, write(tmp_path, state))
    assert not any("schedule" in line for line in report.warnings())


def test_a_file_without_a_schedule_takes_the_configurations(config, reference, state, tmp_path):
    weights = {name: value for name, value in state.items() if "." in name}
    model, report = load_model(config, write(tmp_path, weights))
    assert torch.equal(model.posterior_variance, reference.posterior_variance)
    assert len(report.missing["schedule"]) == 12


@pytest.mark.parametrize(
    ("prefix", "component"),
    [
        (UNET, "UNet"),
        ("first_stage_model.", "VAE"),
        ("cond_stage_model.", "text encoder"),
    ],
)
def test_one_missing_key_of_a_component_is_an_error_that_names_it(
    prefix, component, config, state, tmp_path
):
    gone = [name for name in state if name.startswith(prefix)][5]
    total = sum(name.startswith(prefix) for name in state)
    del state[gone]
    with pytest.raises(UserError) as error:
        load_model(config, write(tmp_path, state))
    words = str(error.value)
    assert f"the {component} is incomplete: 1 of {total} keys are missing ({gone})" in words
    assert "model.ckpt" in words
    assert words.endswith("or the configuration that belongs to this file")
    assert "\n" not in words


def test_a_missing_component_shows_three_keys_and_the_count(config, state, tmp_path):
    weights = {n: v for n, v in state.items() if not n.startswith("cond_stage_model.")}
    weights["cond_stage_model.model.positional_embedding"] = torch.zeros(77, 1024)
    with pytest.raises(UserError) as error:
        load_model(config, write(tmp_path, weights))
    assert str(error.value).count("cond_stage_model.transformer.text_model.") == 3
    assert "looks like Stable Diffusion 2" in str(error.value)


def test_another_shape_is_an_error_that_prints_both(config, state, tmp_path):
    name = f"{UNET}input_blocks.0.0.weight"
    state[name] = torch.zeros(32, 9, 3, 3)
    with pytest.raises(UserError) as error:
        load_model(config, write(tmp_path, state))
    assert f"{name} is [32, 9, 3, 3], expected [32, 4, 3, 3]" in str(error.value)
    assert "an inpainting model" in str(error.value)


def test_known_ballast_is_left_aside_and_other_keys_are_reported(config, state, tmp_path):
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)
    state["first_stage_model.loss.logvar"] = torch.zeros(())
    state["model.diffusion_model.extra.weight"] = torch.zeros(1)
    state["something"] = torch.zeros(1)
    _, report = load_model(config, write(tmp_path, state))
    assert len(report.ballast) == 2
    assert report.unexpected == {
        "UNet": ["model.diffusion_model.extra.weight"],
        "other": ["something"],
    }
    assert "unexpected UNet keys" in report.summary()


def test_averages_that_are_not_used_are_mentioned_in_one_line(config, state, tmp_path):
    model, report = load_model(config, write(tmp_path, with_averages(state)))
    assert_equal_states(model, state)
    assert report.ema_present
    assert not report.ema_used
    (line,) = report.warnings()
    assert "--use_ema" in line
    assert "\n" not in line


def test_use_ema_takes_the_averages_for_the_unet_only(config, state, tmp_path):
    path = write(tmp_path, with_averages(state))
    model, report = load_model(config, path, use_ema=True)
    expected = {n: v + 1.0 if n.startswith(UNET) else v for n, v in state.items()}
    assert_equal_states(model, expected)
    assert report.ema_used
    assert report.warnings() == []
    assert report.loaded == report.expected


def test_use_ema_works_on_files_that_hold_only_averages(config, state, tmp_path):
    full = with_averages(state)
    only = {name: value for name, value in full.items() if not name.startswith(UNET)}
    model, _ = load_model(config, write(tmp_path, only), use_ema=True)
    assert torch.equal(model.state_dict()[f"{UNET}out.2.bias"], state[f"{UNET}out.2.bias"] + 1.0)


def test_use_ema_without_averages_is_an_error(config, state, tmp_path):
    with pytest.raises(UserError, match="--use_ema given.*model_ema"):
        load_model(config, write(tmp_path, state), use_ema=True)


def test_use_ema_with_a_gap_in_the_averages_is_an_error(config, state, tmp_path):
    full = with_averages(state)
    del full[ema_name(f"{UNET}out.2.bias")]
    with pytest.raises(UserError, match="1 of .* UNet weights have no averaged"):
        load_model(config, write(tmp_path, full), use_ema=True)


def config_with_ema():
    config = copy.deepcopy(CONFIG)
    config["model"]["params"]["use_ema"] = True
    return OmegaConf.create(config)


@pytest.mark.parametrize("use_ema", [False, True])
def test_a_model_that_keeps_averages_takes_them_over(use_ema, state, tmp_path):
    full = with_averages(state)
    model, report = load_model(config_with_ema(), write(tmp_path, full), use_ema=use_ema)
    loaded = model.state_dict()
    name = f"{UNET}out.2.weight"
    assert torch.equal(loaded[ema_name(name)], state[name] + 1.0)
    assert torch.equal(loaded[name], state[name] + (1.0 if use_ema else 0.0))
    assert loaded[ema_name(name)].data_ptr() != loaded[name].data_ptr()
    assert model.model_ema.num_updates == 9
    assert report.warnings() == []


def test_averages_start_at_the_weights_where_a_file_has_none(state, tmp_path):
    model, report = load_model(config_with_ema(), write(tmp_path, state))
    loaded, name = model.state_dict(), f"{UNET}out.2.weight"
    assert torch.equal(loaded[ema_name(name)], state[name])
    assert loaded[ema_name(name)].data_ptr() != loaded[name].data_ptr()
    assert report.missing["EMA"]


def test_text_encoder_names_without_text_model_are_understood(config, state, tmp_path):
    inner = "cond_stage_model.transformer.text_model."
    flat = {n.replace(inner, "cond_stage_model.transformer."): v for n, v in state.items()}
    assert set(flat) != set(state)
    model, report = load_model(config, write(tmp_path, flat))
    assert_equal_states(model, state)
    assert report.warnings() == []


def test_todays_spelling_wins_over_an_older_one_beside_it(config, state, tmp_path):
    old = "cond_stage_model.transformer.final_layer_norm.bias"
    state_of_both = {**state, old: torch.full((32,), 9.0)}
    model, report = load_model(config, write(tmp_path, state_of_both))
    assert_equal_states(model, state)
    assert report.unexpected == {"text encoder": [old]}


def test_a_lightning_file_loads_without_a_warning(config, state, model_checkpoint, tmp_path):
    path = write(tmp_path, state, callbacks={model_checkpoint: {}}, global_step=1)
    model, report = load_model(config, path)
    assert_equal_states(model, state)
    assert report.warnings() == []
    assert "ModelCheckpoint" in report.summary()


def test_training_leftovers_of_a_config_are_passed_over(state, tmp_path):
    config = copy.deepcopy(CONFIG)
    params = config["model"]["params"]
    params["ckpt_path"] = "/does/not/exist.ckpt"
    params["first_stage_config"]["params"]["ckpt_path"] = "/neither.ckpt"
    params["first_stage_config"]["params"]["lossconfig"] = {"target": "no.such.Loss"}
    model, _ = load_model(OmegaConf.create(config), write(tmp_path, state))
    assert_equal_states(model, state)
    assert params["ckpt_path"] == "/does/not/exist.ckpt"


def test_scale_factor_of_a_model_scaled_by_its_data_is_loaded(state, tmp_path):
    config = copy.deepcopy(CONFIG)
    config["model"]["params"]["scale_by_std"] = True
    state["scale_factor"] = torch.tensor(0.31)
    model, _ = load_model(OmegaConf.create(config), write(tmp_path, state))
    assert model.scale_factor == torch.tensor(0.31)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_device_in_the_config_of_the_text_encoder_does_not_hinder_loading(
    device, state, tmp_path
):
    config = OmegaConf.create(copy.deepcopy(CONFIG))
    config.model.params.cond_stage_config.params.device = device
    model, _ = load_model(config, write(tmp_path, state))
    assert model.get_learned_conditioning(["a"]).device.type == "cpu"


def test_a_config_without_a_model_is_an_error(state, tmp_path):
    with pytest.raises(UserError, match="no 'model'"):
        load_model(OmegaConf.create({"data": {}}), write(tmp_path, state))


def test_a_live_model_is_filled_in_place(config, state):
    model = build(config)
    before = {name: value.data_ptr() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    load_weights(model, state)
    assert_equal_states(model, state)
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == before
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))


def test_the_given_tensors_are_never_modified(config, state):
    kept = {name: value.clone() for name, value in state.items()}
    load_weights(build(config), state)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_ignored_keys_keep_the_models_values(config, state):
    model = build(config)
    own = model.state_dict()[f"{UNET}out.2.bias"].clone()
    report = load_weights(model, state, ignore=[f"{UNET}out."])
    assert torch.equal(model.state_dict()[f"{UNET}out.2.bias"], own)
    assert torch.equal(model.betas, state["betas"])
    assert not report.missing


def test_an_autoencoder_loads_from_its_own_file_and_from_a_whole_models(
    config, reference, state, tmp_path
):
    first_stage = config.model.params.first_stage_config
    bare = {
        n.removeprefix("first_stage_model."): v
        for n, v in state.items()
        if n.startswith("first_stage_model.")
    }
    for tensors in (bare, state, {**bare, "loss.logvar": torch.zeros(())}):
        model = build(OmegaConf.create({"model": first_stage}))
        load_component(model, write(tmp_path, tensors), prefix="first_stage_model.")
        assert_equal_states(model, bare)
    del bare["encoder.conv_in.weight"]
    model = build(OmegaConf.create({"model": first_stage}))
    with pytest.raises(UserError, match="VAE is incomplete"):
        load_component(model, write(tmp_path, bare), prefix="first_stage_model.")


def test_the_v1_configuration_has_exactly_the_official_keys_and_shapes():
    config = load_config(ROOT / "configs/stable-diffusion/v1-inference.yaml")
    official = recorded_keys()[V1]
    with torch.device("meta"):
        model = build(config)
    assert {n: list(v.shape) for n, v in model.state_dict().items()} == official
