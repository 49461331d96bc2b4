"""Hubs that save and load checkpoints in their own way are resumed."""

from __future__ import annotations

import pytest

from ldm.models.hub_training import HubTraining
from ldm.training.checkpoints import _takes_all_names

NESTED = "model.params.nested={a: [1, {b: 2.5}], c: null}"


def test_a_hub_that_saves_its_parameters_is_resumed_and_they_are_plain_values(work):
    target = "model.target=training_parts.Remembering"
    assert work.start("run", "--max_steps", "1", target, NESTED) == 0
    saved = work.checkpoint("run")["hyper_parameters"]
    assert saved["nested"] == {"a": [1, {"b": 2.5}], "c": None}
    assert (saved["path"], saved["rate"]) == ("a", 0.5)
    assert "Linear" in saved["kind"]
    assert work.go_on("run", "--max_steps", "2") == 0
    assert work.checkpoint("run")["global_step"] == 2


@pytest.mark.parametrize("name", ["Forgetful", "Restoring"])
def test_a_hub_that_leaves_out_what_it_makes_anew_is_resumed(work, name):
    assert work.start("run", "--max_steps", "1", f"model.target=training_parts.{name}") == 0
    assert "average" not in work.checkpoint("run")["state_dict"]
    assert work.go_on("run", "--max_steps", "2") == 0
    assert work.checkpoint("run")["global_step"] == 2


def test_a_weight_of_another_shape_is_refused_all_the_same(work, capsys):
    assert work.start("run", "--max_steps", "1", "model.target=training_parts.Forgetful") == 0
    assert work.go_on("run", "--max_steps", "2", "model.target=training_parts.Wide") == 2
    assert "weight.weight is (3, 3), not (4, 4)" in capsys.readouterr().err


def test_a_weight_that_is_missing_is_refused(work, capsys):
    assert work.start("run", "--max_steps", "1", "model.target=training_parts.Forgetful") == 0
    assert work.go_on("run", "--max_steps", "2", "model.target=training_parts.Denoiser") == 2
    assert "average is missing" in capsys.readouterr().err


def test_the_weights_of_our_own_hubs_are_checked_by_name():
    class Hub(HubTraining):
        pass

    assert _takes_all_names(Hub())
