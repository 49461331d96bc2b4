"""Names of every dialect mean the same layers; what is not used is said by name."""

from __future__ import annotations

import json
from pathlib import Path

import lora_files
import pytest
import torch
from safetensors.torch import load_file

from ldm.adapters.lora import new_lora, read_lora
from ldm.adapters.lora.places import Places
from ldm.checkpoint.load import _NoInitialisation
from ldm.config import build, load_config
from ldm.errors import UserError

V1 = Path(__file__).resolve().parents[4] / "configs" / "stable-diffusion" / "v1-inference.yaml"


@pytest.fixture(scope="module")
def places(model):
    return list(Places(model))


def own_name(model, place):
    """The layer's name in CompVis's UNet."""
    unet = model.model.diffusion_model
    return next(n for n, m in unet.named_modules() if m is place.module)


def renamed(tensors, names):
    """Tensors of a kohya file under other names of their layers."""
    found = {}
    for key, value in tensors.items():
        stem, _, end = key.partition(".")
        if stem in names:
            found[f"{names[stem]}.{end}"] = value
    return found


def only(files, prefix):
    return {n: v for n, v in load_file(files[0]).items() if n.startswith(prefix)}


@pytest.fixture
def assert_same(files, tmp_path, predict, model):
    """A function: two sets of tensors, of two dialects, that should act alike."""

    def check(first, second, form, metadata=None):
        found = []
        for number, tensors in enumerate((first, second)):
            header = metadata if number else None
            path = lora_files.save(tensors, tmp_path / f"{number}.safetensors", header)
            lora = read_lora(path, model)
            assert not lora.report.unused
            with lora.attach(model):
                found.append(predict(model))
        assert torch.equal(*found)
        assert lora.report.form == form

    return check


def test_kohya_with_compvis_names_means_the_same_layers(files, places, model, assert_same):
    names = {p.flat: own_name(model, p) for p in places if p.part == "unet"}
    flat = {stem: f"lora_unet_{name.replace('.', '_')}" for stem, name in names.items()}
    tensors = only(files, "lora_unet_")
    assert len(set(flat.values())) == len(flat)
    assert_same(tensors, renamed(tensors, flat), "kohya (CompVis's names)")


@pytest.mark.parametrize("prefix", ["", "base_model.model.", "base_model.model.unet.", "unet."])
def test_peft_names_mean_the_same_layers(prefix, files, places, assert_same):
    names = {p.flat: prefix + p.name for p in places if p.part == "unet"}
    tensors = only(files, "lora_unet_")
    ends = {"lora_down": "lora_A", "lora_up": "lora_B.default_0"}
    peft = renamed({n: v for n, v in tensors.items() if "alpha" not in n}, names)
    for before, now in ends.items():
        peft = {name.replace(before, now): value for name, value in peft.items()}
    header = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 1.0, "unet.r": 2})}
    assert_same(tensors, peft, "peft", header)


def test_comfyui_names_mean_the_same_layers(files, places, model, assert_same):
    names = {
        p.flat: f"diffusion_model.{own_name(model, p)}"
        if p.part == "unet"
        else f"text_encoders.clip_l.transformer.{p.name}"
        for p in places
    }
    tensors = load_file(files[0])
    assert_same(tensors, renamed(tensors, names), "kohya")


def test_a_bias_beside_a_pair_is_not_taken_for_one_of_the_pair(tmp_path):
    tensors = {f"unet.a.lora_{n}.weight": torch.ones(2, 2) for n in "AB"}
    tensors["unet.a.lora_B.bias"] = torch.ones(2)
    lora = read_lora(lora_files.save(tensors, tmp_path / "a.safetensors"))
    assert lora.report.unused == ["unet.a.lora_B.bias"]


def test_peft_configuration_beside_its_file_has_the_alpha(files, places, tmp_path):
    names = {p.flat: f"base_model.model.{p.name}" for p in places if p.part == "unet"}
    tensors = {n: v for n, v in only(files, "lora_unet_").items() if "alpha" not in n}
    path = lora_files.save(renamed(tensors, names), tmp_path / "adapter_model.safetensors")
    assert read_lora(path).report.alphas == [2.0]  # the rank, where nobody says another
    config = {"lora_alpha": 16, "use_rslora": True, "alpha_pattern": {"attn1.to_q": 4}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    lora = read_lora(path)
    assert lora.report.alphas == [4.0, 16.0]
    factors = {round(change.delta.factor, 4) for change in lora.changes.values()}
    assert factors == {round(16 / 2**0.5, 4), round(4 / 2**0.5, 4)}


def numbered(model, layers):
    """cloneofsimo's order, spelled out by hand for the narrow UNet."""
    ways = ("down_blocks.1", "up_blocks.0", "mid_block")
    found = []
    for way in ways:
        blocks = 2 if way.startswith("up") else 1
        for number in range(blocks):
            stem = f"lora_unet_{way}.attentions.{number}.transformer_blocks.0.".replace(".", "_")
            found += [stem + layer.replace(".", "_") for layer in layers]
    return found


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
BLOCK = [
    *(f"attn1.{n}" for n in ATTENTION),
    "ff.net.0.proj",
    *(f"attn2.{n}" for n in ATTENTION),
]


def as_numbers(tensors, stems, prefix):
    found = {}
    for number, stem in enumerate(stems):
        for end, role in (("lora_up.weight", "up"), ("lora_down.weight", "down")):
            found[f"{prefix}:{number}:{role}"] = tensors[f"{stem}.{end}"]
    return found


@pytest.mark.parametrize("layers", [BLOCK, [n for n in BLOCK if "ff" not in n]])
def test_the_numbers_of_cloneofsimo_mean_layers_in_order(layers, files, model, assert_same):
    stems = numbered(model, layers)
    own = load_file(files[0])
    text = "lora_te_text_model_encoder_layers_0_self_attn_"
    words = [f"{text}{n}_proj" for n in ("k", "v", "q", "out")]
    plain = {
        n: v for n, v in own.items() if n.split(".")[0] in {*stems, *words} and "al" not in n[-5:]
    }
    numbers = as_numbers(own, stems, "unet") | as_numbers(own, words, "text_encoder")
    assert_same(plain, numbers, "cloneofsimo")


def test_the_list_of_cloneofsimo_is_read(files, tmp_path, predict, model):
    stems, own = numbered(model, BLOCK), load_file(files[0])
    pairs = [(own[f"{s}.lora_up.weight"], own[f"{s}.lora_down.weight"]) for s in stems]
    torch.save([each for pair in pairs for each in pair], tmp_path / "a.pt")
    plain = lora_files.save(
        {n: v for n, v in own.items() if n.split(".")[0] in stems and not n.endswith("alpha")},
        tmp_path / "b.safetensors",
    )
    lora = read_lora(tmp_path / "a.pt", model)
    assert (lora.report.modules, lora.report.form) == (len(stems), "cloneofsimo")
    with lora.attach(model):
        found = predict(model)
    with read_lora(plain).attach(model):
        assert torch.equal(predict(model), found)


def test_open_clips_joined_projection_is_changed_in_its_rows(files, model_v2, tmp_path):
    stem = "lora_te_text_model_encoder_layers_1_self_attn_k_proj"
    tensors = {n: v for n, v in load_file(files[3]).items() if n.startswith(stem)}
    path = lora_files.save(tensors, tmp_path / "a.safetensors")
    layer = model_v2.cond_stage_model.model.transformer.resblocks[1].attn
    before = layer.in_proj_weight.detach().clone()
    with read_lora(path).attach(model_v2, merge=True):
        changed = (layer.in_proj_weight != before).any(dim=1)
    width = len(before) // 3
    assert changed.nonzero().flatten().tolist() == list(range(width, 2 * width))


def test_the_report_says_what_the_file_is_and_what_is_not_used(files, tmp_path, model):
    tensors = load_file(files[0]) | {
        "lora_unet_up_blocks_9_attentions_0_proj_in.lora_down.weight": torch.ones(2, 3),
        "lora_unet_up_blocks_9_attentions_0_proj_in.lora_up.weight": torch.ones(3, 2),
        "lora_unet_conv_out.nonsense": torch.ones(1),
        "lora_unet_nowhere.alpha": torch.ones(1),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.diff_b": torch.ones(64),
    }
    path = lora_files.save(tensors, tmp_path / "style.safetensors")
    report = read_lora(path, model).report
    assert report.summary() == (
        "LoRA 'style.safetensors', kohya format, made for models of context width 32, rank 2, "
        f"alpha 1 to 2, {len(list(load_file(files[0]))) // 3} modules"
    )
    assert sorted(report.unused) == sorted(n for n in tensors if n not in load_file(files[0]))
    assert "5 keys are not used" in report.warnings()[0]


def test_a_file_for_another_family_is_refused_in_one_line(files, tmp_path, model):
    wide = {
        n: torch.ones(2, 768) if "attn2_to_k.lora_down" in n else v
        for n, v in load_file(files[0]).items()
    }
    path = lora_files.save(wide, tmp_path / "a.safetensors")
    assert read_lora(path).report.base == "v1"
    with pytest.raises(UserError, match="made for v1; the model is one of models of context"):
        read_lora(path, model)


def test_a_file_for_a_model_of_other_sizes_names_the_layer(files, tmp_path, model):
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    other = {
        f"{stem}.lora_down.weight": torch.ones(2, 48),
        f"{stem}.lora_up.weight": torch.ones(48, 2),
    }
    path = lora_files.save(load_file(files[0]) | other, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=f"does not fit the model: '{stem}' changes another shape"):
        read_lora(path).attach(model)


def test_the_full_v1_model_has_kohyas_264_layers_and_diffusers_names():
    with torch.device("meta"), _NoInitialisation():
        v1 = build(load_config(V1)).eval()
    lora = new_lora(v1, 1)
    unet = [name for name in lora.layers if name.startswith("lora_unet_")]
    assert (len(unet), len(lora.layers), lora.base) == (192, 264, "v1")
    assert "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj" in unet
    assert "lora_te_text_model_encoder_layers_11_mlp_fc2" in lora.layers
    handle = lora.attach(v1)
    assert len(handle.bounds) == 264
    handle.detach()
