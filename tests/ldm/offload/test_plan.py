"""A plan of devices: the same results, and only what is needed on the device."""

from __future__ import annotations

import pytest
import torch
from offload_parts import Elsewhere, Late, assert_same, loads, most_at_once, snapshot, use

from ldm.offload.plan import POLICIES, PlanSettings
from ldm.offload.stages import UNET, layers_of, tables_of

MOVERS = {"cpu": lambda: None, "elsewhere": Elsewhere, "late": Late}
RUN = ["text", "autoencoder", *UNET, *UNET, "autoencoder"]  # the order of `use`


@pytest.mark.parametrize("mover", MOVERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_gives_the_same_bits(tiny, expected, attach, policy, mover):
    plan = attach(tiny, MOVERS[mover](), policy=policy)
    given = use(tiny)
    exact = given if mover == "cpu" else {"text": given["text"], "latent": given["latent"]}
    for name, value in exact.items():
        assert torch.equal(value, expected[name]), name
    for name, value in given.items():  # picture by picture, so up to rounding
        assert torch.allclose(value, expected[name], atol=1e-5), name
    if policy != "resident":
        assert plan.ledger.resident == set()


@pytest.mark.parametrize("policy", POLICIES)
def test_the_table_of_tokens_is_looked_up_on_the_host(tiny, expected, attach, policy):
    (table,) = tables_of(tiny)
    own, where = table.weight, []
    plan = attach(tiny, Elsewhere(), policy=policy)
    hook = table.register_forward_hook(lambda *call: where.append(table.weight is own))
    assert torch.equal(use(tiny)["text"], expected["text"])
    hook.remove()
    assert where and all(where)
    text = sum(p.nbytes for p in tiny.cond_stage_model.parameters())
    brought = {event.bytes for event in plan.ledger.events if event.stage == "text"}
    assert max(brought) < text - own.nbytes + 2**17
    plan.device = torch.device("meta")
    assert table(torch.zeros(1, 2, dtype=torch.long)).device.type == "meta"  # what was read goes on
    plan.device = own.device
    plan.detach()
    assert "forward" not in vars(table)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mover", MOVERS)
def test_rows_in_turn_give_the_same_but_for_rounding(tiny, attach, policy, mover):
    expected = use(tiny, rows=3)
    attach(tiny, MOVERS[mover](), policy=policy, unet_rows=2)
    for name, value in use(tiny, rows=3).items():
        assert torch.allclose(value, expected[name], atol=1e-5), name


def test_four_parts_take_turns_and_leave_when_they_are_done(tiny, attach):
    plan = attach(tiny, policy="four-part")
    use(tiny)
    assert loads(plan.ledger) == RUN
    assert most_at_once(plan.ledger) == 1
    actions = [event.action for event in plan.ledger.events]
    assert actions == ["load", "unload"] * len(RUN)
    largest = max(event.bytes for event in plan.ledger.events)
    assert plan.ledger.peak_bytes == largest


def test_turbo_keeps_both_halves_until_another_part_comes(tiny, attach):
    plan = attach(tiny, policy="turbo")
    use(tiny)
    assert loads(plan.ledger) == ["text", "autoencoder", *UNET, "autoencoder"]
    assert most_at_once(plan.ledger) == 2
    with torch.no_grad():
        tiny.apply_model(torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.zeros(1, 77, 32))
        assert plan.ledger.resident == set(UNET)
        plan.release()
    assert plan.ledger.resident == set()


def test_resident_loads_each_part_once(tiny, attach):
    plan = attach(tiny, policy="resident")
    use(tiny)
    use(tiny)
    assert sorted(loads(plan.ledger)) == sorted(set(RUN))
    plan.detach()
    assert plan.ledger.resident == set()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_each_half_is_loaded_once_a_call_whatever_the_rows(tiny, attach, rows):
    plan = attach(tiny, policy="four-part", unet_rows=rows)
    with torch.no_grad():
        tiny.apply_model(torch.zeros(5, 4, 8, 8), torch.zeros(5), torch.zeros(5, 77, 32))
    assert loads(plan.ledger) == list(UNET)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mover", MOVERS)
def test_detaching_gives_the_model_back_bitwise(tiny, attach, policy, mover):
    before = snapshot(tiny)
    plan = attach(tiny, MOVERS[mover](), policy=policy)
    use(tiny)
    plan.detach()
    plan.detach()  # once more does no harm
    assert_same(before, snapshot(tiny))


def test_inside_a_stage_modules_see_copies_on_the_device(tiny, attach):
    host = dict(tiny.named_parameters())
    plan = attach(tiny, Elsewhere(), policy="four-part")
    with torch.no_grad(), plan.on("unet_encode"):
        moved = {name for name, p in tiny.named_parameters() if p is not host[name]}
    encode = layers_of(tiny)["unet_encode"]
    unet = "model.diffusion_model."
    assert moved == {
        name for name in host if name.startswith(tuple(f"{unet}{layer}." for layer in encode))
    }
    assert all(p is host[name] for name, p in tiny.named_parameters())


def test_a_plan_changes_between_batches(tiny, expected, attach):
    before = snapshot(tiny)
    plan = attach(tiny, Late(), policy="resident")
    for policy in (*POLICIES, *reversed(POLICIES)):
        plan.change(PlanSettings(policy))
        assert plan.ledger.resident == set()
        assert torch.equal(use(tiny)["latent"], expected["latent"])
    with (
        torch.no_grad(),
        plan.on("text"),
        pytest.raises(RuntimeError, match="while text is in use"),
    ):
        plan.change(PlanSettings())
    plan.detach()
    assert_same(before, snapshot(tiny))


def test_strips_are_used_where_they_are_asked_for(tiny, expected, attach, monkeypatch):
    from ldm.models.tiling import tiled

    used = []
    for name in ("decode_in_tiles", "encode_in_tiles"):
        own = getattr(tiled, name)
        watched = lambda *args, own=own, name=name: used.append(name) or own(*args)  # noqa: E731
        monkeypatch.setattr(tiled, name, watched)
    plan = attach(tiny, policy="four-part", tiled_decode=True)
    given = use(tiny)
    assert used == ["encode_in_tiles", "decode_in_tiles"]
    for name, value in given.items():
        assert torch.allclose(value, expected[name], atol=1e-3), name
    used.clear()
    plan.change(PlanSettings("four-part"))
    use(tiny)
    assert used == []


def test_inference_mode_and_no_grad_may_alternate(tiny, expected, attach):
    attach(tiny, Late(), policy="stream")
    with torch.inference_mode():
        use(tiny)
    assert torch.equal(use(tiny)["latent"], expected["latent"])
