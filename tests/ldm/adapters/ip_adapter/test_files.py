"""IP-Adapter files that are damaged, of other models, or something else: one line each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ip_files import base_state, full_state, numbers, plus_state, write_flat
from narrow_models import narrow_model
from tiny_model import CONFIG

from ldm.adapters.ip_adapter import read_ip_adapter
from ldm.errors import UserError

PICTURE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    return narrow_model(CONFIG)


def without(state, *names):
    return {n: v for n, v in state.items() if n not in names}


def face_id():
    shapes = {"proj.0.weight": (8, 4), "proj.2.weight": (8, 8), "norm.weight": (32,)}
    return numbers({f"image_proj.{n}": s for n, s in shapes.items()})


def with_nan(state):
    state["image_proj.norm.weight"][3] = float("nan")
    return state


FAULTS = {
    "FaceID": (face_id, "a FaceID one"),
    "FaceID with base's names": (
        lambda: base_state() | numbers({"ip_adapter.1.to_q_lora.down.weight": (4, 64)}),
        "a FaceID one",
    ),
    "SDXL": (lambda: base_state(context=2048), "is made for SDXL"),
    "a LoRA": (lambda: numbers({"lora_unet.lora_up.weight": (4, 4)}), "is no IP-Adapter"),
    "NaN": (lambda: with_nan(base_state()), "NaN or infinite numbers in 1 tensors"),
    "no layers": (
        lambda: {n: v for n, v in base_state().items() if n.startswith("image_proj")},
        "numbers its layers",
    ),
    "a gap": (
        lambda: without(base_state(), "ip_adapter.3.to_k_ip.weight", "ip_adapter.3.to_v_ip.weight"),
        "odd numbers",
    ),
    "half a pair": (
        lambda: without(base_state(), "ip_adapter.3.to_v_ip.weight"),
        "for layer 3 weights of shapes",
    ),
    "shapes that disagree": (
        lambda: base_state() | {"ip_adapter.3.to_v_ip.weight": torch.zeros(64, 31)},
        "for layer 3 weights of shapes",
    ),
    "no bias": (
        lambda: without(base_state(), "image_proj.proj.bias"),
        "image_proj.proj.bias missing",
    ),
    "no norm": (lambda: without(base_state(), "image_proj.norm.weight"), "not whole"),
    "a resampler without its end": (
        lambda: without(plus_state(), "image_proj.proj_out.weight"),
        "not whole",
    ),
    "a resampler's layer of another name": (
        lambda: plus_state() | {"image_proj.layers.x.0.to_q.weight": torch.zeros(1)},
        "not whole",
    ),
    "a perceptron of other sizes": (
        lambda: full_state() | {"image_proj.proj.2.weight": torch.zeros(32, 5)},
        "does not fit together",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_refused_in_one_line(fault, tmp_path):
    state, words = FAULTS[fault]
    path = write_flat(tmp_path / "wrong.safetensors", state())
    with pytest.raises(UserError, match=words) as error:
        read_ip_adapter(path)
    assert "\n" not in str(error.value) and "wrong.safetensors" in str(error.value)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (base_state(context=768), "is made for v1; the model is one of models of context width 32"),
        (base_state(inner=96), "is made for a UNet of 4 other layers"),
    ],
)
def test_an_adapter_of_other_models_is_refused_and_nothing_stays(state, words, model, tmp_path):
    read = read_ip_adapter(write_flat(tmp_path / "a.safetensors", state), encoder=lambda p: p)
    with pytest.raises(UserError, match=words):
        read.attach(model, PICTURE)
    assert not any("beside" in vars(layer) for layer in model.modules())


def test_what_is_not_used_is_named(tmp_path):
    state = base_state() | numbers({"image_proj.extra": (2,), "other.weight": (2,)})
    report = read_ip_adapter(write_flat(tmp_path / "a.safetensors", state)).report
    assert set(report.unused) == {"image_proj.extra", "other.weight"}


def test_half_precision_files_are_computed_in_float32(tmp_path):
    state = {n: v.half() for n, v in base_state().items()}
    read = read_ip_adapter(write_flat(tmp_path / "a.safetensors", state))
    assert {p.dtype for p in read.parameters()} == {torch.float32}
