"""An IP-Adapter learns to draw by pictures; its file draws as the run did."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from ldm.adapters.ip_adapter import read_ip_adapter
from ldm.config import build
from ldm.errors import UserError

IP = {
    "target": "ldm.training.adapters.ip_adapter.IPAdapterTraining",
    "params": {"tokens": 2, "encoder": "first_stage 2"},
}


@pytest.fixture(scope="module")
def trained(runs):
    assert runs.start("ip", runs.config(IP)) == 0
    return runs


def new_hub(runs, **model):
    return build(OmegaConf.create(runs.config(IP, **model)))


def batch():
    return {"jpg": torch.rand(2, 16, 16, 3) * 2 - 1, "txt": ["a", "b"]}


def test_the_projection_and_every_layer_learn(trained):
    torch.manual_seed(0)
    before = new_hub(trained).adapter.state_dict()
    after = trained.checkpoint("ip")["state_dict"]
    values = {name for name in before if "to_v_ip" in name}
    assert values
    for name in values:
        assert not before[name].any()
        assert after[f"adapter.{name}"].any(), name


def test_the_file_draws_as_the_run_does(trained):
    hub, shown = new_hub(trained), batch()
    state = trained.checkpoint("ip")["state_dict"]
    hub.adapter.load_state_dict({k.removeprefix("adapter."): v for k, v in state.items()})
    hub.eval()
    x, t, c = torch.rand(2, 4, 8, 8), torch.tensor([5, 9]), hub.get_learned_conditioning(["a", "b"])
    with torch.no_grad():
        hub.get_input(shown, "jpg")
        in_training = hub.apply_model(x, t, c)
        hub.handle.detach()
        plain = hub.apply_model(x, t, c)
        handle = read_ip_adapter(trained.file("ip")).attach(hub)
        pixels = ((shown["jpg"] + 1) * 127.5).round().to(torch.uint8).numpy()
        handle.show([[picture] for picture in pixels])
        drawn = hub.apply_model(x, t, c)
    torch.testing.assert_close(drawn, in_training, rtol=0, atol=1e-5)
    assert (plain - drawn).abs().max() > 1e-5


def test_pictures_are_left_out_in_training_alone(trained):
    config = trained.config(IP)
    config["model"]["params"]["adapter_config"] = {
        **IP,
        "params": {**IP["params"], "dropout": 1.0},
    }
    hub, shown = build(OmegaConf.create(config)), batch()
    hub.adapter.see(shown, None)
    nothing, *rows = hub.handle.tokens()
    assert all(torch.equal(row, nothing) for row in rows)
    hub.eval()
    hub.adapter.see(shown, 1)
    nothing, row = hub.handle.tokens()
    assert not torch.equal(row, nothing)


def test_a_share_beyond_one_is_refused(runs):
    with pytest.raises(UserError, match="dropout 1.5"):
        new_hub(runs, adapter_config={**IP, "params": {"dropout": 1.5}})
