"""How a batch becomes conditioning, for every kind of model of the family."""

from __future__ import annotations

import copy

import pytest
import torch
from family_models import family_config
from safetensors.torch import save_file
from tiny_model import CONFIG

from ldm.errors import UserError
from ldm.models.diffusion.batch_conditioning import conditioner_input, drop_some, first_rows
from ldm.models.diffusion.ddpm import LatentDiffusion, LatentInpaintDiffusion
from ldm.models.diffusion.masked_diffusion import widen_inputs
from ldm.models.diffusion.preview import light_settings
from ldm.models.training_parts import pictures_from

PARAMS = {**CONFIG["model"]["params"], "image_size": 8}
CLASSES = {
    "target": "ldm.modules.encoders.modules.ClassEmbedder",
    "params": {"embed_dim": 32, "n_classes": 5, "key": "class_label"},
}
RESCALER = {
    "target": "ldm.modules.encoders.modules.SpatialRescaler",
    "params": {"n_stages": 1, "in_channels": 7, "out_channels": 3},
}
IDENTITY = {"target": "torch.nn.Identity"}
TOKENS = {
    "target": "ldm.modules.encoders.modules.BERTEmbedder",
    "params": {"n_embed": 32, "n_layer": 1, "vocab_size": 11, "max_seq_len": 6}
    | {"use_tokenizer": False},
}


def unet(**changes) -> dict:
    config = copy.deepcopy(PARAMS["unet_config"])
    config["params"].update(changes)
    return config


def plain_unet(**changes) -> dict:
    config = unet(use_spatial_transformer=False, **changes)
    del config["params"]["context_dim"]
    return config


KINDS = {
    "text": {"conditioning_key": "crossattn"},
    "class": {"conditioning_key": "crossattn", "cond_stage_key": "class_label"}
    | {"cond_stage_config": CLASSES},
    "tokens": {"conditioning_key": "crossattn", "cond_stage_key": "coordinates_bbox"}
    | {"cond_stage_config": TOKENS},
    "labels": {"conditioning_key": "concat", "cond_stage_key": "segmentation"}
    | {"cond_stage_config": RESCALER, "unet_config": plain_unet(in_channels=7)},
    "small": {"conditioning_key": "concat", "cond_stage_key": "LR_image"}
    | {"cond_stage_config": IDENTITY, "unet_config": plain_unet(in_channels=7)},
    "first": {"conditioning_key": "concat", "cond_stage_key": "masked_image"}
    | {"cond_stage_config": "__is_first_stage__", "unet_config": plain_unet(in_channels=8)},
    "none": {"cond_stage_config": "__is_unconditional__", "unet_config": plain_unet()},
}


def make(kind: str, **changes) -> LatentDiffusion:
    torch.manual_seed(0)
    return LatentDiffusion(**{**PARAMS, "conditioning_key": None, **KINDS[kind], **changes})


def batch(n: int = 3) -> dict:
    generator = torch.Generator().manual_seed(1)

    def pictures(side: int, channels: int = 3) -> torch.Tensor:
        return torch.rand(n, side, side, channels, generator=generator) * 2 - 1

    return {
        "jpg": pictures(16),
        "txt": [f"picture {i}" for i in range(n)],
        "class_label": torch.arange(n),
        "coordinates_bbox": torch.randint(0, 11, (n, 6), generator=generator),
        "segmentation": pictures(16, 7),
        "LR_image": pictures(8),
        "masked_image": pictures(16),
        "mask": (torch.rand(n, 16, 16, 1, generator=generator) > 0.5).float(),
    }


def pair(model: LatentDiffusion, data: dict | None = None) -> list:
    """Return latents and their conditioning, encoded also where it is to learn."""
    return model.get_input(data or batch(), "jpg", force_c_encode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_on_a_fixed_batch_lowers_the_loss(kind):
    # The first stage is its own conditioner's parent: it stays frozen.
    trained = kind in ("class", "tokens", "labels")
    model = make(kind, cond_stage_trainable=trained).train()
    model.learning_rate = 1e-3
    optimizer = model.configure_optimizers()
    t, noise = torch.tensor([50, 400, 900]), torch.randn(3, 4, 8, 8)
    losses = []
    for _ in range(4):
        torch.manual_seed(2)  # the posterior's draw
        loss = model.p_losses(*pair(model), t, noise)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0] and losses[-1] < losses[1]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
@torch.no_grad()
def test_what_is_drawn_depends_on_the_conditioning(kind):
    model = make(kind).eval()
    for module in model.model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.1)  # some begin at zero
    data = batch()
    cond = pair(model, data)[1]
    rows = torch.tensor([1, 2, 0])
    other = {
        k: v[rows] if torch.is_tensor(v) else [v[i] for i in rows.tolist()] for k, v in data.items()
    }
    x, t = torch.randn(3, 4, 8, 8), torch.tensor([10, 500, 900])
    first = model.apply_model(x, t, cond)
    assert not torch.allclose(first, model.apply_model(x, t, pair(model, other)[1]))


def test_a_missing_entry_is_named_with_those_that_are_there():
    with pytest.raises(UserError, match="caption.*jpg"):
        conditioner_input({"jpg": torch.zeros(1, 4, 4, 3)}, "caption")


@pytest.mark.parametrize("kind", ["text", "class"])
def test_everything_left_out_is_the_empty_conditioning(kind):
    model = make(kind, cond_dropout=1.0).train()
    empty = {"text": [""] * 3, "class": {"class_label": torch.tensor([4, 4, 4])}}[kind]
    assert torch.equal(
        pair(model)[1].detach(),
        model.get_learned_conditioning(empty),
    )
    model.eval()
    kept = pair(model)[1]
    assert not torch.allclose(kept, model.get_learned_conditioning(empty))


def test_a_share_is_left_out_and_the_batch_is_left_as_it_is():
    torch.manual_seed(0)
    texts = ["a"] * 1000
    dropped = drop_some(texts, "txt", 0.25, None)
    assert 200 < dropped.count("") < 300 and texts == ["a"] * 1000


def test_maps_cannot_be_left_out():
    with pytest.raises(UserError, match="no empty form"):
        make("labels", cond_dropout=0.1).train().get_input(batch(), "jpg")


def test_precomputed_batches_are_the_batches_that_they_were_made_of():
    model = make("text", cond_stage_trainable=False).train()
    data = batch()
    made = {
        "jpg_moments": model.encode_first_stage(pictures_from(data, "jpg")).parameters,
        "txt_embedding": model.get_learned_conditioning(data["txt"]),
    }
    torch.manual_seed(3)
    z, c = pair(model, data)
    torch.manual_seed(3)
    z_made, c_made = pair(model, made)
    assert torch.equal(z, z_made) and torch.equal(c, c_made)


def test_precomputed_captions_are_left_out_by_their_empty_one():
    model = make("text", cond_dropout=1.0).train()
    empty = model.get_learned_conditioning([""] * 3)
    made = {"jpg_moments": torch.zeros(3, 8, 8, 8), "txt_embedding": torch.randn(3, 77, 32)}
    with pytest.raises(UserError, match="txt_empty"):
        pair(model, made)
    assert torch.equal(model.get_input({**made, "txt_empty": empty}, "jpg")[1], empty)


def inpainter(**changes) -> LatentInpaintDiffusion:
    torch.manual_seed(0)
    params = {**PARAMS, "conditioning_key": "hybrid", "unet_config": unet(in_channels=9)}
    return LatentInpaintDiffusion(**{**params, **changes})


@torch.no_grad()
def test_an_inpainter_sees_the_mask_and_then_the_latent_of_the_rest():
    model, data = inpainter().eval(), batch()
    cond = pair(model, data)[1]
    mask, latent = cond["c_concat"]
    assert mask.shape == (3, 1, 8, 8) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(mask[:, 0], data["mask"][:, ::2, ::2, 0])
    assert latent.shape == (3, 4, 8, 8) and cond["c_crossattn"][0].shape == (3, 77, 32)
    signed = inpainter(signed_mask=True, concat_keys=("masked_image", "mask"))
    latent, mask = signed.get_input(data, "jpg")[1]["c_concat"]
    assert latent.shape[1] == 4 and set(mask.unique().tolist()) == {-1.0, 1.0}


@torch.no_grad()
def test_an_inpainter_begun_from_plain_weights_computes_what_they_compute(tmp_path):
    plain = make("text").eval()
    for parameter in plain.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    # Full files of SD carry averages too, which this model does not keep.
    averages = {"model_ema.diffusion_modelinput_blocks00weight": plain.state_dict()[first].clone()}
    save_file({**plain.state_dict(), **averages}, tmp_path / "plain.safetensors")
    model = inpainter(ckpt_path=str(tmp_path / "plain.safetensors")).eval()
    x, t, data = torch.randn(3, 4, 8, 8), torch.tensor([1, 500, 999]), batch()
    expected = plain.apply_model(x, t, pair(plain, data)[1])
    assert torch.allclose(
        model.apply_model(x, t, pair(model, data)[1]),
        expected,
        atol=1e-5,
    )


def test_only_input_channels_are_widened():
    wanted = torch.full((6, 9, 3, 3), 5.0)
    widened = widen_inputs(torch.ones(6, 4, 3, 3), wanted)
    assert widened.shape == wanted.shape
    assert (widened[:, :4] == 1).all() and (widened[:, 4:] == 0).all()
    other = torch.ones(5, 4, 3, 3)
    assert widen_inputs(other, wanted) is other


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("attn", {"attn2"}),
        ("conv_in", {"input_blocks.0.0"}),
        (False, set()),
    ],
)
def test_what_of_the_unet_learns_is_chosen_by_name(what, names):
    model = make("text", unet_trainable=what)
    learning = [n for n, p in model.model.diffusion_model.named_parameters() if p.requires_grad]
    assert bool(learning) == bool(names)
    assert all(any(name in parameter for name in names) for parameter in learning)
    assert len(model.trainable_parameters()) == len(learning)


def test_a_run_in_which_nothing_learns_is_refused():
    with pytest.raises(UserError, match="no weight is trained"):
        make("text", unet_trainable="none").configure_optimizers()


def test_an_unknown_part_of_the_unet_is_refused():
    with pytest.raises(UserError, match="attn, conv_in"):
        make("text", unet_trainable="everything")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_looked_at_while_it_trains(kind):
    model = make(kind).eval()
    light = {
        **light_settings(model, batch()),
        "ddim_steps": 2,
        "inpaint": True,
        "plot_denoise_rows": True,
    }
    shown = model.log_images(batch(), N=2, **light)
    assert {"reconstruction", "samples", "denoise_row", "samples_outpainting"} <= set(shown)
    seen = {"conditioning", "original_conditioning"} & set(shown)
    assert bool(seen) == (kind not in ("none", "tokens"))
    assert all(value.isfinite().all() for value in shown.values())


def test_a_class_outside_the_table_is_told_with_the_table_s_size():
    with pytest.raises(UserError, match="classes 0 to 5 given; n_classes is 5"):
        make("class").get_learned_conditioning({"class_label": torch.tensor([0, 5])})


@torch.no_grad()
def test_latents_of_a_codebook_are_snapped_unless_they_are_to_stay_and_can_be_given_as_scores():
    torch.manual_seed(0)
    params = {**family_config("vq")["model"]["params"], "scale_factor": 1.0}
    model = LatentDiffusion(**params).eval()
    codebook = model.first_stage_model.quantize.embedding.weight  # (16, 4)
    indices = torch.randint(0, 16, (2, 8, 8))
    exact = codebook[indices].permute(0, 3, 1, 2)
    near = exact + 5e-3 * torch.randn_like(exact)
    picture = model.decode_first_stage(exact, force_not_quantize=True)
    assert torch.allclose(model.decode_first_stage(near), picture, atol=1e-3)
    stayed = model.decode_first_stage(near, force_not_quantize=True)
    assert not torch.allclose(stayed, picture, atol=1e-2)
    scores = torch.nn.functional.one_hot(indices, 16).permute(0, 3, 1, 2).float()
    assert torch.allclose(model.decode_first_stage(scores, predict_cids=True), picture, atol=1e-3)


def test_the_first_rows_of_a_batch_are_taken_however_deep_they_lie():
    data = {
        "jpg": torch.arange(3),
        "txt": ["a", "b", "c"],
        "edit": {"c_concat": torch.arange(3), "deeper": {"c_crossattn": ("a", "b", "c")}},
        "scale": torch.tensor(0.5),
        "name": "a set",
        "number": 7,
    }
    rows = first_rows(data, 2, torch.device("cpu"))
    assert rows["jpg"].tolist() == rows["edit"]["c_concat"].tolist() == [0, 1]
    assert (rows["txt"], rows["edit"]["deeper"]["c_crossattn"]) == (["a", "b"], ("a", "b"))
    assert (rows["scale"].item(), rows["name"], rows["number"]) == (0.5, "a set", 7)
    assert len(first_rows(data, None, torch.device("cpu"))["edit"]["c_concat"]) == 3


def test_a_batch_with_nested_entries_trains_and_is_shown():
    model = make("text")
    data = {**batch(), "edit": {"c_concat": torch.zeros(2)}}
    assert model.training_step(data, 0).isfinite()
    assert "inputs" in model.log_images(data, N=1, sample=False, plot_progressive_rows=False)
