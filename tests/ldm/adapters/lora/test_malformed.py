"""What is wrong with a LoRA's file is said in one line, and nothing is attached half-way."""

from __future__ import annotations

import lora_files
import pytest
import torch
from safetensors.torch import load_file

from ldm.adapters.lora import read_lora
from ldm.adapters.lora.attached import ATTACHED
from ldm.errors import UserError

STEM = "lora_unet_mid_block_attentions_0_proj_in"
DOWN, UP, ALPHA = f"{STEM}.lora_down.weight", f"{STEM}.lora_up.weight", f"{STEM}.alpha"
LOHA = {f"{STEM}.hada_w{n}_{s}": torch.ones(2, 2) for n in (1, 2) for s in "ab"}
PAIR = {DOWN: torch.ones(2, 64, 1, 1), UP: torch.ones(64, 2, 1, 1)}

FAULTS = {
    "ranks that disagree": (
        {UP: torch.ones(64, 3, 1, 1)},
        "shapes that disagree: .*; expected one rank",
    ),
    "a rank of 0": (
        {DOWN: torch.ones(0, 64, 1, 1), UP: torch.ones(64, 0, 1, 1)},
        "has rank 0",
    ),
    "half of a pair": ({UP: None}, "has only down"),
    "the other half": ({DOWN: None}, "has only up"),
    "NaN": ({DOWN: torch.full((2, 64, 1, 1), float("nan"))}, "has NaN or infinity in its down"),
    "infinity": ({UP: torch.full((64, 2, 1, 1), float("inf"))}, "has NaN or infinity in its up"),
    "NaN as alpha": ({ALPHA: torch.tensor(float("nan"))}, "NaN or infinity in its alpha"),
    "an alpha of two": (
        {ALPHA: torch.ones(2)},
        r"has an alpha of shape \(2,\); expected one number",
    ),
    "whole numbers": (
        {"a.lokr_w1": torch.ones(2, 2).int(), "a.lokr_w2": torch.ones(2, 2)},
        "has a lokr_w1 of torch.int32",
    ),
    "three of four": (
        {**LOHA, f"{STEM}.hada_w2_b": None, DOWN: None, UP: None},
        "has only hada_w1_a",
    ),
    "factors of two shapes": (
        {**LOHA, f"{STEM}.hada_w2_b": torch.ones(2, 3), DOWN: None, UP: None},
        "shapes that disagree",
    ),
    "two kinds at once": (LOHA, "has only down, hada_w1_a"),
    "a length alone": (
        {f"{STEM}.dora_scale": torch.ones(64, 1), DOWN: None, UP: None},
        "length of a weight and no direction",
    ),
    "a core without its sides": (
        {f"{STEM}.lokr_t2": torch.ones(2, 2, 3, 3), DOWN: None, UP: None},
        "has only lokr_t2",
    ),
    "vectors": ({DOWN: torch.ones(2), UP: torch.ones(2)}, "shapes that disagree"),
    "an alpha alone": ({DOWN: None, UP: None, ALPHA: torch.ones(1)}, "changes no layer"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_file_is_refused_in_one_line(fault, tmp_path, model):
    changes, message = FAULTS[fault]
    tensors = {n: v for n, v in (PAIR | changes).items() if v is not None}
    path = lora_files.save(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match=message) as caught:
        read_lora(path, model).attach(model)
    assert "\n" not in str(caught.value) and "bad.safetensors" in str(caught.value)
    assert not ATTACHED and not any(module._forward_hooks for module in model.modules())


def test_keys_of_no_dialect_are_refused_by_name(tmp_path):
    path = lora_files.save({"blocks.0.mystery": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="no key that a LoRA has, but such as 'blocks.0.mystery'"):
        read_lora(path)


def test_a_truncated_file_is_refused(files, tmp_path):
    whole = files[0].read_bytes()
    (tmp_path / "a.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is damaged"):
        read_lora(tmp_path / "a.safetensors")


def test_an_evil_pickle_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path / "ran").mkdir, ()

    torch.save([torch.ones(1), Evil()], tmp_path / "a.pt")
    with pytest.raises(UserError):
        read_lora(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[], [1, 2], [torch.ones(2, 2), "up"]])
def test_a_list_of_other_things_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="list holds more than tensors|holds a list|damaged"):
        read_lora(tmp_path / "a.pt")


@pytest.mark.parametrize("header", ["{", "[1]", "[" * 100_000, '{"unet.lora_alpha": "much"}'])
def test_a_header_that_is_no_configuration_is_refused(header, tmp_path):
    tensors = {f"unet.a.lora_{n}.weight": torch.ones(2, 2) for n in "AB"}
    metadata = {"lora_adapter_metadata": header}
    path = lora_files.save(tensors, tmp_path / "a.safetensors", metadata)
    with pytest.raises(UserError, match="is no JSON object|its alpha is 'much'"):
        read_lora(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none.safetensors"):
        read_lora(tmp_path / "none.safetensors")


def test_a_failure_half_way_takes_everything_back(files, model, monkeypatch):
    from ldm.adapters.lora import attached

    before, calls = dict(model.state_dict(keep_vars=True)), []

    def fail(*args):
        calls.append(args)
        if len(calls) > 5:
            raise MemoryError
        return own(*args)

    own = attached.merge_into
    monkeypatch.setattr(attached, "merge_into", fail)
    with pytest.raises(MemoryError):
        read_lora(files[0]).attach(model, merge=True)
    now = model.state_dict(keep_vars=True)
    assert all(now[name] is tensor for name, tensor in before.items()) and not ATTACHED


def test_loading_changes_nothing_in_the_file(files):
    before = files[0].read_bytes()
    assert load_file(files[0]) and read_lora(files[0])
    assert files[0].read_bytes() == before
