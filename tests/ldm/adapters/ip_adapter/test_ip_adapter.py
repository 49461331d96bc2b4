"""Pictures as prompts: what an IP-Adapter adds, and to which rows, beside everything else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ip_files import FEATURES, base_state, full_state, plus_state, write_bin, write_flat
from narrow_models import narrow_model
from PIL import Image
from tiny_model import CONFIG

from ldm.adapters.ip_adapter import new_ip_adapter, read_ip_adapter, write_ip_adapter
from ldm.adapters.ip_adapter.encoders import encoder_of
from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import LISTENERS
from ldm.modules.attention_control.seam import control_attention

STATES = {"base": base_state, "plus": plus_state, "full-face": full_state}


@pytest.fixture(scope="module")
def model():
    return narrow_model(CONFIG)


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))


def look(pictures):
    """Make features of the mean colours of a picture's quarters."""
    return torch.stack([quarters(each).flatten()[:FEATURES] for each in pictures])


def look_closely(pictures):
    return torch.stack([quarters(each).view(3, -1)[:, :FEATURES] for each in pictures])


def quarters(picture):
    pixels = np.asarray(picture.resize((12, 12))).astype(np.float32) / 255
    return torch.from_numpy(pixels)


def adapter_of(kind, folder):
    path = write_flat(folder / f"{kind}.safetensors", STATES[kind]())
    return read_ip_adapter(path, encoder=look if kind == "base" else look_closely)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return adapter_of("base", tmp_path_factory.mktemp("base"))


def eps(model, rows=1):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, 8, 8, generator=generator).repeat(rows, 1, 1, 1)
    context = torch.randn(1, 77, 32, generator=generator).repeat(rows, 1, 1)
    with torch.no_grad():
        return model.apply_model(x, torch.full((rows,), 400), context)


def draw(model, scale=2.0, pictures=1, steps=3):
    generator = torch.Generator().manual_seed(1)
    cond, uncond = torch.randn(2, 1, 77, 32, generator=generator).repeat(1, pictures, 1, 1)
    x = torch.randn(1, 4, 8, 8, generator=generator).repeat(pictures, 1, 1, 1)
    options = {"unconditional_conditioning": uncond, "unconditional_guidance_scale": scale}
    sampler = DDIMSampler(model)
    return sampler.sample(steps, pictures, (4, 8, 8), cond, x_T=x, verbose=False, **options)[0]


@pytest.mark.parametrize("kind", STATES)
def test_a_picture_changes_the_drawing_and_detaching_restores_it_bitwise(
    kind, model, picture, tmp_path
):
    before, keys = eps(model), list(model.state_dict())
    with adapter_of(kind, tmp_path).attach(model, picture):
        assert not torch.allclose(eps(model), before, atol=1e-4)
        assert list(model.state_dict()) == keys
    assert torch.equal(eps(model), before)
    assert not LISTENERS
    assert not any("beside" in vars(layer) for layer in model.modules())


def test_a_scale_of_zero_changes_nothing_to_the_bit(model, picture, base):
    before = eps(model)
    with base.attach(model, picture, scale=0.0) as handle:
        assert torch.equal(eps(model), before)
        handle.scale = 1.0
        assert not torch.equal(eps(model), before)


def test_two_adapters_add_up_and_leave_in_any_order(model, picture, base):
    with base.attach(model, picture, scale=0.5):
        half = eps(model)
    with base.attach(model, picture, scale=0.25) as first:
        second = base.attach(model, picture, scale=0.25)
        assert torch.allclose(eps(model), half, atol=1e-5)
        first.detach()
        second.scale = 0.5
        assert torch.allclose(eps(model), half, atol=1e-5)
        second.detach()


def test_unconditional_rows_see_no_picture(model, picture, base):
    """With the scale 0 of guidance the result is the empty prompt's, whatever the picture."""
    other = Image.new("RGB", (20, 20), (255, 0, 0))
    with base.attach(model, picture):
        one = draw(model, scale=0.0)
        guided = draw(model)
    with base.attach(model, other):
        assert torch.equal(draw(model, scale=0.0), one)
        assert not torch.allclose(draw(model), guided, atol=1e-4)


def test_a_window_of_steps_is_where_it_acts(model, picture, base):
    without = draw(model)
    with base.attach(model, picture, start=0.0, end=0.0):
        assert torch.equal(draw(model), without)
    with base.attach(model, picture, start=0.5):
        late = draw(model)
    with base.attach(model, picture, lambda moment: float(moment.number >= 2)):
        assert torch.equal(draw(model), late)
    assert not torch.allclose(late, without, atol=1e-4)


def test_pictures_are_looked_at_together_or_one_list_for_each_sample(model, picture, base):
    other = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    with base.attach(model, [picture, other]) as handle:
        together = eps(model)
        handle.show(other)
        second = eps(model)
        handle.show([[picture], [other]])
        each = draw(model, pictures=2)
    with base.attach(model, picture):
        first = eps(model)
        assert torch.allclose(draw(model), each[:1], atol=1e-5)
    with base.attach(model, other):
        assert torch.allclose(draw(model), each[1:], atol=1e-5)
    assert not torch.allclose(first, second, atol=1e-4)
    assert not torch.allclose(together, first, atol=1e-4)


def test_more_samples_than_lists_of_pictures_is_an_error(model, picture, base):
    with (
        base.attach(model, [[picture], [picture]]),
        pytest.raises(UserError, match="pictures are given for 2 samples"),
    ):
        eps(model, rows=3)


class Watcher(Controller):
    """Writes down the maps' widths; gives every row a table of its own if it is to."""

    def __init__(self, changes):
        self.changes, self.widths = changes, set()

    def __call__(self, probs, site, moment, rows):
        if site.kind != "cross":
            return None
        self.widths.add(probs.shape[-1])
        return probs * 0.5 if self.changes else None


def test_a_controller_of_attention_sees_the_text_alone(model, picture, base):
    watcher = Watcher(changes=False)
    with base.attach(model, picture):
        alone = eps(model)
        with control_attention(model, watcher):
            assert torch.allclose(eps(model), alone, atol=1e-6)
    assert watcher.widths == {77}


def test_who_changes_the_texts_attention_keeps_the_picture(model, picture, base):
    with control_attention(model, Watcher(changes=True)):
        text = eps(model)
        with base.attach(model, picture):
            both = eps(model)
    with base.attach(model, picture), control_attention(model, Watcher(changes=True)):
        assert torch.allclose(eps(model), both, atol=1e-6)
    assert not torch.allclose(both, text, atol=1e-4)


def test_rows_that_are_computed_in_parts_see_their_own_pictures(model, picture, base):
    from ldm.offload.rows import in_rows

    other = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    with base.attach(model, [[picture], [other]]):
        whole = draw(model, pictures=2)
        apply = model.apply_model
        model.apply_model = lambda x, t, c: in_rows(apply, 1, x, t, c)
        try:
            assert torch.allclose(draw(model, pictures=2), whole, atol=1e-5)
        finally:
            del model.apply_model


@pytest.mark.parametrize("policy", ["four-part", "stream"])
def test_a_plan_of_devices_draws_the_same(policy, model, picture, base):
    from ldm.offload.plan import PlanSettings, StagePlan

    with base.attach(model, picture):
        expected = draw(model)
        plan = StagePlan(model, PlanSettings(policy, unet_rows=1), torch.device("cpu")).attach()
        try:
            assert torch.allclose(draw(model), expected, atol=1e-5)
        finally:
            plan.detach()


def test_half_precision_draws_with_it(picture, base):
    half = narrow_model(CONFIG)
    half.model.diffusion_model.to(torch.bfloat16)
    before = eps(half)
    with base.attach(half, picture):
        assert eps(half).dtype == torch.bfloat16
        assert not torch.equal(eps(half), before)


def test_a_new_adapter_changes_nothing_and_can_learn(model, picture, base, tmp_path):
    adapter = new_ip_adapter(model, tokens=2, encoder="first_stage 4")
    before = eps(model)
    with base.attach(model, picture):
        target = eps(model)
    with adapter.attach(model, picture) as handle:
        assert torch.equal(eps(model), before)
        losses = train(model, handle, target)
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(eps(model), before)
    write_ip_adapter(adapter, tmp_path / "mine.safetensors")
    again = read_ip_adapter(tmp_path / "mine.safetensors")
    assert again.encoder_name == "first_stage 4" and again.report.form == "base"
    with again.attach(model, picture), torch.no_grad():
        found = eps(model)
    with adapter.attach(model, picture):
        assert torch.equal(eps(model), found)


def train(model, handle, target):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, 8, 8, generator=generator)
    context = torch.randn(1, 77, 32, generator=generator)
    features = torch.randn(1, 64, generator=generator)
    optimizer, losses = torch.optim.Adam(handle.adapter.parameters(), lr=1e-2), []
    for _ in range(12):
        handle.feed(features)
        found = model.apply_model(x, torch.tensor([400]), context)
        loss = (found - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_keys_and_values_that_learn_are_not_kept_from_call_to_call(model, picture):
    adapter = new_ip_adapter(model, tokens=2, encoder="first_stage 4").requires_grad_(False)
    adapter.ip_adapter.requires_grad_(True)
    with adapter.attach(model, picture):
        before = eps(model)
        with torch.no_grad():
            for weight in adapter.ip_adapter.parameters():
                weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))
        assert not torch.allclose(eps(model), before, atol=1e-4)


def test_no_width_but_its_own_is_taken(model, picture, base):
    with pytest.raises(UserError, match="features of width 5; expected 12"):
        read_ip_adapter(base.report.path, encoder=lambda p: torch.zeros(len(p), 5)).attach(
            model, picture
        )
    assert not LISTENERS and not any("beside" in vars(layer) for layer in model.modules())


def test_without_an_encoder_the_error_says_what_is_missing(model, picture, base):
    with pytest.raises(UserError, match="no image encoder is given"):
        read_ip_adapter(base.report.path).attach(model, picture)


def test_another_encoder_than_the_file_names_is_noted(model, tmp_path):
    write_ip_adapter(new_ip_adapter(model, encoder="first_stage 2"), tmp_path / "a.safetensors")
    notes = read_ip_adapter(tmp_path / "a.safetensors", encoder=look).report.notes
    assert notes == [
        "a.safetensors was trained with the image encoder 'first_stage 2', and 'look' is given"
    ]
    assert not read_ip_adapter(tmp_path / "a.safetensors").report.notes


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (3, "a int is given as an IP-Adapter's image encoder"),
        (lambda p: "no tensor", "returned str for 1 pictures"),  # noqa: ARG005
        (lambda p: torch.zeros(len(p), 3, 12), r"returned \(1, 3, 12\) for 1 pictures"),
    ],
)
def test_what_is_no_encoder_is_refused_in_one_line(encoder, words, model, picture, base):
    with pytest.raises(UserError, match=words):
        read_ip_adapter(base.report.path, encoder=encoder).attach(model, picture)


def test_no_pictures_and_unequal_numbers_of_them_are_refused(model, picture, base):
    for images in ([], [[picture], [picture, picture]]):
        with pytest.raises(UserError, match="expected at least one, and as many for each"):
            base.attach(model, images)
    assert not LISTENERS


def test_a_file_of_two_dicts_is_the_same_as_a_flat_one(model, picture, base, tmp_path):
    read = read_ip_adapter(write_bin(tmp_path / "a.bin", base_state()), encoder=look)
    with base.attach(model, picture):
        flat = eps(model)
    with read.attach(model, picture):
        assert torch.equal(eps(model), flat)
    assert read.report.summary() == (
        "IP-Adapter 'a.bin', base format, made for models of context width 32, 4 modules"
    )


def test_the_unet_itself_looks_at_pictures_and_sees_the_same_whatever_is_attached(model, picture):
    encoder = encoder_of(None, "unet 2", model)
    pictures = [picture, picture.rotate(90).convert("L").convert("RGB")]
    seen = encoder(pictures, hidden=False)
    assert seen.shape == (2, encoder.nothing(hidden=False).shape[1])
    assert not torch.allclose(seen[0], seen[1], atol=0.05)
    adapter = new_ip_adapter(model, encoder="unet 2")
    torch.nn.init.normal_(adapter.ip_adapter["1"]["to_v_ip"].weight)
    with adapter.attach(model, picture), torch.no_grad():
        drawn = eps(model)
        assert torch.equal(encoder(pictures, hidden=False), seen)
        assert torch.equal(eps(model), drawn)
    rows = encoder(pictures, hidden=True)  # (P, L, C)
    assert torch.equal(rows.mT.flatten(1), seen)
