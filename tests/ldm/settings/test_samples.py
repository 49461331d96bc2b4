"""What can be asked of a model's samples, and what is told when it cannot."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.command_line import parse
from ldm.settings.samples import SampleProgramSettings, SampleSettings, read_labels


def test_the_defaults_are_the_references():
    settings = SampleSettings()
    settings.validate()
    assert (settings.n_samples, settings.batch_size) == (50000, 10)
    assert (settings.steps, settings.ddim_eta) == (50, 1.0)
    assert not settings.vanilla_sample


def test_only_ddim_has_an_eta_of_its_own():
    assert SampleSettings(sampler="plms").ddim_eta == 0.0
    assert SampleSettings(sampler="ddim", eta=0.25).ddim_eta == 0.25


def test_labels_are_numbers_and_ranges_in_the_order_given():
    assert read_labels(["9", "3-5,0"]) == (9, 3, 4, 5, 0)
    assert len(read_labels(["0-999"])) == 1000


@pytest.mark.parametrize("text", ["dog", "-1", "5-3", "1-", "", "1.5", "²", "1-2-3"])
def test_what_is_no_label_is_told(text):
    with pytest.raises(UserError, match="--class_label"):
        read_labels([text])


def test_labels_are_taken_in_turn_whatever_the_batches_are():
    settings = SampleSettings(class_label=(7, 8, 9))
    assert [settings.label(number) for number in range(5)] == [7, 8, 9, 7, 8]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n_samples": 0}, "--n_samples 0"),
        ({"batch_size": -1}, "--batch_size -1"),
        ({"custom_steps": 0}, "--custom_steps 0"),
        ({"eta": 1.5}, "--eta 1.5"),
        ({"eta": float("nan")}, "--eta nan"),
        ({"scale": float("inf")}, "--scale inf"),
        ({"seed": -3}, "--seed -3"),
        ({"sampler": "dim"}, "--sampler dim"),
        ({"sampler": "plms", "eta": 0.5}, "eta must be 0 for PLMS"),
        ({"spacing": "karras"}, "--spacing karras"),
        ({"precision": "half"}, "--precision half"),
    ],
)
def test_what_is_out_of_range_is_told_in_one_line(values, words):
    with pytest.raises(UserError) as caught:
        SampleSettings(**values).validate()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_has_no_effect_is_remarked():
    assert not list(SampleSettings(eta=0.5).notices())
    (notice,) = SampleSettings(vanilla_sample=True, custom_steps=20).notices()
    assert "--custom_steps" in notice
    (notice,) = SampleSettings(sampler="heun", eta=0.5).notices()
    assert "--eta does nothing" in notice
    (notice,) = SampleSettings(vanilla_sample=True, sampler="heun").notices()
    assert "--sampler heun" in notice


def test_a_command_line_reads_classes_and_the_word_none():
    line = "-r a -n 3 --class_label 9 0-2 -l none model.params.x=1"
    given = parse(SampleProgramSettings, "", line.split())
    assert given["class_label"] == (9, 0, 1, 2) and given["logdir"] is None
    assert given["overrides"] == ("model.params.x=1",)


@pytest.mark.parametrize(
    ("values", "words"),
    [({}, "add --resume"), ({"resume": "a", "classifier": "b"}, "add --class_label")],
)
def test_a_model_is_needed_and_classes_where_a_classifier_guides(values, words):
    with pytest.raises(UserError, match=words):
        SampleProgramSettings(**values).validate()


def test_a_record_holds_what_the_pictures_depend_on_in_the_order_it_always_had():
    record = SampleProgramSettings(resume="a", class_label=(1, 2), logdir="out").record()
    assert " ".join(record) == (
        "resume config logdir overrides use_ema device classifier n_samples batch_size "
        "vanilla_sample custom_steps eta sampler spacing class_label prompt "
        "prompt_lang glossary translator scale classifier_scale seed precision watermark"
    )
    assert record["class_label"] == [1, 2] and record["logdir"] == "out"
    assert record["resume"].endswith("/a") and record["config"] is None
