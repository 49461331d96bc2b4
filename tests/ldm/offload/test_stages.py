"""The four parts of a model, and the ledger."""

from __future__ import annotations

import pytest
from offload_parts import make_tiny
from torch import nn

from ldm.errors import UserError
from ldm.offload import stages
from ldm.offload.pieces import cut
from ldm.offload.stages import STAGES, Event, Ledger, layers_of, tables_of


def test_the_ledger_tells_what_is_there_and_what_was():
    ledger = Ledger()
    ledger.load("text", 5)
    ledger.unload("text")
    ledger.load("unet_encode", 3)
    ledger.load("unet_decode", 4)
    ledger.unload("unet_encode")
    ledger.unload("autoencoder")  # is not there: nothing to note
    assert ledger.resident == {"unet_decode"}
    assert ledger.peak_bytes == 7
    assert ledger.events[:2] == [Event("load", "text", 5), Event("unload", "text", 5)]
    assert [event.stage for event in ledger.events[2:]] == [
        "unet_encode",
        "unet_decode",
        "unet_encode",
    ]


def test_a_long_life_does_not_fill_the_ledger(monkeypatch):
    monkeypatch.setattr(stages, "REMEMBERED", 10)
    ledger = Ledger()
    for size in range(100):
        ledger.load("text", size)
        ledger.unload("text")
    assert 10 <= len(ledger.events) <= 20
    assert ledger.events[-1] == Event("unload", "text", 99)


def test_every_weight_of_the_unet_is_in_one_layer(tiny):
    layers = layers_of(tiny)
    assert tuple(layers) == STAGES
    unet = tiny.model.diffusion_model
    parts = [layer for half in ("unet_encode", "unet_decode") for layer in layers[half].values()]
    assert sum(p.numel() for layer in parts for p in layer.parameters()) == sum(
        p.numel() for p in unet.parameters()
    )


def test_layers_are_named_as_checkpoints_name_them(tiny):
    layers, unet = layers_of(tiny), tiny.model.diffusion_model
    for half in ("unet_encode", "unet_decode"):
        for name, layer in layers[half].items():
            assert unet.get_submodule(name) is layer
    names = list(layers["unet_encode"])
    assert names[0] == "time_embed" and names[-1] == "middle_block.2"
    assert list(layers["unet_decode"])[-1] == "out"


def test_pieces_hold_every_tensor_but_the_averages_and_the_table_of_tokens():
    model = make_tiny(use_ema=True)
    pieces = cut(model)
    held = {id(weight.tensor) for piece in [*pieces, pieces.common] for weight in piece._weights}
    named = [*model.named_parameters(), *model.named_buffers()]
    (table,) = tables_of(model)
    assert table.num_embeddings == 49408
    others = {id(t) for name, t in named if not name.startswith("model_ema.")}
    assert held == others - {id(table.weight)}


def test_a_table_that_another_layer_shares_is_none():
    model = make_tiny()
    (table,) = tables_of(model)
    model.cond_stage_model.head = nn.Linear(table.embedding_dim, table.num_embeddings)
    model.cond_stage_model.head.weight = table.weight
    assert tables_of(model) == []
    held = {id(weight.tensor) for piece in cut(model) for weight in piece._weights}
    assert id(table.weight) in held


def test_a_small_table_moves_with_its_layer(monkeypatch):
    model = make_tiny()
    monkeypatch.setattr(stages, "LARGE_TABLE", 2**40)
    assert tables_of(model) == []


def test_a_model_without_text_has_an_empty_stage():
    model = make_tiny(
        cond_stage_config="__is_unconditional__",
        unet={"use_spatial_transformer": False, "context_dim": None},
    )
    assert layers_of(model)["text"] == {}


def test_a_network_without_halves_is_refused():
    model = make_tiny()
    model.model.diffusion_model = nn.Linear(1, 1)
    with pytest.raises(UserError, match=r"UNet is a Linear without time_embed.*expected"):
        layers_of(model)
