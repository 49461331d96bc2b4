"""Texts in boxes: where GLIGEN acts, for which rows, and that it leaves no trace.

Parity is with diffusers' gated UNet on random weights; 1e-5 is float32 rounding.
"""

from __future__ import annotations

import pytest
import torch
from narrow_models import narrow_model
from peer_unet import STEPS, peer_draw, peer_of
from safetensors.torch import save_file
from tiny_model import CONFIG

from ldm.adapters.gligen import new_gligen, read_gligen, write_gligen
from ldm.adapters.gligen.adapter import Gligen, blocks_of
from ldm.adapters.gligen.boxes import MOST, pooled
from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.modules.attention_control.moments import LISTENERS

BOXES = [("a cat", (0.1, 0.2, 0.5, 0.9)), ("a red ball", (0.5, 0.0, 1.0, 0.4))]


@pytest.fixture(scope="module")
def model():
    return narrow_model(CONFIG)


@pytest.fixture(scope="module")
def gligen(model):
    return random_gligen(model)


def random_gligen(model):
    adapter = new_gligen(model).requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for name, value in adapter.named_parameters():
        norm = name.endswith(("norm1.weight", "norm2.weight"))
        value.copy_(torch.randn(value.shape, generator=generator) * 0.1 + norm)
        if "alpha" in name:
            value.fill_(0.7)
    return adapter


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, 8, 8, generator=generator)
    return x, *torch.randn(2, 1, 77, 32, generator=generator)


@torch.no_grad()
def eps(model, inputs, rows=1):
    x, _, cond = inputs
    x, cond = x.repeat(rows, 1, 1, 1), cond.repeat(rows, 1, 1)
    return model.apply_model(x, torch.full((rows,), 400), cond)


def draw(model, inputs, scale=3.0, pictures=1):
    x, uncond, cond = (each.repeat(pictures, *[1] * (each.ndim - 1)) for each in inputs)
    options = {"unconditional_conditioning": uncond, "unconditional_guidance_scale": scale}
    sampler = DDIMSampler(model)
    return sampler.sample(STEPS, pictures, (4, 8, 8), cond, x_T=x, verbose=False, **options)[0]


def test_boxes_change_the_drawing_and_detaching_restores_it_bitwise(model, gligen, inputs):
    before, keys = eps(model, inputs), list(model.state_dict())
    with gligen.attach(model, BOXES) as handle:
        changed = eps(model, inputs)
        assert not torch.allclose(changed, before, atol=1e-4)
        assert list(model.state_dict()) == keys
        handle.place([("a cat", (0.2, 0.2, 0.5, 0.9)), BOXES[1]])
        assert not torch.allclose(eps(model, inputs), changed, atol=1e-5)
        handle.scale = 0.0
        assert torch.equal(eps(model, inputs), before)
    assert torch.equal(eps(model, inputs), before)
    assert not LISTENERS and not any("between" in vars(each) for each in model.modules())


def test_a_new_one_changes_nothing_to_the_bit(model, inputs):
    before = eps(model, inputs)
    with new_gligen(model).attach(model, BOXES):
        assert torch.equal(eps(model, inputs), before)


def test_it_acts_in_the_first_share_of_the_steps_rounded_down(model, gligen, inputs):
    without = draw(model, inputs)
    with gligen.attach(model, BOXES, scheduled_sampling=0.24):  # less than one of four steps
        assert torch.equal(draw(model, inputs), without)
    with gligen.attach(model, BOXES, scheduled_sampling=0.6):
        two = draw(model, inputs)
    with gligen.attach(model, BOXES, 1.0, lambda moment: float(moment.number < 2)):
        assert torch.equal(draw(model, inputs), two)
    assert not torch.allclose(two, without, atol=1e-4)


def test_unconditional_rows_see_no_boxes(model, gligen, inputs):
    with gligen.attach(model, BOXES, 1.0):
        one, guided = draw(model, inputs, scale=0.0), draw(model, inputs)
    with gligen.attach(model, BOXES[:1], 1.0):
        assert torch.equal(draw(model, inputs, scale=0.0), one)
        assert not torch.allclose(draw(model, inputs), guided, atol=1e-4)


def test_each_sample_may_have_boxes_of_its_own_also_where_rows_come_in_parts(model, gligen, inputs):
    from ldm.offload.rows import in_rows

    with gligen.attach(model, BOXES, 1.0):
        alone = draw(model, inputs)
    apply = model.apply_model
    with gligen.attach(model, [[], BOXES], 1.0):
        whole = draw(model, inputs, pictures=2)
        model.apply_model = lambda x, t, c: in_rows(apply, 1, x, t, c)
        try:
            parts = draw(model, inputs, pictures=2)
        finally:
            del model.apply_model
        with pytest.raises(UserError, match="boxes are given for 2 samples"):
            eps(model, inputs, rows=3)
    assert torch.allclose(whole[1:], alone, atol=1e-4)
    assert not torch.allclose(whole[:1], alone, atol=1e-3)
    assert torch.allclose(parts, whole, atol=1e-4)


@pytest.mark.parametrize("policy", ["four-part", "stream"])
def test_a_plan_of_devices_draws_the_same(policy, model, gligen, inputs):
    from ldm.offload.plan import PlanSettings, StagePlan

    with gligen.attach(model, BOXES, 1.0) as handle:
        expected = draw(model, inputs)
        plan = StagePlan(model, PlanSettings(policy, unet_rows=1), torch.device("cpu")).attach()
        try:
            handle.place(BOXES)
            assert torch.allclose(draw(model, inputs), expected, atol=1e-4)
        finally:
            plan.detach()


def test_half_precision_draws_with_it(gligen, inputs):
    half = narrow_model(CONFIG)
    half.model.diffusion_model.to(torch.bfloat16)
    with gligen.attach(half, BOXES):
        assert eps(half, inputs).isfinite().all()
    assert gligen.position_net.linears[0].weight.dtype == torch.float32


def test_its_weights_learn(model, gligen, inputs):
    with gligen.attach(model, BOXES):
        target = eps(model, inputs)
    adapter, losses = new_gligen(model), []
    optimizer = torch.optim.Adam(adapter.parameters(), lr=1e-2)
    with adapter.attach(model) as handle:
        for _ in range(15):
            handle.place(BOXES)
            loss = (model.apply_model(inputs[0], torch.tensor([400]), inputs[2]) - target).square()
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            losses.append(loss.mean().item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_texts_feature_is_the_last_layers_state_at_its_end(model):
    found = pooled(model, ["a cat", "a much longer text"])
    states = model.cond_stage_model.encode(["a cat"])
    assert torch.equal(found[0], states[0, 3])  # start, a, cat, end
    assert not torch.allclose(found[0], found[1])


def peer_with(model, adapter):
    peer = peer_of(model, attention_type="gated")
    fusers = {n.removesuffix(".linear"): m for n, m in peer.named_modules() if "fuser.linear" in n}
    order = [n for half in ("down", "mid", "up") for n in fusers if n.startswith(half)]
    own = peer.state_dict()
    for name, fuser in zip(order, adapter.fusers, strict=True):
        own |= {f"{name}.{n}": v for n, v in fuser.state_dict().items()}
    own |= {f"position_net.{n}": v for n, v in adapter.position_net.state_dict().items()}
    peer.load_state_dict(own)
    return peer


@torch.no_grad()
def test_eps_and_a_drawing_are_diffusers(model, gligen, inputs):
    peer, (x, uncond, cond) = peer_with(model, gligen), inputs
    boxes, features, masks = torch.zeros(2, 30, 4), torch.zeros(2, 30, 32), torch.zeros(2, 30)
    boxes[:, :2] = torch.tensor([corners for _, corners in BOXES])
    features[:, :2] = pooled(model, [text for text, _ in BOXES])
    masks[1, :2] = 1
    more = {"boxes": boxes, "positive_embeddings": features, "masks": masks}

    def theirs(x, t):
        both = torch.cat([uncond, cond])
        return peer(x, t, both, cross_attention_kwargs={"gligen": dict(more)}).sample

    with gligen.attach(model, BOXES, 1.0):
        ours, drawn = eps(model, inputs), draw(model, inputs)
    expected = theirs(torch.cat([x, x]), torch.tensor([400, 400]))[1:]
    assert (ours - expected).abs().max() < 1e-5
    assert (drawn - peer_draw(theirs, x, 3.0)).abs().max() < 1e-4


LAYOUTS = ("ours", "prefixed", "released", "diffusers")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_as_the_same(layout, model, gligen, inputs, tmp_path):
    path = tmp_path / "a.safetensors"
    write_gligen(gligen, path)
    from safetensors.torch import load_file

    state = load_file(path)
    if layout == "prefixed":
        save_file({f"model.diffusion_model.{n}": v for n, v in state.items()}, path)
    if layout == "released":
        base = model.model.diffusion_model.state_dict()
        path = tmp_path / "a.pth"
        torch.save({"model": base | state, "autoencoder": {"x": torch.ones(1)}}, path)
    if layout == "diffusers":
        path = tmp_path / "folder"
        peer_with(model, gligen).save_pretrained(path / "unet")
    read = read_gligen(path)
    with gligen.attach(model, BOXES):
        expected = eps(model, inputs)
    with read.attach(model, BOXES):
        assert torch.allclose(eps(model, inputs), expected, atol=1e-6)
    assert not read.report.unused and read.report.modules == 4
    assert bool(read.report.notes) == (layout in ("released", "diffusers"))


def test_blocks_are_in_the_order_in_which_they_compute_not_in_the_alphabets(gligen, tmp_path):
    """Stable Diffusion has output_blocks.3 ... 11."""
    places = ["output_blocks.11.1", "input_blocks.8.1", "output_blocks.3.1", "middle_block.1"]
    names = [f"{place}.transformer_blocks.0" for place in places]
    moved = Gligen(gligen.position_net, list(gligen.fusers), names, gligen.report)
    write_gligen(moved, tmp_path / "a.safetensors")
    assert read_gligen(tmp_path / "a.safetensors").names == [names[i] for i in (1, 3, 2, 0)]


def test_what_it_writes_it_reads_with_the_same_names(gligen, model, tmp_path):
    write_gligen(gligen, tmp_path / "a.safetensors")
    assert read_gligen(tmp_path / "a.safetensors").names == list(blocks_of(model))


FAULTS = {
    "no fusers": (lambda s: {n: v for n, v in s.items() if "fuser" not in n}, "is no GLIGEN"),
    "a LoRA": (lambda s: {"lora_unet_x.lora_up.weight": torch.ones(1)}, "is no GLIGEN"),  # noqa: ARG005
    "no net": (lambda s: {n: v for n, v in s.items() if "fuser" in n}, "is no GLIGEN"),
    "text and picture": (
        lambda s: {n.replace("linears.", "linears_text."): v for n, v in s.items()},
        "texts and pictures in boxes",
    ),
    "key points": (
        lambda s: {n.replace("null_position_feature", "person"): v for n, v in s.items()},
        "made for another input",
    ),
    "cross-attention": (
        lambda s: {n: v for n, v in s.items() if "fuser.linear" not in n},
        "is not whole",
    ),
    "a shape": (
        lambda s: s | {"position_net.linears.2.weight": torch.ones(3, 3)},
        "does not fit together",
    ),
    "a missing norm": (
        lambda s: {n: v for n, v in s.items() if not n.endswith("fuser.norm2.bias")},
        "does not fit together",
    ),
    "NaN": (
        lambda s: s | {"position_net.linears.2.bias": torch.full((512,), float("nan"))},
        "NaN or infinite",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_refused_in_one_line(fault, gligen, tmp_path):
    change, words = FAULTS[fault]
    write_gligen(gligen, tmp_path / "a.safetensors")
    from safetensors.torch import load_file

    save_file(change(load_file(tmp_path / "a.safetensors")), tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=words) as error:
        read_gligen(tmp_path / "wrong.safetensors")
    assert "\n" not in str(error.value)


def test_a_folder_without_a_unet_is_refused(tmp_path):
    with pytest.raises(UserError, match="is a folder without unet"):
        read_gligen(tmp_path)


def test_the_gligen_of_other_models_is_refused(model, gligen, inputs):
    other = narrow_model(CONFIG)
    del other.model.diffusion_model.middle_block[1]
    with pytest.raises(UserError, match="a UNet of 4 other blocks"):
        gligen.attach(other, BOXES)
    assert not any("between" in vars(each) for each in other.modules())


@pytest.mark.parametrize(
    "boxes",
    [
        [("a cat", (0.5, 0.2, 0.1, 0.9))],
        [("a cat", (0.1, 0.2, 0.5))],
        [("a cat", (0, 0, 512, 512))],
        [("a cat",)],
        ["a cat"],
        [(3, (0, 0, 1, 1))],
        [("a cat", "0.1 0.2 0.5 0.9")],
        [("a cat", (0, 0, float("nan"), 1))],
    ],
)
def test_a_malformed_box_is_refused_in_one_line(boxes, model, gligen):
    with pytest.raises(UserError, match="is given as a box") as error:
        gligen.attach(model, boxes)
    assert "\n" not in str(error.value) and not LISTENERS


def test_more_boxes_than_it_learned_with_are_refused(model, gligen):
    with pytest.raises(UserError, match="31 boxes are given"):
        gligen.attach(model, BOXES[:1] * (MOST + 1))
