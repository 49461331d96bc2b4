"""ControlNets and T2I-Adapters learn from drawings; their files draw as the run did."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from peer_unet import peer_of
from torch.utils.data import Dataset

from ldm.adapters.control import read_control
from ldm.adapters.control.writing import write_control
from ldm.config import build
from ldm.errors import UserError
from ldm.modules.diffusionmodules.t2i_adapter import T2IAdapter

TARGET = "ldm.training.adapters.control"
KINDS = {
    "net": (f"{TARGET}.ControlNetTraining", {}, ["cldm", "diffusers"]),
    "full": (f"{TARGET}.T2IAdapterTraining", {}, ["TencentARC", "diffusers"]),
    "light": (f"{TARGET}.T2IAdapterTraining", {"light": True, "hint_channels": 1}, ["TencentARC"]),
}


class Drawings(Dataset):
    """Pictures of noise with drawings of noise, as many times as large."""

    def __init__(self, rate=1):
        self.rate = rate

    def __len__(self):
        return 4

    def __getitem__(self, index):
        picture, drawing = np.random.default_rng(index).random((2, 16, 16, 3), np.float32)
        drawing = drawing.repeat(self.rate, 0).repeat(self.rate, 1)
        return {"jpg": picture * 2 - 1, "hint": drawing, "txt": f"picture {index}"}


def config_of(runs, kind: str, **model) -> dict:
    target, params, forms = KINDS[kind]
    config = runs.config({"target": target, "params": {**params, "forms": forms}}, **model)
    config["data"]["params"]["train"] = {"target": f"{__name__}.Drawings"}
    return config


@pytest.fixture(scope="module", params=KINDS)
def trained(request, runs):
    kind = request.param
    config = config_of(runs, kind)
    assert runs.start(kind, config) == 0
    hub = build(OmegaConf.create(config))
    hub.load_state_dict(runs.checkpoint(kind)["state_dict"], strict=False)
    return runs, kind, hub.eval()


def eps(hub):
    x = torch.linspace(-1, 1, 512).reshape(2, 4, 8, 8)
    with torch.no_grad():
        return hub.apply_model(x, torch.tensor([5, 900]), hub.get_learned_conditioning(["a", "b"]))


def drawings():
    return torch.stack([torch.from_numpy(Drawings()[k]["hint"]) for k in (0, 1)])


def test_all_that_sees_the_drawing_learns(trained):
    runs, kind, _ = trained
    torch.manual_seed(0)
    before = build(OmegaConf.create(config_of(runs, kind))).adapter.state_dict()
    after = runs.checkpoint(kind)["state_dict"]
    zeros = [name for name, value in before.items() if not value.any() and "weight" in name]
    assert bool(zeros) == (kind == "net")
    # Zero convolutions learn first; what is before them moves one step later.
    assert all(after[f"adapter.{name}"].any() for name in zeros)
    assert set(after) == {f"adapter.{name}" for name in before}


def test_a_new_control_net_begins_as_the_first_half_and_changes_nothing(runs):
    hub = build(OmegaConf.create(config_of(runs, "net")))
    hub.adapter.see({"hint": drawings()}, None)
    with_it = eps(hub)
    hub.handle.detach()
    torch.testing.assert_close(eps(hub), with_it, rtol=0, atol=0)
    ours = hub.adapter.network.state_dict()
    for name, value in hub.model.diffusion_model.state_dict().items():
        if name.startswith(("input_blocks.", "middle_block.", "time_embed.")):
            torch.testing.assert_close(ours[name], value, rtol=0, atol=0)


def test_the_files_draw_as_the_run_does(trained):
    runs, kind, hub = trained
    hub.adapter.see({"hint": drawings()}, None)
    in_training = eps(hub)
    files = sorted((runs.run(kind) / "adapter").iterdir())
    assert len(files) == len(KINDS[kind][2])
    hub.handle.detach()
    plain = eps(hub)
    for path in files:
        control = read_control(path, hub)
        assert not control.report.unused
        with control.attach(hub, drawings().movedim(-1, 1)):
            drawn = eps(hub)
        torch.testing.assert_close(drawn, in_training, rtol=0, atol=1e-5)
        assert (plain - drawn).abs().max() > 1e-5
    hub.handle = hub.adapter.attach(hub)


def wide(hint):
    """Return drawings (B, H, W, 3) as networks of 8 x 8 latents are given them."""
    size = (64, 64)
    return torch.nn.functional.interpolate(
        hint.movedim(-1, 1), size, mode="bilinear", antialias=True
    )


@torch.no_grad()
def test_diffusers_computes_what_the_run_does(trained, tmp_path):
    runs, kind, hub = trained
    folder, hint = runs.run(kind) / "adapter" / f"{kind}.diffusers", wide(drawings())
    if kind != "net":
        # diffusers adds features to a level without attention after it is halved, and its light
        # adapters end in two levels of one width: features are compared, of a network it has.
        network = hub.adapter.network
        if kind == "light":
            network = T2IAdapter(3, (32, 64, 64), 4, light=True)
            folder = write_control(network, tmp_path / "light", "diffusers")
            with pytest.raises(UserError, match="last two are equal"):
                write_control(hub.adapter.network, tmp_path / "other", "diffusers")
        theirs = diffusers.T2IAdapter.from_pretrained(folder)
        torch.testing.assert_close(theirs(hint), network(hint), rtol=0, atol=1e-5)
        return
    hub.adapter.see({"hint": drawings()}, None)
    x = torch.linspace(-1, 1, 512).reshape(2, 4, 8, 8)
    t, c = torch.tensor([5, 900]), hub.get_learned_conditioning(["a", "b"])
    net = diffusers.ControlNetModel.from_pretrained(folder)
    down, middle = net(x, t, c, hint, return_dict=False)
    added = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    theirs = peer_of(hub)(x, t, c, **added).sample
    torch.testing.assert_close(eps(hub), theirs, rtol=0, atol=1e-5)


def test_previews_show_the_drawings(runs):
    hub = build(OmegaConf.create(config_of(runs, "net")))
    item = Drawings()[0]
    batch = {"jpg": torch.from_numpy(item["jpg"])[None], "txt": ["a"]}
    batch["hint"] = torch.from_numpy(item["hint"])[None]
    quick = {"ddim_steps": 1, "inpaint": False, "plot_progressive_rows": False}
    shown = hub.log_images(batch, N=1, unconditional_guidance_scale=2.0, **quick)
    torch.testing.assert_close(shown["hint"], 2 * batch["hint"].movedim(-1, 1) - 1)
    assert shown["samples_cfg_scale_2.00"].shape == (1, 3, 16, 16)


def test_a_form_that_it_does_not_have_is_refused(runs):
    with pytest.raises(UserError, match="form 'TencentARC' of a ControlNet"):
        config = config_of(runs, "net")
        config["model"]["params"]["adapter_config"]["params"]["forms"] = ["TencentARC"]
        build(OmegaConf.create(config))


def test_control_nets_own_hub_trains_by_main_py(runs):
    described = OmegaConf.to_container(OmegaConf.load(runs.folder / "config.yaml"))["model"]
    unet = described["params"]["unet_config"]
    net = {k: v for k, v in unet["params"].items() if k != "out_channels"} | {"hint_channels": 3}
    config = runs.config(None)
    config["model"] |= {
        "target": "cldm.cldm.ControlLDM",
        "params": described["params"]
        | {
            "unet_config": {**unet, "target": "cldm.cldm.ControlledUnetModel"},
            "control_stage_config": {"target": "cldm.cldm.ControlNet", "params": net},
            "control_key": "hint",
            "only_mid_control": False,
            "ckpt_path": str(runs.base),
            "monitor": None,
        },
    }
    data = {"target": f"{__name__}.Drawings", "params": {"rate": 4}}
    config["data"]["params"]["train"] = data
    assert runs.start("own", config) == 0
    state = runs.checkpoint("own")["state_dict"]
    for name, value in runs.weights().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    assert state["control_model.middle_block_out.0.weight"].any()
