"""What goes wrong under a plan leaves nothing behind, and is told clearly."""

from __future__ import annotations

import pytest
import torch
from offload_parts import CPU, Elsewhere, Late, loads, make_tiny, use
from torch import nn

from ldm.errors import UserError
from ldm.offload.plan import POLICIES, PlanSettings, StagePlan
from ldm.offload.stages import STAGES, UNET, layers_of


def break_at(module: nn.Module, error: BaseException):
    """Raise ``error`` when ``module`` is reached; return the handle that mends it."""

    def raise_it(*_):
        raise error

    return module.register_forward_pre_hook(raise_it)


def weak_spots(model) -> dict[str, nn.Module]:
    """A module in the middle of each part."""
    unet = model.model.diffusion_model
    return {
        "text": model.cond_stage_model.transformer.text_model.final_layer_norm,
        "unet_encode": unet.middle_block[0].out_layers[3],
        "unet_decode": unet.output_blocks[1][0].out_layers[3],
        "autoencoder": model.first_stage_model.decoder.conv_out,
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")], ids=type)
@pytest.mark.parametrize("part", ["text", *UNET, "autoencoder"])
@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_is_left_after_an_error(tiny, expected, attach, policy, part, error):
    host = {name: id(p) for name, p in tiny.named_parameters()}
    plan = attach(tiny, Late(), policy=policy)
    mend = break_at(weak_spots(tiny)[part], error)
    with pytest.raises(type(error)):
        use(tiny)
    mend.remove()
    # The first use of the autoencoder, to encode, comes before the UNet and succeeds.
    complete = {"text": STAGES[:1], "unet_encode": ("text", "autoencoder", part)}.get(part, STAGES)
    assert plan.ledger.resident == (set(complete) if policy == "resident" else set())
    plan.release()
    assert plan.ledger.resident == set()
    assert host == {name: id(p) for name, p in tiny.named_parameters()}
    assert torch.equal(use(tiny)["latent"], expected["latent"])


def test_an_interrupted_arrival_leaves_nothing(tiny, attach, expected):
    class Interrupted(Elsewhere):
        left = 3

        def fetch(self, piece, room):
            self.left -= piece.name != "common"
            if self.left == 0:
                raise KeyboardInterrupt
            super().fetch(piece, room)

    plan = attach(tiny, Interrupted(), policy="resident")
    with pytest.raises(KeyboardInterrupt):
        use(tiny)
    assert plan.ledger.resident == {"text", "autoencoder"}
    encode = layers_of(tiny)["unet_encode"].values()
    assert all(p.requires_grad for layer in encode for p in layer.parameters())  # the host's own
    assert torch.equal(use(tiny)["latent"], expected["latent"])


def test_a_stage_may_be_entered_again_but_no_other(tiny, attach):
    plan = attach(tiny, policy="four-part")
    with torch.no_grad(), plan.on("text"):
        tiny.get_learned_conditioning(["a"])
        tiny.get_learned_conditioning(["b"])
        assert plan.ledger.resident == {"text"}
        with pytest.raises(RuntimeError, match=r"autoencoder is asked for while text is in use"):
            tiny.decode_first_stage(torch.zeros(1, 4, 8, 8))
    assert loads(plan.ledger) == ["text"]
    assert plan.ledger.resident == set()


def test_wrong_use_is_told_in_one_line(tiny, attach):
    plan = attach(tiny)
    with torch.no_grad(), pytest.raises(UserError, match="stage 'vae' given; expected one of text"):
        plan.on("vae").__enter__()
    with pytest.raises(UserError, match=r"with gradients.*torch.no_grad"):
        tiny.get_learned_conditioning(["a"])
    with pytest.raises(UserError, match="under a plan of devices already"):
        StagePlan(tiny, PlanSettings(), CPU).attach()
    tiny.train()
    with torch.no_grad(), pytest.raises(UserError, match="in training mode"):
        tiny.get_learned_conditioning(["a"])
    plan.detach()
    with pytest.raises(UserError, match="training mode; .*model.eval"):
        StagePlan(tiny, PlanSettings(), CPU).attach()
    tiny.eval()
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"call attach\(\) first"):
        plan.on("text").__enter__()


def test_a_model_that_is_elsewhere_is_refused():
    model = make_tiny().to("meta")
    with pytest.raises(UserError, match="the model is on meta; expected the CPU"):
        StagePlan(model, PlanSettings(), CPU).attach()
    assert "encode" not in vars(model.model.diffusion_model)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"policy": "half"}, "policy 'half' given; expected one of resident, turbo"),
        ({"unet_rows": 0}, "unet_rows 0 given; expected 1 or more"),
        ({"resident_blocks": frozenset({"out"})}, "expected 'stream'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        PlanSettings(**settings)


def test_settings_that_do_not_fit_the_model_are_refused(tiny, attach):
    stray = {"policy": "stream", "resident_blocks": frozenset({"input_blocks.99.0"})}
    with pytest.raises(UserError, match="input_blocks.99.0.*expected layers of the UNet such as"):
        attach(tiny, **stray)
    plan = attach(tiny)
    with pytest.raises(UserError, match="input_blocks.99.0"):
        plan.change(PlanSettings(**stray))
    assert plan.settings == PlanSettings()
