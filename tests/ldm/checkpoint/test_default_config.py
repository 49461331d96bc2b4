"""A checkpoint without a configuration gets the one that its weights ask for."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm.checkpoint.default_config import V1_CONFIG, default_config, own_config
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


@pytest.mark.parametrize("prefix", ["module.", "model.", "state_dict.", "_orig_mod."])
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_prefix_and_a_nesting_hide_no_inpainting_model(tmp_path, key, prefix):
    state = load_file(checkpoint(tmp_path, 9, 768))
    torch.save({key: {prefix + n: v for n, v in state.items()}}, tmp_path / "m.ckpt")
    name = "configs/stable-diffusion/v1-inpainting-inference.yaml"
    assert default_config(tmp_path / "m.ckpt") == name


def test_stable_diffusion_2_is_asked_what_it_predicts(tmp_path):
    with pytest.raises(UserError, match=r"--config .*v2-inference-v\.yaml") as caught:
        default_config(checkpoint(tmp_path, 4, 1024))
    assert "\n" not in str(caught.value)


def test_a_file_that_tells_nothing_is_taken_for_version_1(tmp_path):
    (tmp_path / "m.ckpt").write_bytes(b"weights")
    assert default_config(tmp_path / "m.ckpt") == V1_CONFIG


def weights(folder, name="m.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"weights")
    return folder / name


@pytest.mark.parametrize("name", ["m.yaml", "m.yml", "m.YAML", "config.yaml", "config.yml"])
def test_a_yaml_beside_a_checkpoint_is_its_own(tmp_path, name):
    ckpt = weights(tmp_path)
    assert own_config(ckpt) is None
    (tmp_path / name).write_text("model: {}")
    assert own_config(ckpt) == tmp_path / name


@pytest.mark.parametrize("name", ["m.yaml", "m.yml", "config.yaml"])
def test_a_yaml_beside_the_target_of_a_link_is_found(tmp_path, name):
    ckpt = weights(tmp_path / "store")
    (tmp_path / "store" / name).write_text("model: {}")
    between = tmp_path / "between.ckpt"
    between.symlink_to(ckpt)
    link = tmp_path / "here" / "model.ckpt"
    link.parent.mkdir()
    link.symlink_to(between)
    assert own_config(link) == tmp_path / "store" / name


def test_a_yaml_beside_a_hubs_link_is_found_though_its_blob_has_none(tmp_path):
    """The hub's cache: snapshots/REVISION/NAME are links to blobs/HASH, the YAML as well."""
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name in ("v1.safetensors", "v1.yaml"):
        weights(tmp_path / "blobs", f"hash-of-{name}")
        (snapshot / name).symlink_to(f"../../blobs/hash-of-{name}")
    assert own_config(snapshot / "v1.safetensors") == snapshot / "v1.yaml"


def test_a_yaml_beside_the_link_comes_before_the_targets(tmp_path):
    ckpt = weights(tmp_path / "store")
    (tmp_path / "store" / "m.yaml").write_text("model: {}")
    link = tmp_path / "m.safetensors"
    link.symlink_to(ckpt)
    (tmp_path / "config.yaml").write_text("model: {}")
    assert own_config(link) == tmp_path / "config.yaml"
