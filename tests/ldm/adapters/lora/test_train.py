"""A LoRA in training: gradients flow to it alone, also under DDP, and it is written as it is."""

from __future__ import annotations

import os

import pytest
import torch
from parity.peers import relative_error
from safetensors import safe_open
from torch import nn

from ldm.adapters.lora import new_lora, read_lora, write_lora
from ldm.adapters.lora.places import Places
from ldm.errors import UserError


def loss_of(model):
    words = model.get_learned_conditioning(["a cat"])
    x = torch.ones(1, 4, 8, 8)
    return model.apply_model(x, torch.tensor([7]), words).square().mean()


@torch.no_grad()
def fill(lora):
    generator = torch.Generator().manual_seed(3)
    for parameter in lora.parameters():
        parameter.copy_(torch.rand(parameter.shape, generator=generator) * 0.3)


def test_a_new_one_changes_no_bit(predict, model):
    plain = predict(model)
    with new_lora(model, 4, conv=True).attach(model):
        assert torch.equal(predict(model), plain)


def test_a_new_dora_changes_nothing_but_rounding(predict, model):
    plain = predict(model)
    with new_lora(model, 4, conv=True, dora=True).attach(model):
        assert relative_error(predict(model), plain) < 1e-5


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_gradients_flow_to_its_parameters_alone(kind, dora, model, model_v2):
    model = model if kind == "v1" else model_v2
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    lora = new_lora(model, 2, conv=True, dora=dora)
    fill(lora)
    # What SD2 leaves out of its text encoder, the last block, gets no gradient.
    skipped = "encoder_layers_2_" if kind == "v2" else "nothing"
    with lora.attach(model):
        loss_of(model).backward()
        assert not any(p.grad is not None for p in model.parameters())
    without = [n for n, p in lora.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(skipped in name for name in without)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == wanted


def test_the_gradient_is_that_of_the_weights_themselves(model):
    """By the chain rule the gradient of up is that of W times down's transpose."""
    place = next(p for p in Places(model) if p.name.endswith("attn2.to_v"))
    lora = new_lora(model, 2, alpha=3.0, text=False)
    fill(lora)
    with lora.attach(model) as handle:
        loss_of(model).backward()
        found = lora.layers[place.flat].lora_up.grad
        down = lora.layers[place.flat].lora_down.detach()
        handle.merge()
        weight = place.module.weight.requires_grad_(True)
        loss_of(model).backward()
        assert relative_error(found, weight.grad @ down.T * 1.5) < 1e-4


def test_a_step_of_training_lowers_the_loss(model):
    lora = new_lora(model, 4)
    optimizer = torch.optim.Adam(lora.parameters(), lr=1e-2)
    losses = []
    with lora.attach(model):
        for _ in range(4):
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


class Together(nn.Module):
    """What DDP wraps: the model and the LoRA beside it."""

    def __init__(self, model, lora):
        super().__init__()
        self.model, self.lora = model, lora

    def forward(self):
        return loss_of(self.model)


def test_it_trains_under_ddp(model, tmp_path):
    lora = new_lora(model, 2)
    fill(lora)
    with lora.attach(model):
        loss_of(model).backward()
        alone = {n: p.grad.clone() for n, p in lora.named_parameters()}
        lora.zero_grad()
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1
        )
        try:
            # The autoencoder takes no part, and a frozen model has nothing to synchronise.
            ddp = nn.parallel.DistributedDataParallel(Together(model, lora))
            ddp().backward()
        finally:
            torch.distributed.destroy_process_group()
    assert all(torch.allclose(p.grad, alone[n]) for n, p in lora.named_parameters())


@pytest.mark.parametrize("options", [{}, {"conv": True}, {"dora": True}, {"text": False}])
@pytest.mark.parametrize("form", ["kohya", "diffusers"])
@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_what_is_written_acts_as_what_was_trained(
    kind, form, options, predict, tmp_path, model, model_v2
):
    model = model if kind == "v1" else model_v2
    lora = new_lora(model, 2, alpha=1.0, **options)
    fill(lora)
    with lora.attach(model):
        trained = predict(model)
    path = write_lora(lora, tmp_path / "a.safetensors", form, {"note": 7})
    again = read_lora(path, model)
    assert not again.report.unused and again.report.modules == len(lora.layers)
    assert (again.report.ranks, again.report.alphas) == ([2], [1.0])
    with again.attach(model):
        assert relative_error(predict(model), trained) < 1e-6


def test_the_header_says_what_other_programs_look_for(tmp_path, model):
    path = write_lora(new_lora(model, 3, alpha=1.5), tmp_path / "a.safetensors", metadata={"x": 1})
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert header["ss_network_dim"] == "3" and header["ss_network_alpha"] == "1.5"
    assert header["ss_network_module"] == "networks.lora" and header["x"] == "1"


def test_its_state_goes_on_in_another_process(model, predict):
    first, second = new_lora(model, 2, dora=True), new_lora(model, 2, dora=True)
    fill(first)
    second.load_state_dict(first.state_dict())
    found = []
    for lora in (first, second):
        with lora.attach(model):
            found.append(predict(model))
    assert torch.equal(*found)


def test_other_kinds_have_no_form_in_diffusers(tmp_path, model):
    from lora_files import save

    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    loha = {f"{stem}.hada_w{n}_{s}": torch.ones(*d) for n in (1, 2) for s, d in SIDES}
    lora = read_lora(save(loha, tmp_path / "a.safetensors"), model)
    with pytest.raises(UserError, match="diffusers has no form for the LoHa change"):
        write_lora(lora, tmp_path / "b.safetensors", "diffusers")
    assert not os.path.exists(tmp_path / "b.safetensors")
    again = read_lora(write_lora(lora, tmp_path / "c.safetensors"), model)
    assert again.report.kind == "LoHa"


SIDES = (("a", (64, 2)), ("b", (2, 64)))


def test_a_lora_read_without_a_model_has_no_names_to_write(files, tmp_path):
    with pytest.raises(UserError, match="read without a model"):
        write_lora(read_lora(files[0]), tmp_path / "a.safetensors", "diffusers")


def test_layers_can_be_chosen_by_an_expression_for_their_names(model):
    every, some = (
        new_lora(model, 2, conv=True),
        new_lora(model, 2, conv=True, only="up_blocks.*to_q$"),
    )
    wanted = [
        name for name in every.names.values() if "up_blocks" in name and name.endswith("to_q")
    ]
    assert wanted and list(some.names.values()) == wanted


def test_what_cannot_be_made_is_refused(model, model_v2, tmp_path):
    for rank, alpha, options in (
        (0, None, {}),
        (2, 0.0, {}),
        (2, None, {"unet": False, "text": False}),
        (2, None, {"only": "("}),
        (2, None, {"only": "no_such_layer"}),
    ):
        with pytest.raises(UserError):
            new_lora(model, rank, alpha, **options)
    with pytest.raises(UserError, match="is not in the model"):
        new_lora(model_v2, 2).attach(model)
    with pytest.raises(UserError, match="form 'onnx' given"):
        write_lora(new_lora(model, 1), tmp_path / "a.safetensors", "onnx")
