"""A checkpoint without a configuration gets the one that its weights ask for."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from ldm.checkpoint.default_config import V1_CONFIG, default_config
from ldm.errors import UserError

UNET = "model.diffusion_model.input_blocks"


def checkpoint(folder, channels, width):
    state = {
        f"{UNET}.0.0.weight": torch.zeros(320, channels, 3, 3),
        f"{UNET}.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(320, width),
    }
    save_file(state, folder / "m.safetensors")
    return folder / "m.safetensors"


@pytest.mark.parametrize(
    ("channels", "width", "name"),
    [
        (4, 768, "v1-inference"),
        (9, 768, "v1-inpainting-inference"),
        (9, 1024, "v2-inpainting-inference"),
        (4, 32, "v1-inference"),
    ],
)
def test_the_shapes_of_two_weights_tell_the_configuration(tmp_path, channels, width, name):
    expected = f"configs/stable-diffusion/{name}.yaml"
    assert default_config(checkpoint(tmp_path, channels, width)) == expected


def test_stable_diffusion_2_is_asked_what_it_predicts(tmp_path):
    with pytest.raises(UserError, match=r"--config .*v2-inference-v\.yaml") as caught:
        default_config(checkpoint(tmp_path, 4, 1024))
    assert "\n" not in str(caught.value)


def test_a_file_that_tells_nothing_is_taken_for_version_1(tmp_path):
    (tmp_path / "m.ckpt").write_bytes(b"weights")
    assert default_config(tmp_path / "m.ckpt") == V1_CONFIG
