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


def test_local_features_become_a_token_each(runs, tmp_path):
    params = {"encoder": "unet 2", "tokens": 1, "form": "full-face"}
    hub, shown = new_hub(runs, adapter_config={**IP, "params": params}), batch()
    hub.adapter.see(shown, None)
    assert hub.handle.tokens().shape[:2] == (3, 4)  # none and two pictures, 2 x 2 places
    for layer in hub.adapter.weights.ip_adapter.values():
        torch.nn.init.normal_(layer["to_v_ip"].weight)
    x, t, c = torch.rand(2, 4, 8, 8), torch.tensor([5, 9]), hub.get_learned_conditioning(["a", "b"])
    pixels = ((shown["jpg"] + 1) * 127.5).round().to(torch.uint8).numpy()
    with torch.no_grad():
        hub.eval()
        hub.adapter.see(shown, None)
        own = hub.apply_model(x, t, c)
        [path] = hub.adapter.save(tmp_path, "a", {})
        hub.handle.detach()
        read_ip_adapter(path).attach(hub).show([[picture] for picture in pixels])
        torch.testing.assert_close(hub.apply_model(x, t, c), own, rtol=0, atol=1e-5)


def test_what_cannot_be_learned_from_is_refused(runs):
    faults = ({"dropout": 1.5}, {"begin": "end"}, {"form": "half-face"})
    for params in faults:
        [(name, value)] = params.items()
        with pytest.raises(UserError, match=f"{name} {value!r}"):
            new_hub(runs, adapter_config={**IP, "params": params})
