"""A network that is compiled while it trains, and afterwards is what it was."""

from __future__ import annotations

import copy

import pytest
import pytorch_lightning as pl
import torch
import yaml
from small_hubs import gaussian, latent, loader
from tiny_training import TINY_DIFFUSION

import main
from ldm.errors import UserError
from ldm.training.compiled import CompiledNetwork


def fit(model, *callbacks, steps=2):
    torch.manual_seed(3)
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(model, loader())
    return model.state_dict()


def hub():
    torch.manual_seed(1)
    model = latent(use_ema=False)
    model.learning_rate = 1e-4
    return model


class Graphs:
    """A backend of torch.compile that runs what it is given as it is, and counts it."""

    def __init__(self):
        self.made = 0

    def __call__(self, graph, inputs):  # noqa: ARG002
        self.made += 1
        return graph.forward


@pytest.fixture
def graphs():
    torch._dynamo.reset()
    yield Graphs()
    torch._dynamo.reset()


def test_a_training_of_a_compiled_network_is_the_plain_one_and_leaves_it_plain(graphs):
    model = hub()
    twin = copy.deepcopy(model)
    compiled, plain = fit(model, CompiledNetwork(graphs)), fit(twin)
    assert graphs.made == 1
    assert compiled.keys() == plain.keys()
    assert all(torch.allclose(compiled[key], plain[key], atol=1e-6) for key in plain)
    assert model.model.diffusion_model._compiled_call_impl is None


def test_a_model_without_a_unet_is_refused():
    with pytest.raises(UserError, match="no UNet"):
        CompiledNetwork().on_fit_start(None, gaussian())


def test_a_network_is_plain_again_after_a_training_that_broke_off(graphs):
    model, callback = hub(), CompiledNetwork(graphs)
    callback.on_fit_start(None, model)
    assert model.model.diffusion_model._compiled_call_impl is not None
    callback.on_exception(None, model, KeyboardInterrupt())
    assert model.model.diffusion_model._compiled_call_impl is None


def test_a_resumed_training_of_a_compiled_network_is_the_whole_one(work):
    """Of torch.compile all but the compiler, which takes minutes and may not be there."""
    torch._dynamo.reset()
    config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
    compiled = {
        "target": "ldm.training.compiled.CompiledNetwork",
        "params": {"backend": "eager"},
    }
    config["lightning"]["callbacks"]["compiled"] = compiled
    # Batches of one size: another one would be compiled for itself.
    config["data"]["params"] |= {"validation": None, "batch_size": 2}
    work.write({**config, "model": copy.deepcopy(TINY_DIFFUSION)})
    each = "lightning.modelcheckpoint.params"
    assert (
        work.start(
            "run", "--max_steps", "2", f"{each}.every_n_train_steps=1", f"{each}.save_top_k=-1"
        )
        == 0
    )
    whole = work.checkpoint("run")
    (first,) = work.run("run").glob("checkpoints/*step=00000001.ckpt")
    assert main.main(["-r", str(first), "-t"]) == 0
    halves = work.checkpoint("run")
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(halves[part], whole[part], rtol=0, atol=0)
    assert halves["global_step"] == whole["global_step"] == 2
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch._dynamo.reset()
