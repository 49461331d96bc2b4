"""Data and model that do not fit are told at the first batch, with what the batch holds."""

from __future__ import annotations

import copy

import pytest
import torch
import yaml
from tiny_training import TINY_AUTOENCODER, TINY_DIFFUSION
from torch.utils.data import default_collate

from ldm.errors import UserError
from ldm.models.training_parts import pictures_from
from ldm.training.first_batches import FirstBatches, contents


@pytest.fixture
def configured(work):
    def configure(model: dict):
        config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
        work.write({**config, "model": copy.deepcopy(model)})
        return work

    return configure


def told(capsys) -> str:
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("main.py: error")]
    return line


@pytest.mark.parametrize(
    "change",
    [
        "ddconfig.in_channels=4",
        "ddconfig.out_ch=4",
        "ddconfig.ch_mult=[1,1,1,1,1,1]",
        "embed_dim=0",
    ],
)
@pytest.mark.parametrize("checked_first", ["training", "validation"])
def test_an_autoencoder_that_does_not_fit_the_pictures_is_one_line(
    configured, capsys, change, checked_first
):
    more = ["--num_sanity_val_steps", "0"] if checked_first == "training" else []
    assert configured(TINY_AUTOENCODER).start("run", f"model.params.{change}", *more) == 2
    line = told(capsys)
    assert f"cannot take the first batch of {checked_first}" in line
    assert "jpg [4, 16, 16, 3], txt (4 of str)" in line


@pytest.mark.parametrize(
    "change",
    [
        "unet_config.params.in_channels=5",
        "unet_config.params.out_channels=3",
        "unet_config.params.context_dim=24",
        "unet_config.params.num_classes=3",
        "timesteps=0",
        "conditioning_key=concat",
        "cond_stage_key=jpg",
    ],
)
def test_a_diffusion_model_that_does_not_fit_the_data_is_one_line(configured, capsys, change):
    assert configured(TINY_DIFFUSION).start("run", f"model.params.{change}") == 2
    line = told(capsys)
    assert "the first batch of validation (" in line and ".py, line " in line
    assert "jpg [4, 16, 16, 3], txt (4 of str)" in line


@pytest.mark.parametrize("key", ["image", "JPG", "txt"])
@pytest.mark.parametrize(
    ("model", "name"), [(TINY_AUTOENCODER, "image_key"), (TINY_DIFFUSION, "first_stage_key")]
)
def test_an_entry_that_the_data_lacks_is_named_beside_those_it_has(
    configured, capsys, model, name, key
):
    assert configured(model).start("run", f"model.params.{name}={key}") == 2
    line = told(capsys)
    assert f"entry {key!r}" in line and name in line
    assert "holds list" in line if key == "txt" else "which has jpg, txt" in line


@pytest.mark.parametrize("batch", [(torch.zeros(2, 4, 4, 3), [1, 2]), [1], torch.zeros(2, 3)])
def test_a_batch_without_names_is_told(batch):
    with pytest.raises(UserError, match=r"'jpg' of the data, which has no names"):
        pictures_from(batch, "jpg")


def test_a_fault_in_somebodys_own_model_stays_a_traceback(work):
    with pytest.raises(RuntimeError, match="a fault in the model"):
        work.start("run", "model.params.failure=error", "model.params.at=0")


@pytest.mark.parametrize(
    "items",
    [
        [{"jpg": torch.zeros(8, 8, 3)}, {"jpg": torch.zeros(8, 6, 3)}],
        [{"jpg": torch.zeros(8, 8, 3)}, {"jpg": torch.zeros(8, 8)}],
        [{"caption": ["a", "b"]}, {"caption": ["a"]}],
        [{"jpg": None}, {"jpg": None}],
        [{"jpg": object()}],
    ],
)
def test_items_that_do_not_go_into_one_batch_are_told(items):
    with pytest.raises((RuntimeError, TypeError)) as caught:
        default_collate(items)
    fault = FirstBatches().misfit(caught.value)
    assert fault is not None and "do not go into one batch" in str(fault)
    # A loader's worker sends its error as a text with a traceback before it.
    sent = RuntimeError(f"Caught RuntimeError in DataLoader worker process 0.\n{caught.value}\n")
    assert str(FirstBatches().misfit(sent)) == str(fault)


def ours(message: str) -> Exception:
    """Return an error that comes out of this package's code."""
    with pytest.raises(UserError) as caught:
        pictures_from({}, "jpg")
    return type("Fault", (RuntimeError,), {})(message).with_traceback(caught.value.__traceback__)


def test_nothing_is_said_once_a_batch_of_the_kind_is_done():
    batches, batch = FirstBatches(), {"jpg": torch.zeros(2, 8, 8, 3)}
    batches.on_train_batch_start(None, None, batch, 0)
    assert batches.misfit(ours("sizes")) is not None
    batches.on_train_batch_end(None, None, None, batch, 0)
    batches.on_train_batch_start(None, None, batch, 1)
    assert batches.misfit(ours("sizes")) is None


@pytest.mark.parametrize("message", ["can't allocate memory: you tried", "CPU: allocate memory"])
def test_a_lack_of_memory_is_not_called_a_misfit(message):
    batches = FirstBatches()
    batches.on_train_batch_start(None, None, {"jpg": torch.zeros(2, 8, 8, 3)}, 0)
    assert batches.misfit(ours(message)) is None


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({}, "no entries"),
        ([torch.zeros(2, 3), ["a"]], "0 [2, 3], 1 (1 of str)"),
        (torch.zeros(2, 3), "the batch [2, 3]"),
        ({"a": {"b": 1}, "c": []}, "a (dict), c (list)"),
    ],
)
def test_batches_of_any_form_are_described(batch, words):
    assert contents(batch) == words
