"""Weights stored with scales beside them are read as the numbers that they stand for."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from ldm.checkpoint.io import read_checkpoint
from ldm.errors import UserError

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def weight(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.01


@pytest.mark.parametrize("dtype", FP8)
@pytest.mark.parametrize("ending", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("each_row", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 3)])
def test_scaled_8_bit_weights_are_multiplied_by_their_scales(
    tmp_path, dtype, ending, each_row, shape
):
    wanted = weight(*shape)
    largest = wanted.flatten(1).abs().amax(1) if each_row else wanted.abs().max()
    scale = largest / torch.finfo(dtype).max
    small = (wanted / scale.reshape(-1, *[1] * (len(shape) - 1))).to(dtype)
    tensors = {
        "a.weight": small, f"a.{ending}": scale, "a.bias": torch.ones(6),
        "a.scale_input": torch.ones(()), "scaled_fp8": torch.zeros(2, dtype=dtype),
    }  # fmt: skip
    save_file(tensors, tmp_path / "m.safetensors")
    read = read_checkpoint(tmp_path / "m.safetensors").tensors
    assert set(read) == {"a.weight", "a.bias"}
    precision = 2 * torch.finfo(dtype).eps * wanted.abs().max().item()
    torch.testing.assert_close(read["a.weight"], wanted, rtol=0, atol=precision)


@pytest.mark.parametrize("dtype", [*FP8, torch.float16, torch.bfloat16, torch.float32])
def test_weights_without_scales_stay_as_they_are(tmp_path, dtype):
    save_file({"a.weight": weight(6, 4).to(dtype)}, tmp_path / "m.safetensors")
    read = read_checkpoint(tmp_path / "m.safetensors").tensors["a.weight"]
    assert read.dtype == dtype and torch.equal(read.float(), weight(6, 4).to(dtype).float())


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32])
def test_quantised_weights_are_refused(tmp_path, dtype):
    tensors = {"a.weight": torch.ones(6, 4, dtype=dtype), "position_ids": torch.arange(4)}
    torch.save({"state_dict": tensors}, tmp_path / "m.ckpt")
    with pytest.raises(UserError, match=r"quantised weights .* in a\.weight"):
        read_checkpoint(tmp_path / "m.ckpt")


def test_scales_that_do_not_fit_are_refused(tmp_path):
    tensors = {"a.weight": weight(6, 4).to(FP8[0]), "a.scale_weight": torch.ones(5)}
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(UserError, match=r"expected 1 or 6"):
        read_checkpoint(tmp_path / "m.safetensors")
