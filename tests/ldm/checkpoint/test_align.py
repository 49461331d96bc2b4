"""Files that are a model's up to names, nesting or axes of length 1 fill it to the bit."""

from __future__ import annotations

import itertools

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from tiny_model import CONFIG

from ldm.checkpoint.align import align, nearest, same_but_for_ones
from ldm.checkpoint.diffusers.keymaps import VAE_ATTENTION as TODAY
from ldm.checkpoint.diffusers.keymaps import VAE_ATTENTION_OLD
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.load import load_component, load_model, load_weights
from ldm.checkpoint.matching import of_part
from ldm.checkpoint.names import VAE_ATTENTION, ema_name
from ldm.config import build
from ldm.errors import UserError

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."


@pytest.fixture(scope="module")
def config():
    return OmegaConf.create(CONFIG)


@pytest.fixture(scope="module")
def model(config):
    return build(config)


@pytest.fixture(scope="module")
def state(model):
    """The values that files hold: random weights, and the model's own schedule."""
    draws = torch.Generator().manual_seed(5)
    return {
        n: torch.randn(v.shape, generator=draws) if "." in n else v.clone()
        for n, v in model.state_dict().items()
    }


def assert_filled(model, state):
    loaded = model.state_dict()
    assert set(loaded) == set(state)
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def assert_fills(model, content, state, **options):
    """Check that tensors fill a model, whose weights are emptied before."""
    for parameter in model.parameters():
        parameter.data.zero_()
    report = load_weights(model, content, **options)
    assert_filled(model, state)
    assert set(report.missing) <= {"schedule"}
    return report


def save(content, path):
    torch.save(content, path)
    return path


def prefixed(prefix):
    return lambda state: {prefix + name: value for name, value in state.items()}


def moved(old, new):
    def move(state):
        return {new + n.removeprefix(old) if n.startswith(old) else n: v for n, v in state.items()}

    return move


def within(segment, place):
    """Put a segment after a prefix, as torch.compile and DDP of one part do."""
    return moved(place, f"{place}{segment}.")


def attention(spelling):
    def spell(state):
        def own(name):
            pieces = name.split(".")
            if "attn_1" in pieces or "attn" in pieces:
                pieces[-2] = spelling.get(pieces[-2], pieces[-2])
            return ".".join(pieces)

        return {own(name): value for name, value in state.items()}

    return spell


def reshaped(marks, change):
    """Change the axes of the weights whose names have one of some marks."""

    def reshape(state):
        return {
            n: change(v) if n.endswith("weight") and any(m in n for m in marks) else v
            for n, v in state.items()
        }

    return reshape


def squeezed(value):
    return value.reshape([n for n in value.shape if n != 1])


PROJECTIONS = ("attn_1.q.", "attn_1.k.", "attn_1.v.", "attn_1.proj_out.")
SPELLINGS = {
    "module.": prefixed("module."),
    "_orig_mod.": prefixed("_orig_mod."),
    "module._orig_mod.": prefixed("module._orig_mod."),
    "_forward_module.": prefixed("_forward_module."),
    "model. twice": prefixed("model."),
    "state_dict.": prefixed("state_dict."),
    "model.module.": prefixed("model.module."),
    "an unheard-of prefix": prefixed("student.net."),
    "ema.": prefixed("ema."),
    "UNet compiled": within("_orig_mod", UNET),
    "UNet in DDP": within("module", "model."),
    "VAE compiled": within("_orig_mod", f"{VAE}decoder."),
    "UNet without model.": moved("model.", ""),
    "UNet as unet.": moved(UNET, "unet."),
    "VAE as vae.": moved(VAE, "vae."),
    "text as text_encoder.": moved(f"{TEXT}transformer.", "text_encoder."),
    "text as in SD XL": moved(TEXT, "conditioner.embedders.0."),
    "text without transformer": moved(f"{TEXT}transformer.", TEXT),
    "text without text_model": moved(f"{TEXT}transformer.text_model.", f"{TEXT}transformer."),
    "to_q": attention({ours: theirs for ours, theirs in TODAY.items()}),
    "query": attention(VAE_ATTENTION_OLD),
    "attention [C,C]": reshaped(PROJECTIONS, squeezed),
    "attention [C,C,1]": reshaped(PROJECTIONS, lambda v: v[..., 0]),
    "proj_in linear": reshaped(("1.proj_in.", "1.proj_out."), squeezed),
    "norms [C,1,1]": reshaped(("norm",), lambda v: v[:, None, None] if v.ndim == 1 else v),
}
AXES = ("attention [C,C]", "attention [C,C,1]", "proj_in linear", "norms [C,1,1]")
# Each alone, and pairs of one about names before and one about what is within.
OUTER = ("module.", "model. twice", "state_dict.", "UNet compiled", "VAE as vae.")
INNER = ("to_q", "query", "attention [C,C]", "proj_in linear", "text without text_model")
PAIRS = [(inner, outer) for inner, outer in itertools.product(INNER, OUTER)]


@pytest.mark.parametrize("spellings", [(name,) for name in SPELLINGS] + PAIRS, ids="+".join)
def test_another_spelling_fills_the_model_to_the_bit(spellings, model, state):
    changed = state
    for name in spellings:
        changed = SPELLINGS[name](changed)
    assert set(changed) != set(state) or spellings[0] in AXES
    assert assert_fills(model, changed, state).warnings() == []


def test_a_safetensors_file_of_another_spelling_fills_the_model_to_the_bit(config, state, tmp_path):
    changed = SPELLINGS["to_q"](SPELLINGS["attention [C,C]"](prefixed("state_dict.")(state)))
    save_file(changed, tmp_path / "a.safetensors")
    model, report = load_model(config, tmp_path / "a.safetensors")
    assert_filled(model, state)
    assert report.found_under["UNet"] == "state_dict."
    assert "found under 'state_dict.'" in report.summary()


NESTINGS = {
    "model": lambda s: {"model": s, "optimizer": {"state": {0: torch.zeros(1)}}, "epoch": 3},
    "module": lambda s: {"module": s, "ds_version": "0.9", "lr_scheduler": None},
    "net": lambda s: {"net": s},
    "model_state_dict": lambda s: {"model_state_dict": s, "loss": torch.tensor(0.1)},
    "params": lambda s: {"params": s},
    "params_ema": lambda s: {"params_ema": s},
    "state_dict twice": lambda s: {"state_dict": {"state_dict": s}},
    "state_dict.model": lambda s: {"state_dict": {"model": s}, "global_step": 7},
    "model.module": lambda s: {"model": prefixed("module.")(s)},
    "an unheard-of name": lambda s: {"generator": s, "optimizer_g": {"w": torch.zeros(1)}},
    "parts": lambda s: {
        part: {n.removeprefix(prefix): v for n, v in s.items() if n.startswith(prefix)}
        for part, prefix in {"unet": UNET, "vae": VAE, "text": TEXT}.items()
    },
    "bare": lambda s: s,
}


@pytest.mark.parametrize("nesting", NESTINGS.values(), ids=NESTINGS)
def test_a_nested_file_fills_the_model_to_the_bit(nesting, model, state, tmp_path):
    content = read_checkpoint(save(nesting(state), tmp_path / "a.ckpt")).tensors
    assert assert_fills(model, content, state).warnings() == []


@pytest.mark.parametrize("key", ["params_ema", "ema", "model_ema", "ema_state_dict"])
def test_averages_nested_beside_the_weights_are_their_averages(key, model, state, tmp_path):
    averages = {name: value + 1 for name, value in state.items() if name.startswith(UNET)}
    weights = "state_dict" if "state" in key else "params"
    path = save({weights: state, key: averages}, tmp_path / "a.ckpt")
    content = read_checkpoint(path).tensors
    assert assert_fills(model, content, state).ema_present
    assert_fills(model, content, {**state, **averages}, use_ema=True)


@pytest.mark.parametrize("spelling", ["module.", "model. twice", "state_dict.", "_orig_mod."])
def test_averages_of_another_spelling_are_found(spelling, config, state, tmp_path):
    averages = {ema_name(n): v + 1 for n, v in state.items() if n.startswith(UNET)}
    path = save(SPELLINGS[spelling]({**state, **averages}), tmp_path / "a.ckpt")
    model, _ = load_model(config, path, use_ema=True)
    assert torch.equal(model.state_dict()[f"{UNET}out.2.bias"], state[f"{UNET}out.2.bias"] + 1)


def test_averages_of_a_compiled_unet_are_found(model, state):
    unet = {name: value + 1 for name, value in state.items() if name.startswith(UNET)}
    compiled = SPELLINGS["UNet compiled"](unet)
    averages = {ema_name(name): value for name, value in compiled.items()}
    assert_fills(model, {**state, **averages}, {**state, **unet}, use_ema=True)


PARTS = {
    "VAE": ("first_stage_config", VAE),
    "text encoder": ("cond_stage_config", TEXT),
}
FILES = {
    "its own": lambda own, _: own,
    "a whole model's": lambda _, whole: whole,
    "a wrapped model's": lambda _, whole: prefixed("module.")(whole),
    "a doubled model's": lambda _, whole: {"state_dict": prefixed("model.")(whole)},
    "its own, compiled": lambda own, _: prefixed("_orig_mod.")(own),
    "its own under vae.": lambda own, _: prefixed("vae.")(own),
    "its own with losses": lambda own, _: {**own, "loss.logvar": torch.zeros(())},
    "its own, to_q": lambda own, _: SPELLINGS["to_q"](own),
    "its own, [C,C]": lambda own, _: SPELLINGS["attention [C,C]"](own),
    "nested": lambda own, _: {"model": own},
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_a_part_loads_from_a_file_of_another_spelling(file, part, config, state, tmp_path):
    section, prefix = PARTS[part]
    own = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    path = save(file(own, state), tmp_path / "a.pt")
    model = build(OmegaConf.create({"model": config.model.params[section]}))
    load_component(model, path, prefix=prefix)
    assert_filled(model, own)


@pytest.mark.parametrize("outer", ["", "module.", "net.", "model."])
def test_a_part_is_taken_from_its_own_place_though_another_is_built_alike(outer):
    first, second = torch.zeros(1), torch.ones(1)
    tensors = {f"{outer}{VAE}encoder.a": first, f"{outer}{TEXT}encoder.a": second}
    assert list(of_part(tensors, VAE).values()) == [first]
    assert list(of_part(tensors, TEXT).values()) == [second]


@pytest.mark.parametrize("there", ["text_model.", "", "transformer.", "clip_l.transformer."])
def test_a_text_encoder_loads_from_a_file_of_transformers(there, config, state, tmp_path):
    inner = f"{TEXT}transformer.text_model."
    own = {n.removeprefix(inner): v for n, v in state.items() if n.startswith(inner)}
    path = save(prefixed(there)(own), tmp_path / "pytorch_model.bin")
    model = build(OmegaConf.create({"model": config.model.params.cond_stage_config}))
    load_component(model, path, prefix=TEXT)
    assert_filled(model, prefixed("transformer.text_model.")(own))


@pytest.mark.parametrize("there", ["diffusion_model.", "", "unet.", "model.model.diffusion_model."])
def test_a_unet_alone_fills_the_model_within_a_diffusion_model(there, model, state, tmp_path):
    own = {n.removeprefix(UNET): v for n, v in state.items() if n.startswith(UNET)}
    path = save(prefixed(there)(own), tmp_path / "unet.pt")
    model.init_from_ckpt(str(path), only_model=True)
    assert all(torch.equal(model.state_dict()[UNET + name], v) for name, v in own.items())


@pytest.mark.parametrize("spelling", ["module.", "model. twice", "state_dict.", "UNet compiled"])
def test_what_adapts_a_files_weights_sees_them_by_the_models_names(
    spelling, model, state, tmp_path
):
    name = f"{UNET}input_blocks.0.0.weight"
    narrow = {**state, name: state[name][:, :3], "logvar": torch.zeros(1)}
    seen = {}

    def widened(tensors):
        seen.update(tensors)
        return {**tensors, name: torch.cat([tensors[name], tensors[name][:, :1]], dim=1)}

    path = save(SPELLINGS[spelling](narrow), tmp_path / "a.ckpt")
    load_component(model, path, prefix="", adapt=widened)
    assert state.keys() <= seen.keys()
    assert torch.equal(model.state_dict()[name][:, :3], state[name][:, :3])


def test_a_part_that_is_there_twice_is_refused_with_both_places(model, state):
    twice = {**prefixed("teacher.")(state), **prefixed("student.")(state)}
    with pytest.raises(UserError, match=r"UNet 2 times, under 'teacher\.', 'student\.'"):
        load_weights(model, twice)


def test_weights_win_over_averages_beside_them(model, state):
    averages = prefixed("ema.")({name: value + 1 for name, value in state.items()})
    assert_fills(model, {**averages, **prefixed("net.")(state)}, state)
    assert_fills(model, {**averages, **state}, state)


@pytest.mark.parametrize("outer", ["", "module.", "net."])
def test_a_part_is_never_taken_for_another_of_the_same_build(outer):
    shapes = {f"{part}{n}": (2,) for part in (VAE, TEXT) for n in ("encoder.a", "decoder.b")}
    held = {outer + name: shape for name, shape in shapes.items()}
    assert align("a", shapes, held).names.items() >= {n: outer + n for n in shapes}.items()
    alone = {name: shape for name, shape in held.items() if TEXT in name}
    assert not any(name.startswith(VAE) for name in align("a", shapes, alone).names)


def test_half_a_part_as_a_controlnet_copies_it_is_not_taken_for_it(model, state):
    whole = {name: value for name, value in state.items() if not name.startswith(UNET)}
    copied = tuple(f"{UNET}{module}" for module in ("time_embed", "input_blocks", "middle_block"))
    half = {name: value for name, value in state.items() if name.startswith(copied)}
    with pytest.raises(UserError, match=r"the UNet is incomplete: (\d+) of \1 keys"):
        load_weights(model, {**whole, **moved(UNET, "control.")(half)})


def test_of_two_places_the_one_that_keeps_more_of_a_name_wins(model, state):
    copy = moved(VAE, "vae.")({n: v + 1 for n, v in state.items() if n.startswith(VAE)})
    assert_fills(model, {**copy, **prefixed("net.")(state)}, state)


def test_a_prefix_with_a_gap_is_refused_by_the_missing_key_alone(model, state):
    gone = f"{UNET}out.2.bias"
    partial = prefixed("net.")({n: v for n, v in state.items() if n != gone})
    with pytest.raises(UserError, match=r"the UNet is incomplete: 1 of \d+ keys.*out\.2\.bias"):
        load_weights(model, partial)


def test_a_refusal_shows_what_the_file_has_beside_what_is_wanted(model, state):
    gone = f"{VAE}decoder.mid.attn_1.q.weight"
    there = gone.replace(".q.", ".query_proj.")
    with pytest.raises(UserError) as refusal:
        load_weights(model, {there if n == gone else n: v for n, v in state.items()})
    shown = f"({gone}); nearest in the file: {there} [32, 32, 1, 1] (expected [32, 32, 1, 1])"
    assert shown in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_refusal_of_quite_another_file_shows_its_first_keys_once(model):
    with pytest.raises(UserError) as refusal:
        load_weights(model, {f"layer{i}": torch.zeros(i) for i in range(9)})
    assert str(refusal.value).count("the file has layer0 [0], layer1 [1], layer2 [2], ...") == 1


def test_other_shapes_are_never_forced(model, state):
    name = f"{VAE}decoder.mid.attn_1.q.weight"
    for value in (torch.zeros(32, 32, 3, 1), torch.zeros(1024), torch.zeros(16, 64, 1, 1)):
        with pytest.raises(UserError, match="another shape"):
            load_weights(model, {**state, name: value})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((8,), (8, 1, 1), True),
        ((8, 8), (8, 8, 1), True),
        ((8, 4), (8, 4, 1, 1), True),
        ((), (1,), True),
        ((1, 8), (8, 1), False),
        ((8, 4), (4, 8, 1, 1), False),
        ((64,), (8, 8), False),
        ((2, 8), (8, 2), False),
    ],
)
def test_axes_of_length_one_may_come_or_go_and_not_move(one, other, same):
    assert same_but_for_ones(one, other) is same
    assert same_but_for_ones(other, one) is same


def test_the_nearest_name_shares_words_and_what_is_unlike_is_not_shown():
    held = {"x.decoder.mid.attn_1.query.weight": (8, 8), "x.decoder.conv_in.weight": (8,)}
    assert nearest("decoder.mid.attn_1.q.weight", (8, 8), held) == next(iter(held))
    assert nearest("betas", (1000,), held) is None
    assert nearest("a", (1,), {}) is None


def test_the_attentions_spellings_are_those_of_the_tables_for_diffusers():
    inverse = {theirs: ours for ours, theirs in (TODAY | {}).items()}
    inverse |= {theirs: ours for ours, theirs in VAE_ATTENTION_OLD.items()}
    assert inverse == VAE_ATTENTION
