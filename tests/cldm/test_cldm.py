"""ControlNet's own scripts find what they ask for: the hub, its networks, samplers and loggers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from control_parts import UNET as LEVELS
from descendants.exercise import (
    assert_pictures,
    batch_of,
    build_hub,
    changed,
    drawn,
    fit,
    hub_config,
    items,
    weights_of,
)
from omegaconf import OmegaConf
from safetensors.torch import save_file
from tiny_model import CONFIG

from cldm.cldm import ControlLDM, ControlledUnetModel, ControlNet
from cldm.ddim_hacked import DDIMSampler
from cldm.logger import ImageLogger
from cldm.model import create_model, load_state_dict
from ldm.errors import UserError
from ldm.models.diffusion.plms import PLMSSampler

UNET = {**CONFIG["model"]["params"]["unet_config"]["params"], **LEVELS}
NET = {**{k: v for k, v in UNET.items() if k != "out_channels"}, "hint_channels": 3}
HINT = {"hint": (64, 64, 3)}
LATENT = (4, 8, 8)


def config(**changes):
    return hub_config(
        "cldm.cldm.ControlLDM",
        unet_config={"target": "cldm.cldm.ControlledUnetModel", "params": UNET},
        control_stage_config={"target": "cldm.cldm.ControlNet", "params": NET},
        control_key="hint",
        only_mid_control=False,
        **changes,
    )


def with_control(model):
    """Let the zero convolutions be zero no more, so that the hint is seen."""
    torch.manual_seed(1)
    for parameter in model.control_model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def make_batch(count=2):
    """Return captioned pictures with hints (B, 64, 64, 3) in [0, 1]."""
    batch = batch_of(items(count, **HINT))
    return {**batch, "hint": batch["hint"] / 2 + 0.5}


@pytest.fixture(scope="module")
def model():
    return with_control(build_hub(config())).eval()


@pytest.fixture(scope="module")
def cond(model):
    return model.get_input(make_batch(), "jpg")[1]


def bare(model, hints):
    return {"c_concat": hints, "c_crossattn": [model.get_learned_conditioning([""] * 2)]}


def apply(model, cond, rows=2):
    x = torch.randn(rows, *LATENT, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model.apply_model(x, torch.tensor([3, 900])[:rows], cond)


def test_the_names_are_views_of_our_own_networks(model):
    assert isinstance(model.control_model, ControlNet)
    assert isinstance(model.model.diffusion_model, ControlledUnetModel)
    names = set(model.state_dict())
    assert {f"control_model.zero_convs.{i}.0.weight" for i in range(9)} <= names
    assert {
        "control_model.input_hint_block.14.weight",
        "control_model.middle_block_out.0.bias",
    } < names
    assert not any(name.startswith("control_model.out") for name in names)


def test_a_batch_gives_texts_and_hints(cond):
    assert set(cond) == {"c_crossattn", "c_concat"}
    hint = cond["c_concat"][0]
    assert hint.shape == (2, 3, 64, 64) and 0 <= hint.min() < hint.max() <= 1


def test_the_hint_steers_and_only_the_middle_where_that_is_asked(model, cond, monkeypatch):
    other = {**cond, "c_concat": [1 - cond["c_concat"][0]]}
    assert not torch.equal(apply(model, cond), apply(model, other))
    whole = apply(model, cond)
    monkeypatch.setattr(model, "only_mid_control", True)
    middle = apply(model, cond)
    monkeypatch.setattr(model, "only_mid_control", False)
    monkeypatch.setattr(model, "control_scales", [0.0] * 9 + [1.0])
    assert not torch.equal(middle, whole)
    torch.testing.assert_close(apply(model, cond), middle, rtol=0, atol=1e-6)


def test_it_predicts_what_the_same_control_does_from_outside(model, cond, tmp_path):
    from ldm.adapters.control import read_control

    save_file(model.state_dict(), tmp_path / "whole.safetensors")
    control = read_control(tmp_path / "whole.safetensors", model)
    text = {"c_concat": None, "c_crossattn": cond["c_crossattn"]}
    with control.attach(model, cond["c_concat"][0]):
        torch.testing.assert_close(apply(model, text), apply_inside(model, cond), rtol=0, atol=1e-6)


def apply_inside(model, cond):
    """Predict with the hub's own control, and none from outside."""
    networks = model.model.diffusion_model.side_networks
    kept, networks[:] = list(networks), []
    try:
        return apply(model, cond)
    finally:
        networks[:] = kept


def test_pooled_outputs_have_one_value_for_all_positions(model, cond, monkeypatch):
    plain = apply(model, cond)
    monkeypatch.setattr(model, "global_average_pooling", True)
    assert not torch.equal(apply(model, cond), plain)


@pytest.mark.parametrize("sampler", [DDIMSampler, PLMSSampler])
def test_guess_mode_leaves_the_hint_out_of_the_empty_prompt(model, cond, sampler):
    """As gradio_canny2image.py asks for it; two calls of the model are the measure."""
    scale, x = 5.0, torch.randn(2, *LATENT, generator=torch.Generator().manual_seed(5))
    model.control_scales = [0.825 ** float(9 - i) for i in range(10)]
    try:
        samples = drawn(model, cond, sampler=sampler, **guided(model, None, scale))
        both = drawn(model, cond, sampler=sampler, **guided(model, cond["c_concat"], scale))
        assert not torch.equal(samples, both)
        joined = {
            "c_concat": cond["c_concat"],
            "c_crossattn": [
                torch.cat([bare(model, None)["c_crossattn"][0], cond["c_crossattn"][0]])
            ],
        }
        with torch.no_grad():
            t = torch.tensor([500, 500])
            alone = torch.cat(
                [model.apply_model(x, t, bare(model, None)), model.apply_model(x, t, cond)]
            )
            at_once = model.apply_model(torch.cat([x, x]), torch.cat([t, t]), joined)
    finally:
        model.control_scales = [1.0] * 10
    torch.testing.assert_close(at_once, alone, rtol=0, atol=1e-5)


def guided(model, hints, scale):
    return {
        "unconditional_guidance_scale": scale,
        "unconditional_conditioning": bare(model, hints),
    }


def test_training_moves_the_control_alone_until_the_model_is_unlocked():
    for locked in (True, False):
        model = build_hub(config())
        model.sd_locked = locked
        side, rest = weights_of(model.control_model), weights_of(model.model)
        fit(model, [{**item, "hint": item["hint"] / 2 + 0.5} for item in items(**HINT)])
        moved = changed(model.model, rest)
        assert {n for n in side if "zero_convs" in n} <= changed(model.control_model, side)
        if locked:
            assert not moved
        else:
            assert moved and all(n.split(".")[1] in ("output_blocks", "out") for n in moved)


def test_log_images_shows_control_and_guided_samples(model):
    log = model.log_images(make_batch(), N=2, ddim_steps=2, sample=True, plot_denoise_rows=True)
    names = ("reconstruction", "control", "conditioning", "samples", "denoise_row")
    assert_pictures(log, *names, "samples_cfg_scale_9.00")
    assert log["samples_cfg_scale_9.00"].shape == (2, 3, 16, 16)
    assert log["control"].min() < -0.5


def test_the_tutorials_logger_writes_where_cldm_does(tmp_path):
    model = build_hub(config())
    options = {"log_images_kwargs": {"ddim_steps": 1}}
    data = [{**item, "hint": item["hint"] / 2 + 0.5} for item in items(2, **HINT)]
    logger = ImageLogger(batch_frequency=300, **options)
    fit(model, data, 1, callbacks=[logger], default_root_dir=tmp_path)
    written = {p.name for p in (tmp_path / "image_log/train").iterdir()}
    assert "control_gs-000001_e-000000_b-000000.png" in written


def test_a_model_is_made_and_filled_as_the_scripts_do_it(model, tmp_path):
    """``create_model(...).cpu()``, ``load_state_dict(...)``; and tool_add_control.py's renaming."""
    OmegaConf.save(OmegaConf.create({"model": config()}), tmp_path / "cldm.yaml")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "control.pth")
    made = create_model(str(tmp_path / "cldm.yaml")).cpu()
    made.load_state_dict(load_state_dict(str(tmp_path / "control.pth"), location="cpu"))
    assert not changed(made, weights_of(model))
    control = [k[len("control_") :] for k in made.state_dict() if k.startswith("control_")]
    shared = [k for k in control if f"model.diffusion_{k}" in made.state_dict()]
    new = {k for k in control if k not in shared}
    assert len(shared) > 60
    assert {k.split(".")[1] for k in new} == {"zero_convs", "input_hint_block", "middle_block_out"}


def test_pickles_that_would_run_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError):
        load_state_dict(str(tmp_path / "evil.pth"))


def test_a_checkpoint_without_control_begins_as_a_copy_of_the_unet(model, tmp_path):
    plain = {n: v for n, v in model.state_dict().items() if not n.startswith("control_model.")}
    save_file(plain, tmp_path / "sd.safetensors")
    made = build_hub(config(ckpt_path=str(tmp_path / "sd.safetensors")))
    state = made.state_dict()
    copied = "input_blocks.1.0.in_layers.2.weight"
    assert torch.equal(state[f"control_model.{copied}"], state[f"model.diffusion_model.{copied}"])
    assert torch.equal(state[f"control_model.{copied}"], plain[f"model.diffusion_model.{copied}"])
    assert not state["control_model.zero_convs.0.0.weight"].any()


def test_a_checkpoint_with_control_gives_it_back(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "whole.safetensors")
    made = build_hub(config(ckpt_path=str(tmp_path / "whole.safetensors")), seed=3)
    assert not changed(made, weights_of(model))


def test_the_switches_that_scripts_turn_are_there(caplog):
    from cldm.hack import disable_verbosity, enable_sliced_attention, hack_everything

    disable_verbosity()
    enable_sliced_attention()
    hack_everything(clip_skip=2)
    assert "clip_skip=2" in caplog.text


def test_without_a_device_the_low_memory_switch_moves_nothing(model):
    before = {n: v.data_ptr() for n, v in model.state_dict().items()}
    model.low_vram_shift(is_diffusing=False)
    model.low_vram_shift(is_diffusing=True)
    assert {n: v.data_ptr() for n, v in model.state_dict().items()} == before


def test_the_shipped_yamls_have_the_published_layout():
    root = Path(__file__).resolve().parents[2]
    for name, width in (("cldm_v15", 768), ("cldm_v21", 1024)):
        config = OmegaConf.load(root / f"configs/controlnet/{name}.yaml")
        with torch.device("meta"):
            net = ControlNet(**config.model.params.control_stage_config.params)
        state = net.state_dict()
        assert len(net.zero_convs) == 12 and state["input_hint_block.14.weight"].shape[0] == 320
        assert state["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape == (
            320,
            width,
        )
        assert ControlLDM.__module__ + ".ControlLDM" == config.model.target
