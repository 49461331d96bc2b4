"""Names here and in diffusers: a bijection that diffusers' own modules accept strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden_keys import V1, recorded_keys

from ldm.checkpoint.diffusers import keymaps, text_keymaps
from ldm.config import load_config
from ldm.errors import UserError
from ldm.util import instantiate_from_config

ROOT = Path(__file__).resolve().parents[4]

V1_UNET = {"channel_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attention_resolutions": [4, 2, 1]}
UNETS = {
    "v1": V1_UNET,
    "attention at the bottom": {**V1_UNET, "attention_resolutions": [8]},
    "attention in the middle": {**V1_UNET, "channel_mult": [1, 2, 3], "attention_resolutions": [2]},
    "one block a level": {**V1_UNET, "channel_mult": [1, 2], "num_res_blocks": 1},
    "three blocks a level": {**V1_UNET, "channel_mult": [1, 1, 2], "num_res_blocks": 3},
    "blocks by level": {**V1_UNET, "channel_mult": [1, 2], "num_res_blocks": [1, 3]},
    "one level": {**V1_UNET, "channel_mult": [1]},
}
VAES = {
    "f8": {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2},
    "f4": {"ch_mult": [1, 2, 4], "num_res_blocks": 1},
    "f2": {"ch_mult": [1, 1], "num_res_blocks": 3},
}


def our_unet(config):
    params = {
        "image_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "num_heads": 4,
        "use_spatial_transformer": True,
        "context_dim": 16,
        "legacy": False,
        **config,
    }
    target = "ldm.modules.diffusionmodules.openaimodel.UNetModel"
    with torch.device("meta"):
        return params, instantiate_from_config({"target": target, "params": params}).state_dict()


def their_unet(config):
    from diffusers import UNet2DConditionModel

    attends = [2**i in config["attention_resolutions"] for i in range(len(config["channel_mult"]))]
    down = ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends]
    up = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)]
    with torch.device("meta"):
        return UNet2DConditionModel(
            block_out_channels=[32 * m for m in config["channel_mult"]],
            layers_per_block=config["num_res_blocks"],
            down_block_types=down,
            up_block_types=up,
            cross_attention_dim=16,
            attention_head_dim=4,
        )


def our_vae(config):
    ddconfig = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 32,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "attn_resolutions": [],
        "dropout": 0.0,
        **config,
    }
    params = {"embed_dim": 4, "ddconfig": ddconfig, "lossconfig": {"target": "torch.nn.Identity"}}
    target = "ldm.models.autoencoder.AutoencoderKL"
    with torch.device("meta"):
        return instantiate_from_config({"target": target, "params": params}).state_dict()


def their_vae(config):
    from diffusers import AutoencoderKL

    levels = len(config["ch_mult"])
    with torch.device("meta"):
        return AutoencoderKL(
            block_out_channels=[32 * m for m in config["ch_mult"]],
            layers_per_block=config["num_res_blocks"],
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            latent_channels=4,
        )


def shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.parametrize("name", UNETS)
def test_diffusers_unet_takes_our_weights_strictly_and_gives_them_back(name):
    params, state = our_unet(UNETS[name])
    translated = keymaps.unet_to_diffusers(state, params)
    theirs = their_unet(UNETS[name])
    assert shapes(translated) == shapes(theirs.state_dict())
    theirs.load_state_dict(translated, strict=True, assign=True)
    back = keymaps.unet_from_diffusers(translated, params)
    assert back.keys() == state.keys()
    assert all(back[key] is state[key] for key in state)


@pytest.mark.parametrize("name", VAES)
def test_diffusers_autoencoder_takes_our_weights_strictly_and_gives_them_back(name):
    state = our_vae(VAES[name])
    translated = keymaps.vae_to_diffusers(state, VAES[name])
    theirs = their_vae(VAES[name])
    assert shapes(translated) == shapes(theirs.state_dict())
    theirs.load_state_dict(translated, strict=True, assign=True)
    assert shapes(keymaps.vae_from_diffusers(translated, VAES[name])) == shapes(state)


def test_the_full_v1_checkpoint_has_a_counterpart_for_every_key():
    config = load_config(ROOT / "configs/stable-diffusion/v1-inference.yaml").model.params
    official = recorded_keys()[V1]
    state = {name: torch.empty(shape, device="meta") for name, shape in official.items()}
    parts = keymaps.split_parts(state)
    unet = keymaps.unet_to_diffusers(parts["unet"], config.unet_config.params)
    vae = keymaps.vae_to_diffusers(parts["vae"], config.first_stage_config.params.ddconfig)
    text = text_keymaps.clip_to_transformers(parts["text_encoder"])
    assert (len(unet), len(vae), len(text)) == (686, 248, 196)
    assert unet["up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k.weight"].shape == (
        320,
        768,
    )
    assert vae["decoder.mid_block.attentions.0.to_out.0.weight"].shape == (512, 512)
    assert "text_model.encoder.layers.11.mlp.fc2.weight" in text
    joined = keymaps.join_parts(parts)
    assert joined.keys() == {name for name in official if "." in name}


def test_values_survive_the_round_trip_of_an_autoencoders_attention():
    config = {"ch_mult": [1], "num_res_blocks": 1}
    state = {
        "decoder.mid.attn_1.q.weight": torch.randn(8, 8, 1, 1),
        "decoder.mid.attn_1.proj_out.weight": torch.randn(8, 8, 1, 1),
        "decoder.mid.attn_1.q.bias": torch.randn(8),
        "quant_conv.weight": torch.randn(8, 8, 1, 1),
    }
    for old_names in (False, True):
        translated = keymaps.vae_to_diffusers(state, config, old_names=old_names)
        name = "query" if old_names else "to_q"
        value = translated[f"decoder.mid_block.attentions.0.{name}.weight"]
        assert torch.equal(value, state["decoder.mid.attn_1.q.weight"][:, :, 0, 0])
        assert translated["quant_conv.weight"].shape == (8, 8, 1, 1)
        back = keymaps.vae_from_diffusers(translated, config)
        assert back.keys() == state.keys()
        assert all(torch.equal(back[key], state[key]) for key in state)


def test_attention_inside_the_levels_of_an_autoencoder_is_named_too():
    config = {"ch_mult": [1, 1, 2], "num_res_blocks": 2}
    state = {
        "encoder.down.2.attn.1.k.weight": torch.zeros(8, 8, 1, 1),
        "decoder.up.2.attn.2.norm.weight": torch.zeros(8),
        "decoder.up.1.upsample.conv.weight": torch.zeros(8, 8, 3, 3),
    }
    assert shapes(keymaps.vae_to_diffusers(state, config)) == {
        "encoder.down_blocks.2.attentions.1.to_k.weight": (8, 8),
        "decoder.up_blocks.0.attentions.2.group_norm.weight": (8,),
        "decoder.up_blocks.1.upsamplers.0.conv.weight": (8, 8, 3, 3),
    }


@pytest.mark.parametrize("flat", [False, True])
def test_text_encoder_names_of_every_transformers_release_are_read(flat):
    ours = {
        "transformer.text_model.embeddings.token_embedding.weight": torch.zeros(4, 2),
        "transformer.text_model.final_layer_norm.bias": torch.zeros(2),
    }
    theirs = text_keymaps.clip_to_transformers(ours, flat=flat)
    assert all(name.startswith("text_model.") != flat for name in theirs)
    theirs["text_model.embeddings.position_ids"] = torch.arange(77)
    assert shapes(text_keymaps.clip_from_transformers(theirs)) == shapes(ours)


def test_a_weight_without_a_place_is_an_error_that_names_it():
    params, state = our_unet(UNETS["one block a level"])
    with pytest.raises(UserError, match=r"input_blocks\.9\.0\.in_layers\.0\.weight"):
        keymaps.unet_to_diffusers({**state, "input_blocks.9.0.in_layers.0.weight": None}, params)


@pytest.mark.parametrize("odd", [{"use_spatial_transformer": False}, {"resblock_updown": True}])
def test_a_unet_without_counterpart_is_an_error(odd):
    with pytest.raises(UserError, match="no counterpart"):
        keymaps.unet_table({**V1_UNET, "use_spatial_transformer": True, **odd})


def official_v1() -> dict[str, torch.Tensor]:
    official = recorded_keys()[V1]
    return {name: torch.empty(shape, device="meta") for name, shape in official.items()}


def test_a_v1_checkpoint_splits_into_the_forks_halves_and_joins_again():
    state = official_v1()
    halves = keymaps.split_unet(state)
    count = {p: sum(n.startswith(f"{p}.") for n in halves) for p in ("model", "model1", "model2")}
    assert count["model"] == 0 and count["model1"] + count["model2"] == 686
    assert halves.keys() - state.keys() == {n for n in halves if n.startswith("model")}
    joined = keymaps.join_unet(halves)
    assert list(joined) == list(state)
    assert all(joined[name] is state[name] for name in state)


@pytest.mark.parametrize(
    ("part", "half"),
    [
        ("time_embed.0.weight", "model1"),
        ("label_emb.weight", "model1"),
        ("input_blocks.11.0.in_layers.0.weight", "model1"),
        ("middle_block.1.proj_in.weight", "model1"),
        ("output_blocks.0.0.in_layers.0.weight", "model2"),
        ("out.2.bias", "model2"),
    ],
)
def test_each_part_of_the_unet_has_its_half(part, half):
    split = keymaps.split_unet({f"model.diffusion_model.{part}": 1, "betas": 2})
    assert split == {f"{half}.diffusion_model.{part}": 1, "betas": 2}


def test_a_weight_of_neither_half_is_an_error_that_names_it():
    with pytest.raises(UserError, match=r"model\.diffusion_model\.outward\.weight"):
        keymaps.split_unet({"model.diffusion_model.outward.weight": 1})


@pytest.mark.parametrize("config", UNETS.values(), ids=UNETS)
def test_modules_are_named_as_their_weights_are(config):
    params, state = our_unet(config)
    names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    weights = keymaps.unet_to_diffusers({f"{name}.weight": name for name in names}, params)
    expected = {name: theirs.removesuffix(".weight") for theirs, name in weights.items()}
    table = keymaps.unet_table(params)
    assert keymaps.module_names([*names, "label_emb.0.0"], table) == expected
