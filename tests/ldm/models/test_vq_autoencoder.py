"""First stages with a codebook, and both kinds trained against a discriminator."""

from __future__ import annotations

import pytest
import torch

from ldm.errors import UserError
from ldm.models.autoencoder import (
    AutoencoderKL,
    IdentityFirstStage,
    VQModel,
    VQModelInterface,
)
from ldm.modules.losses import VQLPIPSWithDiscriminator

DDCONFIG = {
    "double_z": False,
    "z_channels": 4,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
IDENTITY = {"target": "torch.nn.Identity"}
SMALL = {"disc_num_layers": 2, "disc_ndf": 8, "perceptual_weight": 0, "disc_start": 0}
VQ_LOSS = {"target": "ldm.modules.losses.VQLPIPSWithDiscriminator", "params": SMALL}
KL_LOSS = {
    "target": "ldm.modules.losses.LPIPSWithDiscriminator",
    "params": {**SMALL, "kl_weight": 1e-6, "disc_weight": 0.5},
}


def make(cls=VQModel, lossconfig=IDENTITY, **options) -> VQModel:
    torch.manual_seed(0)
    ddconfig = {**DDCONFIG, **options.pop("ddconfig", {})}
    made = cls(ddconfig=ddconfig, lossconfig=lossconfig, n_embed=16, embed_dim=3, **options)
    if "ckpt_path" not in options:
        torch.nn.init.normal_(made.quantize.embedding.weight)
    if made.use_ema:
        made._follow()  # from these weights
    return made


@pytest.fixture
def batch():
    """Two ramps (16, 16, 3) in [-1, 1]."""
    ramp = torch.linspace(-1, 1, 16)
    ramps = torch.stack([ramp.expand(16, 16), ramp[:, None].expand(16, 16)])
    return {"image": ramps[..., None].repeat(1, 1, 1, 3)}


@torch.no_grad()
def test_latents_are_entries_of_the_codebook():
    model, x = make(), torch.randn(2, 3, 16, 24)
    quant, loss, (_, _, indices) = model.encode(x)
    assert quant.shape == (2, 3, 8, 12) and loss.ndim == 0 and model.downsampling_factor == 2
    torch.testing.assert_close(model.decode_code(indices.view(2, 8, 12)), model.decode(quant))
    reconstruction, codebook_loss, again = model(x, return_pred_indices=True)
    assert reconstruction.shape == x.shape
    assert torch.equal(codebook_loss, loss) and torch.equal(again, indices)
    assert len(model(x)) == 2


@torch.no_grad()
def test_the_interface_encodes_before_the_codebook_and_decodes_after_it():
    model, interface, x = make(), make(VQModelInterface), torch.randn(1, 3, 16, 16)
    interface.load_state_dict(model.state_dict())
    h = interface.encode(x)
    torch.testing.assert_close(h, model.encode_to_prequant(x), rtol=0, atol=0)
    torch.testing.assert_close(interface.decode(h), model(x)[0])
    as_it_is = interface.decode(h, force_not_quantize=True)
    torch.testing.assert_close(as_it_is, model.decode(h))
    assert not torch.allclose(as_it_is, interface.decode(h))
    torch.testing.assert_close(interface(x)[0], model(x)[0])


def test_the_interface_takes_its_width_first():
    made = VQModelInterface(3, DDCONFIG, IDENTITY, 16)
    assert made.embed_dim == 3 and made.n_embed == 16


def test_indices_can_be_laid_out_as_the_latents_are():
    indices = make(sane_index_shape=True).encode(torch.randn(2, 3, 16, 16))[2][2]
    assert indices.shape == (2, 8, 8)


def test_the_average_follows_the_autoencoder_and_steps_in_and_out():
    model = make(lossconfig=VQ_LOSS, use_ema=True)
    assert not [name for name in model.state_dict() if name.startswith("model_ema.loss")]
    assert "model_ema.encoderconv_inweight" in model.state_dict()
    weight, judge = model.decoder.conv_out.weight, model.loss.discriminator.main[0].weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1.0)
    model.on_train_batch_end()
    trained, judge_before = weight.detach().clone(), judge.detach().clone()
    with model.ema_scope("a test"):
        assert (before < weight).all() and (weight < trained).all()
        assert torch.equal(judge, judge_before)
    assert torch.equal(weight, trained)


def test_without_an_average_the_scope_changes_nothing():
    model = make()
    before = model.decoder.conv_out.weight.detach().clone()
    with model.ema_scope():
        assert torch.equal(model.decoder.conv_out.weight, before)


def test_validation_tells_of_the_average_too(batch):
    model = make(lossconfig=VQ_LOSS, use_ema=True)
    figures = model.validation_figures(batch)
    assert {"val/rec_loss", "val/disc_loss", "val_ema/rec_loss"} <= set(figures)
    assert figures["val/rec_loss"] == figures["val_ema/rec_loss"]
    assert "val_ema/rec_loss" not in make(lossconfig=VQ_LOSS).validation_figures(batch)


def test_batches_are_resized_within_their_range_and_largest_at_first(batch):
    model = make(batch_resize_range=[16, 48])
    sides = [model.get_input(batch, "image").shape[2:] for _ in range(3)]
    assert set(sides) == {(48, 48)}
    model.loaded_step = 5
    torch.manual_seed(0)
    sides = {model.get_input(batch, "image").shape[2] for _ in range(30)}
    assert sides == {16, 32, 48}


def test_pictures_to_look_at_are_of_three_channels(batch):
    images = make(use_ema=True).log_images(batch, N=1, plot_ema=True)
    assert set(images) == {"inputs", "reconstructions", "samples", "reconstructions_ema"}
    assert all(shown.shape == (1, 3, 16, 16) for shown in images.values())
    assert set(make().log_images(batch, only_inputs=True)) == {"inputs"}


@pytest.mark.parametrize("labels", [None, 6])
def test_label_maps_are_shown_in_colours(labels):
    model = make(ddconfig={"in_channels": 6, "out_ch": 6}, colorize_nlabels=labels)
    assert ("colorize" in model.state_dict()) == (labels is not None)
    names = set(model.state_dict())
    shown = model.log_images({"image": torch.randn(2, 16, 16, 6)})["inputs"]
    assert shown.shape == (2, 3, 16, 16)
    assert shown.min() == -1 and shown.max() == 1
    assert set(model.state_dict()) == names, "looking changed what a checkpoint holds"


def test_each_side_has_an_optimizer_and_a_schedule():
    schedule = {
        "target": "ldm.lr_scheduler.LambdaLinearScheduler",
        "params": {
            "warm_up_steps": [10],
            "cycle_lengths": [100],
            "f_start": [0.5],
            "f_max": [1.0],
            "f_min": [1.0],
        },
    }
    model = make(lossconfig=VQ_LOSS, lr_g_factor=2.0, scheduler_config=schedule)
    model.learning_rate = 0.1
    (own, against), schedules = model.configure_optimizers()
    assert own.param_groups[0]["lr"] == pytest.approx(0.1)  # x factor 2 x start 0.5
    assert against.param_groups[0]["lr"] == pytest.approx(0.05)
    assert [s["interval"] for s in schedules] == ["step", "step"]
    trained = {id(p) for group in own.param_groups for p in group["params"]}
    judge = {id(p) for group in against.param_groups for p in group["params"]}
    assert judge == {id(p) for p in model.loss.parameters()} and not trained & judge
    assert trained | judge == {id(p) for p in model.parameters()}
    assert make(lossconfig=VQ_LOSS).configure_optimizers()[1] == []


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_each_side_gives_gradients_to_its_own_alone(kind, batch):
    model = make(lossconfig=VQ_LOSS) if kind == "vq" else make_kl()
    assert model.two_optimizers
    model.training_step(batch, 0, 1).backward()
    own = [p.grad for n, p in model.named_parameters() if not n.startswith("loss.")]
    assert all(gradient is None for gradient in own)
    assert model.loss.discriminator.main[0].weight.grad.any()
    model.training_step(batch, 0, 0).backward()
    assert model.encoder.conv_in.weight.grad.any()
    if kind == "vq":
        assert model.quantize.embedding.weight.grad.any()


def make_kl(**options) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL({**DDCONFIG, "double_z": True}, KL_LOSS, embed_dim=3, **options)


def fit(model, batch, steps: int) -> list[float]:
    """Train both sides on one batch; return the autoencoder's mean pixel error at each step."""
    model.learning_rate = 1e-3
    optimizers, _ = model.configure_optimizers()
    errors = []
    for step in range(steps):
        model.loaded_step = step
        for side, optimizer in enumerate(optimizers):
            loss, logs = model.autoencoder_loss(batch, side, "train")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if side == 0:
                errors.append(float(logs["train/rec_loss"]))
    return errors


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_one_step_lowers_the_error_of_a_fixed_batch(kind, batch):
    model = make(lossconfig=VQ_LOSS) if kind == "vq" else make_kl()
    first, second = fit(model, batch, 2)
    assert second < first


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_thirty_steps_against_a_discriminator_learn_two_pictures(kind, batch):
    """To a mean absolute error of 0.15; that of grey, the mean of both, is 0.53."""
    model = make(lossconfig=VQ_LOSS) if kind == "vq" else make_kl()
    errors = fit(model, batch, 30)
    assert sum(errors[-5:]) / 5 < 0.15


def test_a_checkpoint_of_training_serves_without_its_loss_and_back(tmp_path):
    trained = make(lossconfig=VQ_LOSS)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "model.ckpt")
    plain = make(ckpt_path=str(tmp_path / "model.ckpt"))
    assert torch.equal(plain.encoder.conv_in.weight, trained.encoder.conv_in.weight)
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "plain.ckpt")
    tuned = make(lossconfig=VQ_LOSS, ckpt_path=str(tmp_path / "plain.ckpt"))
    assert torch.equal(tuned.quantize.embedding.weight, plain.quantize.embedding.weight)


def test_configurations_that_name_taming_s_loss_build_ours():
    model = make(
        lossconfig={
            "target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
            "params": {"disc_start": 0, "disc_conditional": False, "disc_in_channels": 3},
        }
    )
    assert isinstance(model.loss, VQLPIPSWithDiscriminator)
    dummy = {"target": "taming.modules.losses.vqperceptual.DummyLoss"}
    assert not make(lossconfig=dummy).two_optimizers


def build_kl(lossconfig) -> AutoencoderKL:
    return AutoencoderKL({**DDCONFIG, "double_z": True}, lossconfig, embed_dim=3)


@pytest.mark.parametrize(
    ("build", "part"),
    [
        (lambda: make(ddconfig={"double_z": True}), "double_z is true"),
        (lambda: make(ddconfig={"ch_mul": [1]}), "did you mean 'ch_mult'"),
        (lambda: make(batch_resize_range=[64]), r"batch_resize_range is \[64\]; expected"),
        (lambda: make(batch_resize_range=[64, 32]), r"batch_resize_range is \[64, 32\]"),
        (lambda: make(colorize_nlabels="many"), "colorize_nlabels is 'many'"),
        (lambda: make(remap="no/such.npy"), "remap 'no/such.npy' cannot be read"),
        (lambda: make(lossconfig=KL_LOSS), "LPIPSWithDiscriminator, which is not for VQModel"),
        (lambda: build_kl(VQ_LOSS), "which is not for AutoencoderKL"),
        (lambda: make().configure_optimizers(), "Identity, which trains nothing"),
        (lambda: build_kl(IDENTITY).configure_optimizers(), "Identity, which trains nothing"),
    ],
)
def test_a_wrong_setting_is_one_line(build, part):
    with pytest.raises(UserError, match=part) as raised:
        build()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cls", [VQModel, VQModelInterface])
def test_a_subclass_s_encode_and_decode_are_obeyed_in_training_and_previews(cls, batch):
    class Fork(cls):
        def encode(self, x):
            calls.append("encode")
            return super().encode(x)

        def decode(self, *args, **kwargs):
            calls.append("decode")
            return 0.0 * super().decode(*args, **kwargs)

    calls, model = [], make(Fork, lossconfig=VQ_LOSS)
    assert not model(torch.randn(1, 3, 16, 16))[0].any()
    assert calls == ["encode", "decode"]
    calls.clear()
    model.training_step(batch, 0, 0)
    assert calls == ["encode", "decode"]
    shown = model.log_images(batch)
    assert not shown["samples"].any() and not shown["reconstructions"].any()


@pytest.mark.parametrize("use_ema", [True, False])
def test_validation_runs_through_the_reference_s_hook_for_weights_and_averages(use_ema, batch):
    class Fork(VQModel):
        def _validation_step(self, batch, batch_idx, suffix=""):
            figures = super()._validation_step(batch, batch_idx, suffix=suffix)
            seen.append((suffix, sorted(name for name in figures if "loss" in name)))
            return figures

    seen, model = [], make(Fork, lossconfig=VQ_LOSS, use_ema=use_ema)
    model.eval().validation_step(batch, 0)
    assert [suffix for suffix, _ in seen] == (["", "_ema"] if use_ema else [""])
    assert {"val/aeloss", "val/rec_loss", "val/disc_loss"} <= set(seen[0][1])
    assert not use_ema or {"val_ema/aeloss", "val_ema/rec_loss"} <= set(seen[1][1])


class CompVisLoss(torch.nn.Module):
    """A loss with the reference's signature, and no discriminator."""

    def forward(self, inputs, reconstructions, posteriors, optimizer_idx, global_step,
                last_layer=None, split="train"):  # fmt: skip
        assert (optimizer_idx, global_step, last_layer is None) == (0, 0, False)
        loss = (inputs - reconstructions).square().mean()
        return loss, {f"{split}/rec_loss": loss}


def test_a_loss_is_called_as_its_signature_says_whether_or_not_it_has_a_discriminator(batch):
    model = build_kl(IDENTITY)
    model.loss = CompVisLoss()
    assert not model.two_optimizers
    model.training_step(batch, 0, 0).backward()
    assert model.encoder.conv_in.weight.grad.any()
    assert "val/rec_loss" in model.validation_figures(batch)


def test_a_first_stage_that_does_nothing_takes_what_the_reference_s_takes():
    stage, x = IdentityFirstStage(), torch.randn(1, 3, 4, 4)
    for method in (stage.encode, stage.decode, stage.quantize, stage):
        assert method(x, 1, force_not_quantize=True) is x
