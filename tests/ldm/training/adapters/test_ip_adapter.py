"""An IP-Adapter learns to draw by pictures; its file draws as the run did."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from ldm.adapters.ip_adapter import read_ip_adapter
from ldm.adapters.ip_adapter.adapter import attn2_in_file_order
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


def test_values_begin_as_nothing_or_as_the_texts(runs):
    ways = {}
    for begin in ("nothing", "text"):
        params = {**IP["params"], "begin": begin}
        hub = new_hub(runs, adapter_config={**IP, "params": params})
        layers = hub.adapter.weights.ip_adapter.values()
        ways[begin] = [layer["to_v_ip"].weight for layer in layers]
    own = [layer.to_v.weight for layer in attn2_in_file_order(hub)]
    assert not any(value.any() for value in ways["nothing"])
    assert all(torch.equal(*pair) for pair in zip(ways["text"], own, strict=True))


def test_a_caption_that_teaches_is_what_the_model_alone_makes_of_it(runs):
    hub = new_hub(runs, caption_teaches=True)
    shown = batch()
    x, cond = hub.get_input(shown, "jpg")
    t, noise = torch.tensor([5, 9]), torch.randn_like(x)
    loss, _ = hub.loss_at(x, cond, t, noise)
    at_t = hub.q_sample(x_start=x, t=t, noise=noise)
    with torch.no_grad():
        with_picture = hub.apply_model(at_t, t, hub.get_learned_conditioning(["", ""]))
        hub.handle.detach()
        target = hub.apply_model(at_t, t, cond)
    torch.testing.assert_close(loss.detach(), (with_picture - target).square().mean())
    loss.backward()
    values = [layer["to_v_ip"].weight.grad for layer in hub.adapter.weights.ip_adapter.values()]
    assert any(grad.any() for grad in values)


def test_what_cannot_be_learned_from_is_refused(runs):
    for params, fault in (({"dropout": 1.5}, "dropout 1.5"), ({"begin": "end"}, "begin 'end'")):
        with pytest.raises(UserError, match=fault):
            new_hub(runs, adapter_config={**IP, "params": params})
    with pytest.raises(UserError, match="no captions left out"):
        new_hub(runs, caption_teaches=True, cond_dropout=0.1)
