"""A LoRA on a model: live and merged alike, in any order, and gone without a trace."""

from __future__ import annotations

import copy
import itertools

import lora_files
import pytest
import torch
from parity.peers import relative_error
from safetensors.torch import load_file

from ldm.adapters.lora import read_lora
from ldm.adapters.lora.attached import ATTACHED
from ldm.adapters.lora.merged import _MERGED
from ldm.adapters.lora.places import Places
from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.modules.attention_control.moments import LISTENERS

SAME = 1e-6


def snapshot(model):
    """Every tensor object of a model and a copy of its values."""
    return {n: (t, t.clone()) for n, t in model.state_dict(keep_vars=True).items()}


def assert_untouched(model, before):
    now = model.state_dict(keep_vars=True)
    assert now.keys() == before.keys()
    for name, (tensor, values) in before.items():
        assert now[name] is tensor, name
        assert torch.equal(tensor, values), name
    assert not ATTACHED and not _MERGED and not LISTENERS
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(getattr(module, "beside", None) for module in model.modules())


@pytest.mark.parametrize(("kind", "number"), [("v1", 0), ("v2", 3)])
def test_merged_is_what_live_is_and_both_leave_no_trace(
    kind, number, files, predict, model, model_v2
):
    model = model if kind == "v1" else model_v2
    before, plain = snapshot(model), predict(model)
    handle = read_lora(files[number]).attach(model, 0.8)
    live = predict(model)
    assert relative_error(live, plain) > 1e-2
    assert model.state_dict().keys() == before.keys()
    handle.merge()
    merged = predict(model)
    assert relative_error(merged, live) < SAME
    handle.unmerge()
    assert torch.equal(predict(model), live)
    handle.merge()
    handle.detach()
    handle.detach()
    assert torch.equal(predict(model), plain)
    assert_untouched(model, before)


@pytest.mark.parametrize("leaving", list(itertools.permutations(range(3))))
def test_any_number_stacks_and_leaves_in_any_order(leaving, files, predict, model):
    before = snapshot(model)
    handles = [read_lora(path).attach(model, 0.5, merge=n != 1) for n, path in enumerate(files[:3])]
    for number in leaving[:-1]:
        handles[number].detach()
    rest = predict(model)
    handles[leaving[-1]].detach()
    with read_lora(files[leaving[-1]]).attach(model, 0.5):
        assert relative_error(rest, predict(model)) < SAME
    assert_untouched(model, before)


def test_the_order_of_attaching_does_not_matter(files, predict, model):
    found = []
    for order in ((0, 1, 2), (2, 1, 0)):
        handles = [read_lora(files[n]).attach(model, 0.5, merge=n == 0) for n in order]
        found.append(predict(model))
        for handle in handles:
            handle.detach()
    assert relative_error(*found) < SAME


@pytest.mark.parametrize("merge", [False, True])
def test_zeros_change_no_bit(merge, tmp_path, files, predict, model):
    plain = predict(model)
    tensors = {n: torch.zeros_like(t) if "up" in n else t for n, t in load_file(files[0]).items()}
    path = lora_files.save(tensors, tmp_path / "zeros.safetensors")
    with read_lora(path).attach(model, merge=merge):
        assert torch.equal(predict(model), plain)
    with read_lora(files[0]).attach(model, 0.0, merge=merge):
        assert torch.equal(predict(model), plain)


@pytest.mark.parametrize("merge", [False, True])
def test_the_scale_is_set_between_pictures_and_is_exact(merge, files, predict, model):
    with read_lora(files[0]).attach(model, 0.25, merge=merge) as handle:
        quarter = predict(model)
        handle.scale = 1.0
        whole = predict(model)
        handle.scale = 0.25
        assert torch.equal(predict(model), quarter)
    with read_lora(files[0]).attach(model, 1.0, merge=merge):
        assert torch.equal(predict(model), whole)


def test_a_merged_one_changes_its_scale_below_another(files, predict, model):
    with (
        read_lora(files[0]).attach(model, 0.9, merge=True) as first,
        read_lora(files[1]).attach(model, 0.4, merge=True),
    ):
        first.scale = 0.2
        changed = predict(model)
    with read_lora(files[0]).attach(model, 0.2), read_lora(files[1]).attach(model, 0.4):
        assert relative_error(changed, predict(model)) < SAME


@pytest.mark.parametrize("merge", [False, True])
def test_text_encoder_and_unet_have_scales_of_their_own(merge, files, predict, model):
    words = 77 * 32
    plain = predict(model)
    with read_lora(files[0]).attach(model, 1.0, text_scale=0.0, merge=merge) as handle:
        found = predict(model)
        assert torch.equal(found[:words], plain[:words])
        assert not torch.equal(found[words:], plain[words:])
        handle.scale, handle.text_scale = 0.0, 1.0
        assert not torch.equal(predict(model)[:words], plain[:words])


def draw(model, steps=4):
    cond = torch.ones(1, 77, 32)
    x = torch.ones(1, 4, 8, 8)
    return DDIMSampler(model).sample(steps, 1, (4, 8, 8), cond, x_T=x, verbose=False)[0]


def test_a_function_of_the_step_acts_from_its_step_on(files, model):
    plain = draw(model)
    with read_lora(files[0]).attach(model, lambda moment: float(moment.number > 3)):
        assert torch.equal(draw(model), plain)
    with read_lora(files[0]).attach(model, lambda moment: float(moment.number > 2)):
        assert not torch.equal(draw(model), plain)


def test_a_merged_one_takes_no_function_of_the_step(files, model):
    before = snapshot(model)
    lora = read_lora(files[0])
    with pytest.raises(UserError, match="function of the step was given for a merged LoRA"):
        lora.attach(model, lambda moment: 1.0, merge=True)  # noqa: ARG005
    with lora.attach(model, merge=True) as handle, pytest.raises(UserError, match="merged LoRA"):
        handle.scale = float.__abs__
    with lora.attach(model, float.__abs__) as handle, pytest.raises(UserError, match="merged LoRA"):
        handle.merge()
    assert_untouched(model, before)


def test_averages_of_weights_leave_no_room_for_merged_ones(files, model, monkeypatch):
    monkeypatch.setattr(model, "use_ema", True)
    with pytest.raises(UserError, match="a model that keeps averages of its weights"):
        read_lora(files[0]).attach(model, merge=True)
    assert not ATTACHED


def test_a_scale_that_is_no_number_is_refused(files, model):
    with pytest.raises(UserError, match="scale is nan; expected a finite number"):
        read_lora(files[0]).attach(model, float("nan"))
    assert not ATTACHED and not LISTENERS


def test_a_file_is_attached_once_only(files, model, model_v2):
    with read_lora(files[0]).attach(model):
        with pytest.raises(UserError, match="is on this model already"):
            read_lora(str(files[0])).attach(model)
        with read_lora(files[3]).attach(model_v2):  # another model is another matter
            pass
    read_lora(files[0]).attach(model).detach()
    assert not ATTACHED


@pytest.mark.parametrize("merge", [False, True])
def test_half_precision_is_near_the_whole(merge, files, predict, model):
    with read_lora(files[0]).attach(model):
        whole = predict(model)
    small = copy.deepcopy(model).half()
    before = snapshot(small)
    with read_lora(files[0]).attach(small, merge=merge):
        assert relative_error(predict(small).float(), whole) < 5e-3
        assert small.dtype == torch.float16
    assert_untouched(small, before)


def test_merging_rounds_once_to_half_precision(files, model):
    place = next(p for p in Places(model) if p.name.endswith("attn1.to_q"))
    tensors = load_file(files[0])
    up, down = (tensors[f"{place.flat}.lora_{n}.weight"] for n in ("up", "down"))
    original = place.module.weight
    halved = torch.nn.Parameter(original.detach().half(), requires_grad=False)
    place.module.weight = halved
    try:
        with read_lora(files[0]).attach(model, merge=True):
            expected = (halved.float() + up @ down * 0.5).half()
            assert torch.equal(place.module.weight, expected)
        assert place.module.weight is halved
    finally:
        place.module.weight = original


def test_a_model_that_moved_while_merged_gets_its_weights_back_there(files, model):
    moved = copy.deepcopy(model)
    names = {n: t.clone() for n, t in moved.state_dict().items()}
    handle = read_lora(files[0]).attach(moved, merge=True)
    moved.double()
    handle.detach()
    assert all(torch.equal(t, names[n].to(t.dtype)) for n, t in moved.state_dict().items())
    assert {p.dtype for p in moved.parameters()} == {torch.float64}


def test_merging_many_adds_each_once(files, model, monkeypatch):
    from ldm.adapters.lora.deltas import LowRank

    calls, own = [], LowRank.change
    monkeypatch.setattr(LowRank, "change", lambda *a: calls.append(1) or own(*a))
    counts = []
    handles = []
    for path in files[:3]:
        calls.clear()
        handles.append(read_lora(path).attach(model, merge=True))
        counts.append(len(calls))
    for handle in handles:
        handle.detach()
    assert counts[0] == counts[1] == counts[2] > 0


def test_tensors_are_moved_once(files, predict, model):
    with read_lora(files[0]).attach(model) as handle:
        predict(model)
        first = [id(t) for bound in handle.bounds for t in bound._kept.values()]
        predict(model)
        assert first and first == [id(t) for b in handle.bounds for t in b._kept.values()]


def test_a_file_of_half_precision_is_computed_in_the_models(files, tmp_path, predict, model):
    tensors = {n: t.half() for n, t in load_file(files[0]).items()}
    small = lora_files.save(tensors, tmp_path / "small.safetensors")
    wide = lora_files.save({n: t.float() for n, t in tensors.items()}, tmp_path / "w.safetensors")
    with read_lora(small).attach(model):
        found = predict(model)
    with read_lora(wide).attach(model):
        assert torch.equal(predict(model), found)
