"""Exported files hold what inference needs, exactly, and appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden_keys import V1, recorded_keys
from omegaconf import OmegaConf
from safetensors import safe_open
from tiny_model import CONFIG

from ldm.checkpoint import export
from ldm.checkpoint.export import export_inference
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.load import load_model
from ldm.checkpoint.names import ema_name
from ldm.config import build
from ldm.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
UNET = "model.diffusion_model."
TEXT = "cond_stage_model.transformer.text_model."


@pytest.fixture(scope="module")
def weights():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return build(OmegaConf.create(CONFIG)).state_dict()


@pytest.fixture
def training_file(weights, tmp_path):
    """A training checkpoint with everything that inference does not need."""
    averages = {ema_name(n): v + 1.0 for n, v in weights.items() if n.startswith(UNET)}
    counters = {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(5)}
    ballast = {
        "first_stage_model.loss.discriminator.weight": torch.zeros(3),
        f"{TEXT}embeddings.position_ids": torch.arange(77)[None],
    }
    content = {
        "state_dict": {**weights, **averages, **counters, **ballast},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(100_000)}}}],
        "global_step": 1234,
    }
    torch.save(content, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def exported(path):
    return read_checkpoint(path).tensors


def test_the_exported_file_holds_exactly_the_models_keys_and_values(
    training_file, weights, tmp_path
):
    out = tmp_path / "new" / "model.safetensors"
    report = export_inference(training_file, out)
    tensors = exported(out)
    assert tensors.keys() == weights.keys()
    assert all(torch.equal(tensors[name], weights[name]) for name in weights)
    assert report.dropped["training loss"] == 1
    assert report.averaged == 0
    assert report.size == out.stat().st_size
    assert "wrote" in report.summary()
    assert list(out.parent.iterdir()) == [out]


def test_averages_replace_the_unet_on_request(training_file, weights, tmp_path):
    report = export_inference(training_file, tmp_path / "a.safetensors", use_ema=True)
    tensors = exported(tmp_path / "a.safetensors")
    assert tensors.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(tensors[name], value + 1.0 if name.startswith(UNET) else value)
    assert report.averaged == sum(name.startswith(UNET) for name in weights)


def test_averages_of_the_text_encoder_are_taken_too(weights, tmp_path):
    averages = {ema_name(n): v + 1.0 for n, v in weights.items() if n.startswith((UNET, TEXT))}
    torch.save({"state_dict": {**weights, **averages}}, tmp_path / "a.ckpt")
    export_inference(tmp_path / "a.ckpt", tmp_path / "a.safetensors", use_ema=True)
    name = f"{TEXT}final_layer_norm.bias"
    assert torch.equal(exported(tmp_path / "a.safetensors")[name], weights[name] + 1.0)


def test_half_halves_the_weights_and_leaves_the_schedule(training_file, weights, tmp_path):
    export_inference(training_file, tmp_path / "a.safetensors", dtype=torch.float16)
    tensors = exported(tmp_path / "a.safetensors")
    for name, value in weights.items():
        expected = value.half() if "." in name else value
        assert tensors[name].dtype == expected.dtype
        assert torch.equal(tensors[name], expected)


def test_an_exported_file_loads_without_a_remark_and_can_be_exported_again(training_file, tmp_path):
    config = OmegaConf.create(CONFIG)
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    export_inference(training_file, first, use_ema=True)
    model, report = load_model(config, first)
    assert report.warnings() == []
    export_inference(first, second, metadata={"modelspec.title": "second"})
    again, _ = load_model(config, second)
    pairs = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def header(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_the_header_follows_modelspec_and_takes_the_callers_entries(training_file, tmp_path):
    out = tmp_path / "mine.safetensors"
    export_inference(training_file, out, metadata={"modelspec.author": "me"})
    found = header(out)
    assert found["format"] == "pt"
    assert found["modelspec.sai_model_spec"] == "1.0.0"
    assert found["modelspec.title"] == "mine"
    assert found["modelspec.author"] == "me"
    assert found["global_step"] == "1234"
    assert "modelspec.architecture" not in found
    assert read_checkpoint(out).global_step == 1234


def test_the_architecture_is_named_where_it_is_stable_diffusion_v1():
    shapes = recorded_keys()[V1]
    kept = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    found = export.describe(export.Checkpoint({}, Path("x")), kept, "x")
    assert found["modelspec.architecture"] == "stable-diffusion-v1"


def test_an_autoencoders_training_file_is_exported_without_its_loss(weights, tmp_path):
    first = "first_stage_model."
    bare = {n.removeprefix(first): v for n, v in weights.items() if n.startswith(first)}
    torch.save({"state_dict": {**bare, "loss.logvar": torch.zeros(())}}, tmp_path / "vae.ckpt")
    export_inference(tmp_path / "vae.ckpt", tmp_path / "vae.safetensors")
    assert exported(tmp_path / "vae.safetensors").keys() == bare.keys()


def test_averages_that_are_not_there_are_an_error(weights, tmp_path):
    torch.save(weights, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="--use_ema given"):
        export_inference(tmp_path / "a.ckpt", tmp_path / "a.safetensors", use_ema=True)
    assert not (tmp_path / "a.safetensors").exists()


def test_an_existing_file_is_kept_unless_told_otherwise(training_file, tmp_path):
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"precious")
    with pytest.raises(UserError, match="exists"):
        export_inference(training_file, out)
    assert out.read_bytes() == b"precious"
    export_inference(training_file, out, overwrite=True)
    assert exported(out)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("lora_unet_x.lora_up.weight", "lora_unet_x.lora_down.weight"), "a LoRA"),
        (("string_to_param.*",), "a textual inversion"),
        (("control_model.input_blocks.0.0.weight",), "a ControlNet"),
        (("something", "else"), None),
    ],
)
def test_a_file_without_a_model_is_refused_and_nothing_written(names, kind, tmp_path):
    path, out = tmp_path / "part.ckpt", tmp_path / "out.safetensors"
    torch.save({"state_dict": {name: torch.zeros(2, 2, 2) for name in names}}, path)
    with pytest.raises(UserError, match="holds nothing of a UNet, VAE or text encoder") as told:
        export_inference(path, out)
    assert kind is None or f"it looks like {kind}" in str(told.value)
    assert not out.exists()


def test_another_ending_is_an_error(training_file, tmp_path):
    with pytest.raises(UserError, match=r"\.safetensors"):
        export_inference(training_file, tmp_path / "a.ckpt2")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_write_leaves_nothing_behind(error, training_file, tmp_path, monkeypatch):
    out = tmp_path / "out" / "a.safetensors"

    def fail(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt):
        export_inference(training_file, out)
    assert list(out.parent.iterdir()) == []


def test_a_full_disk_is_told_before_writing(training_file, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="GB are free"):
        export_inference(training_file, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_the_file_gets_the_ordinary_access_rights(training_file, tmp_path):
    (tmp_path / "plain").touch()
    export_inference(training_file, tmp_path / "a.safetensors")
    rights = [(tmp_path / n).stat().st_mode & 0o777 for n in ("plain", "a.safetensors")]
    assert rights[0] == rights[1]


def test_an_output_under_a_plain_file_is_one_clear_error(training_file, tmp_path):
    (tmp_path / "plain").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        export_inference(training_file, tmp_path / "plain" / "out.safetensors")
