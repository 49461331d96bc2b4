"""Training of an adapter: it learns, the model keeps every bit, a resumed run is the long one."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import save_file

from ldm.config import build
from ldm.errors import UserError

SHIFT = {"target": "shifting_adapter.Shift"}


@pytest.fixture(scope="module")
def trained(runs):
    """Train for four steps in one run."""
    assert runs.start("whole", runs.config(SHIFT), "--max_steps", "4") == 0
    return runs


def hub_of(runs, **model):
    return build(OmegaConf.create(runs.config(SHIFT, **model)))


def test_a_checkpoint_holds_the_adapter_alone(trained):
    checkpoint = trained.checkpoint("whole")
    assert set(checkpoint["state_dict"]) == {"adapter.amount"}
    assert checkpoint["state_dict"]["adapter.amount"].abs().min() > 0
    assert len(checkpoint["optimizer_states"][0]["state"]) == 1
    assert checkpoint["adapted_base"]["name"] == "tiny.safetensors"


def test_a_run_continues_as_if_it_had_never_stopped(trained):
    assert trained.start("halves", trained.config(SHIFT), "--max_steps", "3") == 0
    assert trained.go_on("halves", "--max_steps", "4") == 0
    one, other = trained.checkpoint("whole"), trained.checkpoint("halves")
    assert one["training_progress"] == other["training_progress"]
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(one[part], other[part], rtol=0, atol=0)


def test_the_file_says_of_what_model_and_run_it_is(trained):
    with safe_open(trained.file("whole"), "pt") as file:
        header, amount = file.metadata(), file.get_tensor("amount")
    saved = trained.checkpoint("whole")["state_dict"]["adapter.amount"]
    torch.testing.assert_close(amount, saved, rtol=0, atol=0)
    assert header["ss_steps"] == "4"
    assert header["ss_sd_model_name"] == "tiny.safetensors"
    assert header["ss_new_sd_model_hash"] == trained.checkpoint("whole")["adapted_base"]["sha256"]
    assert header["modelspec.architecture"] == "latent-diffusion/shift"
    config = OmegaConf.create(header["ldm.model"])
    assert config.params.adapter_config.target == SHIFT["target"]


def test_files_of_some_steps_are_kept(runs):
    config = runs.config(SHIFT, keep_every_n_train_steps=2, file_name="mine")
    assert runs.start("kept", config, "--max_steps", "5") == 0
    names = sorted(path.name for path in (runs.run("kept") / "adapter").iterdir())
    assert names == ["mine-000002.safetensors", "mine-000004.safetensors", "mine.safetensors"]


def test_the_model_keeps_every_bit_and_only_the_adapter_has_gradients(runs):
    hub = hub_of(runs)
    assert all(parameter is hub.adapter.amount for parameter in hub.trainable_parameters())
    loss, _ = hub.shared_step({"jpg": torch.rand(2, 16, 16, 3), "txt": ["a", "b"]})
    hub.configure_optimizers()
    loss.backward()
    torch.optim.SGD(hub.trainable_parameters(), lr=1.0).step()
    state, weights = hub.state_dict(), runs.weights()
    for name, value in weights.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    assert [n for n, p in hub.named_parameters() if p.grad is not None] == ["adapter.amount"]
    assert not hub.model.training
    assert hub.adapter.training


def test_detaching_gives_the_model_back(runs):
    hub = hub_of(runs)
    torch.nn.init.ones_(hub.adapter.amount)
    x, t, c = torch.ones(1, 4, 8, 8), torch.tensor([5]), hub.get_learned_conditioning(["a"])
    shifted = hub.apply_model(x, t, c)
    hub.handle.detach()
    plain = hub.apply_model(x, t, c)
    assert not torch.equal(shifted, plain)
    assert not hooked(hub)


def hooked(hub):
    return [m for m in hub.model.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_what_a_yaml_says_of_the_models_own_training_does_not_count(runs):
    config = OmegaConf.load(runs.folder / "config.yaml").model
    config.params |= {"use_ema": True, "cond_dropout": 0.5, "scheduler_config": {"target": "no"}}
    hub = hub_of(runs, base_config=config, snr_gamma=5.0)
    assert (hub.use_ema, hub.cond_dropout, hub.scheduler_config) == (False, 0.0, None)
    assert hub.snr_gamma == 5.0


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"use_ema": True}, "use_ema True given"),
        ({"unet_trainable": "attn"}, "unet_trainable 'attn' given"),
        ({"base_config": "nowhere.yaml"}, "nowhere.yaml"),
        ({"base_config": {"params": {}}}, "no model with a target"),
        ({"adapter_config": {"target": "torch.nn.Identity"}}, "no adapter that trains"),
        ({"prior_weight": -1.0}, "prior_weight -1.0 given"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(runs, model, words):
    with pytest.raises(UserError, match=words) as told:
        hub_of(runs, **model)
    assert "\n" not in str(told.value)


def test_an_inpainting_model_wants_its_own_hub(runs):
    config = OmegaConf.load(runs.folder / "config.yaml").model
    config.target = "ldm.models.diffusion.ddpm.LatentInpaintDiffusion"
    with pytest.raises(UserError, match="AdaptedInpaintDiffusion"):
        hub_of(runs, base_config=config)


def test_a_run_without_a_model_or_on_another_one_is_refused(trained, capsys):
    assert trained.start("none", trained.config(SHIFT, ckpt_path=None)) == 2
    assert "model without weights" in capsys.readouterr().err
    other = trained.folder / "other.safetensors"
    save_file({k: v + 0.01 for k, v in trained.weights().items()}, other)
    more = (f"model.params.ckpt_path={other}", "--max_steps", "5")
    assert trained.go_on("whole", *more) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "another content than 'other.safetensors'" in line
