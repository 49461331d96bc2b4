"""Layers pass through two slots: in order, in time, and none of them twice in a call."""

from __future__ import annotations

import pytest
import torch
from offload_parts import Elsewhere, Late, loads, make_tiny, most_at_once, use

from ldm.offload.stages import UNET, layers_of


def unet_layers(model) -> dict[str, torch.nn.Module]:
    """The layers with weights in the order in which they compute."""
    layers = layers_of(model)
    named = {name: layer for half in UNET for name, layer in layers[half].items()}
    return {name: m for name, m in named.items() if next(m.parameters(), None) is not None}


def call(model, rows: int = 1):
    with torch.no_grad():
        x, t = torch.zeros(rows, 4, 8, 8), torch.zeros(rows)
        return model.apply_model(x, t, torch.zeros(rows, 77, 32))


def watch(plan, layers) -> tuple[list[tuple[str, set[str]]], list]:
    """Note what is on the device when each layer computes."""
    seen, handles = [], []
    for name, layer in layers.items():
        inner = next(m for m in layer.modules() if not list(m.children()))
        note = lambda *_, name=name: seen.append((name, plan.ledger.resident))  # noqa: E731
        handles.append(inner.register_forward_pre_hook(note))
    return seen, handles


@pytest.fixture
def seen(tiny):
    """Return a function that watches a plan; the model is let alone afterwards."""
    handles = []

    def begin(plan):
        noted, more = watch(plan, unet_layers(tiny))
        handles.extend(more)
        return noted

    yield begin
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("rows, at_once", [(1, None), (5, 1), (5, 2)])
def test_layers_come_once_a_call_in_order_and_two_at_most(tiny, attach, rows, at_once):
    plan = attach(tiny, policy="stream", unet_rows=at_once)
    call(tiny, rows)
    assert loads(plan.ledger) == list(unet_layers(tiny))
    assert most_at_once(plan.ledger) == 2
    assert plan.ledger.resident == set()


def test_where_maps_are_large_layers_come_for_each_row(tiny, attach):
    plan = attach(tiny, policy="stream", unet_rows=1)
    with torch.no_grad():
        x = torch.randn(2, 4, 64, 64)
        whole = plan.model.apply_model(x, torch.zeros(2), torch.zeros(2, 77, 32))
    layers = unet_layers(tiny)
    halves = [[name for name in layers_of(tiny)[half] if name in layers] for half in UNET]
    assert loads(plan.ledger) == [name for half in halves for name in 2 * half]
    assert most_at_once(plan.ledger) == 2
    plan.detach()
    with torch.no_grad():
        expected = tiny.apply_model(x, torch.zeros(2), torch.zeros(2, 77, 32))
    assert torch.allclose(whole, expected, atol=1e-5)


def test_while_a_layer_computes_the_next_is_on_its_way(tiny, attach, seen):
    plan = attach(tiny, policy="stream")
    noted = seen(plan)
    call(tiny)
    names = list(unet_layers(tiny))
    assert noted == [(name, set(names[n : n + 2])) for n, name in enumerate(names)]


def test_layers_that_stay_come_once_and_leave_before_the_autoencoder(tiny, attach, seen):
    stay = frozenset({"input_blocks.1.0", "output_blocks.2.0", "out"})
    plan = attach(tiny, Elsewhere(), policy="stream", resident_blocks=stay)
    noted = seen(plan)
    call(tiny)
    call(tiny)
    assert plan.ledger.resident == stay
    assert all(stay <= there and len(there - stay) <= 2 for _, there in noted)
    assert sorted(name for name in loads(plan.ledger) if name in stay) == sorted(stay)
    travellers = [name for name in unet_layers(tiny) if name not in stay]
    assert [name for name in loads(plan.ledger) if name not in stay] == 2 * travellers
    with torch.no_grad():
        tiny.decode_first_stage(torch.zeros(1, 4, 8, 8))
    assert plan.ledger.resident == set()


def test_layers_that_stay_are_there_in_the_next_step_too(tiny, attach):
    stay = frozenset({"input_blocks.1.0", "output_blocks.2.0", "out"})
    plan = attach(tiny, Elsewhere(), policy="stream", resident_blocks=stay)

    def places():
        layers = unet_layers(tiny)
        return [next(layers[name].parameters()).data_ptr() for name in sorted(stay)]

    call(tiny)
    there = places()
    call(tiny)
    assert places() == there
    plan.release()
    assert not set(places()) & set(there)


def test_while_a_layer_that_stays_computes_two_others_come(tiny, attach, seen):
    names = list(unet_layers(tiny))
    plan = attach(tiny, policy="stream", resident_blocks=frozenset(names[4:6]))
    noted = seen(plan)
    call(tiny)
    there = dict(noted)
    assert there[names[4]] == there[names[5]] == set(names[4:8])


def test_a_model_that_stays_altogether_is_streamed_too(tiny, expected, attach):
    plan = attach(tiny, Elsewhere(), policy="stream", resident_blocks=frozenset(unet_layers(tiny)))
    assert torch.equal(use(tiny)["latent"], expected["latent"])
    assert plan.ledger.resident == set()


def test_two_slots_of_the_largest_layer_serve_all_steps(tiny, attach):
    class Counting(Elsewhere):
        taken: list[int] = []

        def room(self, nbytes):
            self.taken.append(nbytes)
            return super().room(nbytes)

    mover = Counting()
    plan = attach(tiny, mover, policy="stream")
    mover.taken.clear()
    for _ in range(3):
        call(tiny)
    assert mover.taken == 2 * [max(event.bytes for event in plan.ledger.events)]


def test_halves_in_another_order_still_find_their_layers(tiny, attach):
    unet = tiny.model.diffusion_model
    x, t, context = torch.randn(1, 4, 8, 8), torch.zeros(1), torch.randn(1, 77, 32)
    with torch.no_grad():
        h, emb, skips = unet.encode(x, t, context)
        expected = unet.decode(h, emb, skips, context)
        plan = attach(tiny, Late(), policy="stream")
        for _ in range(2):
            given = unet.encode(x, t, context)[0]
            assert torch.equal(given, h)
            assert most_at_once(plan.ledger) == 2
        for _ in range(2):
            assert torch.equal(unet.decode(h, emb, skips, context), expected)
            assert plan.ledger.resident == set()


def test_a_layer_that_is_never_called_does_not_stay(attach):
    model = make_tiny(unet={"n_embed": 6})  # which leaves `out` aside
    plan = attach(model, policy="stream")
    call(model)
    assert "out" in loads(plan.ledger)
    assert plan.ledger.resident == set()


def test_layers_called_by_others_compute_at_home(tiny, attach):
    unet = tiny.model.diffusion_model
    with torch.no_grad():
        expected = unet.embed_time(torch.zeros(1))
        plan = attach(tiny, Elsewhere(), policy="stream")
        assert torch.equal(unet.embed_time(torch.zeros(1)), expected)
    assert plan.ledger.events == []


def test_computing_without_waiting_would_be_noticed(tiny, attach, monkeypatch):
    """The device that stands for CUDA here must catch the fault that it is there for."""
    attach(tiny, Late(), policy="stream")
    assert call(tiny).isfinite().all()
    monkeypatch.setattr(Late, "wait", lambda self, arrival: None)
    assert call(tiny).isnan().any()


def test_overtaking_a_reader_would_be_noticed(tiny, attach, monkeypatch):
    mover = Late()
    attach(tiny, mover, policy="stream")
    call(tiny)
    monkeypatch.setattr(mover, "mark", lambda: 0)
    with pytest.raises(AssertionError, match="overtakes a reader"):
        call(tiny)
