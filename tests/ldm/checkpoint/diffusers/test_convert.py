"""A checkpoint goes to a diffusers folder and comes back with every tensor as it was."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from narrow_models import narrow_config, write_narrow_model
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ldm.checkpoint.diffusers import convert
from ldm.checkpoint.diffusers.convert import Conversion, from_diffusers, to_diffusers
from ldm.checkpoint.diffusers.json_files import KEPT
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.load import load_model
from ldm.checkpoint.names import ema_name
from ldm.config import load_config
from ldm.errors import UserError

UNET = "model.diffusion_model."
AS_IT_IS, AGAIN = Conversion(), Conversion(overwrite=True)
KINDS = ("v1", "v2", "v2-v", "inpainting", "other")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("narrow")


@pytest.fixture(scope="module")
def narrow(home):
    """A function: kind of model to its checkpoint and configuration."""
    return functools.cache(functools.partial(write_narrow_model, home))


@pytest.fixture(scope="module")
def returned(narrow, home):
    """A function: kind of model to its checkpoint as it came back from a diffusers folder."""

    @functools.cache
    def there_and_back(kind):
        ckpt, config = narrow(kind)
        to_diffusers(ckpt, home / f"{kind}-folder", config, AS_IT_IS)
        from_diffusers(home / f"{kind}-folder", home / f"{kind}-back.safetensors")
        return home / f"{kind}-back.safetensors"

    return there_and_back


@pytest.fixture(scope="module")
def v1(narrow, home):
    """The checkpoint, the configuration and the folder of the v1 kind; not to be changed."""
    ckpt, config = narrow("v1")
    to_diffusers(ckpt, home / "folder", config, AS_IT_IS)
    return SimpleNamespace(ckpt=ckpt, config=config, folder=home / "folder")


def tensors(path):
    return read_checkpoint(path).tensors


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


# --- there and back ---


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_comes_back_to_the_bit_in_its_order(kind, narrow, returned):
    ckpt, _ = narrow(kind)
    assert_equal(tensors(returned(kind)), tensors(ckpt))


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_that_is_written_loads_the_file_without_a_remark(kind, narrow, returned):
    ckpt, config = narrow(kind)
    ours, _ = load_model(config, ckpt)
    again, report = load_model(returned(kind).with_suffix(".yaml"), returned(kind))
    assert not report.warnings()
    assert type(again) is type(ours) and again.parameterization == ours.parameterization
    assert float(again.scale_factor) == float(ours.scale_factor)
    side = ours.image_size
    x, t = (
        torch.randn(2, ours.model.diffusion_model.in_channels, side, side),
        torch.tensor([3, 999]),
    )
    with torch.no_grad():
        words = [each.get_learned_conditioning(["a cat!", ""]) for each in (ours, again)]
        eps = [
            each.model.diffusion_model(x, t, context=c)
            for each, c in zip((ours, again), words, strict=True)
        ]
        pictures = [each.decode_first_stage(x[:, :4]) for each in (ours, again)]
    for first, second in (words, eps, pictures):
        assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["v1", "v2-v"])
def test_a_folder_loads_as_a_model_just_as_the_file_does(kind, narrow, tmp_path):
    ckpt, config = narrow(kind)
    to_diffusers(ckpt, tmp_path / "folder", config, AS_IT_IS)
    ours, _ = load_model(config, ckpt)
    again, report = load_model(config, tmp_path / "folder")
    assert_equal(again.state_dict(), ours.state_dict())
    assert not report.warnings()


def test_element_types_are_kept_tensor_by_tensor(v1, tmp_path):
    mixed = tensors(v1.ckpt)
    for number, name in enumerate(mixed):
        if "." in name and number % 2:
            mixed[name] = mixed[name].to(torch.bfloat16 if number % 3 else torch.float16)
    save_file(mixed, tmp_path / "mixed.safetensors")
    to_diffusers(tmp_path / "mixed.safetensors", tmp_path / "folder", v1.config, AS_IT_IS)
    from_diffusers(tmp_path / "folder", tmp_path / "back.safetensors")
    assert_equal(tensors(tmp_path / "back.safetensors"), mixed)


def test_half_halves_the_weights_and_leaves_the_schedule(v1, tmp_path):
    half = Conversion(dtype=torch.float16)
    to_diffusers(v1.ckpt, tmp_path / "folder", v1.config, half)
    from_diffusers(tmp_path / "folder", tmp_path / "there.safetensors")
    from_diffusers(v1.folder, tmp_path / "back.safetensors", how=half)
    expected = {n: v.half() if "." in n else v for n, v in tensors(v1.ckpt).items()}
    for name in ("there", "back"):
        assert_equal(tensors(tmp_path / f"{name}.safetensors"), expected)


def test_tensors_of_no_known_use_and_other_schedules_travel_too(v1, tmp_path):
    odd = tensors(v1.ckpt) | {
        "my_own.table": torch.arange(5),
        "lvlb_weights": torch.rand(1000),
        f"{UNET}extra.weight": torch.rand(2),
    }
    save_file(odd, tmp_path / "odd.safetensors")
    to_diffusers(tmp_path / "odd.safetensors", tmp_path / "folder", v1.config, AS_IT_IS)
    from_diffusers(tmp_path / "folder", tmp_path / "back.safetensors")
    assert_equal(tensors(tmp_path / "back.safetensors"), odd)


@pytest.fixture
def training_file(v1, tmp_path):
    weights = tensors(v1.ckpt)
    averages = {ema_name(n): v + 1.0 for n, v in weights.items() if n.startswith(UNET)}
    ballast = {
        "first_stage_model.loss.logvar": torch.zeros(()),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    }
    content = {"state_dict": {**weights, **averages, **ballast}, "global_step": 1234}
    torch.save(content, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_a_training_checkpoint_gives_weights_or_averages_and_says_what_it_leaves(
    training_file, v1, tmp_path
):
    lines = to_diffusers(training_file, tmp_path / "raw", v1.config, AS_IT_IS)
    assert any("left out" in line and "EMA" in line and "training loss 1" in line for line in lines)
    averaged = Conversion(use_ema=True)
    lines = to_diffusers(training_file, tmp_path / "averaged", v1.config, averaged)
    assert "EMA averages" in lines[0]
    weights = tensors(v1.ckpt)
    for name, more in (("raw", 0.0), ("averaged", 1.0)):
        from_diffusers(tmp_path / name, tmp_path / f"{name}.safetensors")
        expected = {n: v + more if n.startswith(UNET) else v for n, v in weights.items()}
        assert_equal(tensors(tmp_path / f"{name}.safetensors"), expected)
        assert read_checkpoint(tmp_path / f"{name}.safetensors").global_step == 1234


def test_a_ckpt_is_written_as_training_writes_it(training_file, v1, tmp_path):
    to_diffusers(training_file, tmp_path / "folder", v1.config, AS_IT_IS)
    from_diffusers(tmp_path / "folder", tmp_path / "back.ckpt")
    content = torch.load(tmp_path / "back.ckpt", weights_only=True)
    assert content["global_step"] == 1234
    assert_equal(content["state_dict"], tensors(v1.ckpt))
    size = sum(v.nbytes for v in content["state_dict"].values())
    assert (tmp_path / "back.ckpt").stat().st_size < 1.1 * size


# --- what belongs to the file ---


def header(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_the_header_follows_modelspec_and_survives_the_folder(narrow, tmp_path):
    ckpt, config = narrow("v2-v")
    save_file(load_file(ckpt), tmp_path / "a.safetensors", {"modelspec.license": "MIT", "x": "y"})
    how = Conversion(metadata={"modelspec.author": "me"})
    to_diffusers(tmp_path / "a.safetensors", tmp_path / "folder", config, how)
    from_diffusers(tmp_path / "folder", tmp_path / "b.safetensors")
    found = header(tmp_path / "b.safetensors")
    assert found["format"] == "pt" and found["modelspec.sai_model_spec"] == "1.0.0"
    assert found["modelspec.prediction_type"] == "v" and found["modelspec.resolution"] == "16x16"
    assert (found["modelspec.license"], found["modelspec.author"], found["x"]) == ("MIT", "me", "y")


def test_plain_v1_needs_no_configuration_beside_it(v1, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "V1_CONFIG", v1.config)  # as if this were the published one
    lines = from_diffusers(v1.folder, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.yaml").exists() and not any("yaml" in line for line in lines)


def test_plain_v1_gets_one_where_programs_would_take_another_instead(v1, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "V1_CONFIG", v1.config)
    (tmp_path / "config.yaml").write_text("model: another\n")
    from_diffusers(v1.folder, tmp_path / "a.safetensors")
    assert load_config(tmp_path / "a.yaml").model.params.image_size == 8


def test_a_given_configuration_is_the_one_that_is_written(v1, tmp_path):
    config = load_config(v1.config)
    config.model.params.monitor = "val/mine"
    OmegaConf.save(config, tmp_path / "own.yaml")
    from_diffusers(v1.folder, tmp_path / "a.safetensors", tmp_path / "own.yaml")
    assert load_config(tmp_path / "a.yaml").model.params.monitor == "val/mine"


def test_a_schedule_changed_in_the_folder_since_is_the_one_that_counts(v1, tmp_path, caplog):
    ckpt, config = write_narrow_model(tmp_path, "v1")
    to_diffusers(ckpt, tmp_path / "folder", config, AS_IT_IS)
    file = tmp_path / "folder/scheduler/scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"beta_end": 0.02}))
    from_diffusers(tmp_path / "folder", tmp_path / "a.safetensors")
    assert "another noise schedule" in caplog.text
    model, report = load_model(tmp_path / "a.yaml", tmp_path / "a.safetensors")
    assert not report.warnings()
    assert float(model.betas[-1]) == pytest.approx(0.02)


# --- what is refused, in one line, with nothing written ---


def refused(words, action, *arguments, **options):
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_exists_is_kept_unless_told_otherwise(v1, tmp_path):
    out, file = tmp_path / "folder", tmp_path / "a.safetensors"
    to_diffusers(v1.ckpt, out, v1.config, AS_IT_IS)
    file.write_bytes(b"precious")
    refused("exists", to_diffusers, v1.ckpt, out, v1.config, AS_IT_IS)
    refused("exists", from_diffusers, out, file)
    assert file.read_bytes() == b"precious"
    (out / "stale.txt").touch()
    to_diffusers(v1.ckpt, out, v1.config, AGAIN)
    from_diffusers(out, file, how=AGAIN)
    assert not (out / "stale.txt").exists()
    assert_equal(tensors(file), tensors(v1.ckpt))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "a.yaml", "folder"]


def test_a_configuration_that_exists_is_kept_too(v1, tmp_path):
    (tmp_path / "a.yaml").write_text("precious: 1\n")
    refused("a.yaml", from_diffusers, v1.folder, tmp_path / "a.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["a.yaml"]


def test_a_folder_of_something_else_is_never_replaced(v1, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    refused("will not be replaced", to_diffusers, v1.ckpt, tmp_path / "photos", v1.config, AGAIN)
    assert (tmp_path / "photos" / "cat.png").exists()


@pytest.mark.parametrize(
    ("direction", "name", "words"),
    [
        ("to", "a.safetensors", "expected a folder's name"),
        ("from", "folder2", "ending in .safetensors or .ckpt"),
        ("from", "a.bin", "ending in .safetensors or .ckpt"),
        ("from", "..", "ending in .safetensors or .ckpt"),
    ],
)
def test_a_destination_of_the_wrong_kind_is_refused(direction, name, words, v1, tmp_path):
    if direction == "to":
        refused(words, to_diffusers, v1.ckpt, tmp_path / name, v1.config, AS_IT_IS)
    else:
        refused(words, from_diffusers, v1.folder, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_averages_are_not_in_a_folder_nor_in_every_file(v1, tmp_path):
    averaged = Conversion(use_ema=True)
    refused("one set", from_diffusers, v1.folder, tmp_path / "a.safetensors", how=averaged)
    refused("EMA", to_diffusers, v1.ckpt, tmp_path / "folder", v1.config, averaged)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_configuration_are_refused(v1, narrow, tmp_path):
    _, v2 = narrow("v2")
    refused("does not fit", to_diffusers, v1.ckpt, tmp_path / "folder", v2, AS_IT_IS)
    wider = narrow_config("v1")
    wider["model"]["params"]["unet_config"]["params"]["model_channels"] = 64
    wider = OmegaConf.create(wider)
    refused("does not fit", from_diffusers, v1.folder, tmp_path / "a.safetensors", wider)
    without = narrow_config("v1")
    without["model"]["params"]["cond_stage_config"] = "__is_unconditional__"
    without = OmegaConf.create(without)
    refused("--config", from_diffusers, v1.folder, tmp_path / "a.safetensors", without)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("direction", ["to", "from"])
def test_a_failing_write_leaves_nothing_behind(error, direction, v1, tmp_path, monkeypatch):
    def fail(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt):
        if direction == "to":
            to_diffusers(v1.ckpt, tmp_path / "folder", v1.config, AS_IT_IS)
        else:
            from_diffusers(v1.folder, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_writing(v1, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    refused("GB are free", to_diffusers, v1.ckpt, tmp_path / "folder", v1.config, AS_IT_IS)
    refused("GB are free", from_diffusers, v1.folder, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_lies_beside_the_folders_own_files(narrow, tmp_path):
    ckpt, config = narrow("v2")
    lines = to_diffusers(ckpt, tmp_path / "folder", config, AS_IT_IS)
    kept = tensors(tmp_path / "folder" / KEPT)
    assert {"betas", "cond_stage_model.model.text_projection"} <= kept.keys()
    assert any(".resblocks.2." in name for name in kept)
    assert not any(".resblocks.1." in name for name in kept)
    assert any(KEPT in line and "schedule 12" in line for line in lines)
