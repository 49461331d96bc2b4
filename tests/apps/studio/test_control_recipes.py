"""A recipe's controls fill the fields; the pictures that they looked at are named, never filled."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.studio.control_recipes import recalled
from apps.studio.controls import OF_MODEL, Network, hint_kinds
from ldm.digests import file_hash
from ldm.pipelines.recorded_controls import RecordedControl


@pytest.fixture
def there(tmp_path):
    (tmp_path / "Net.pth").write_bytes(b"x")
    own = {OF_MODEL: Network(OF_MODEL, OF_MODEL, Path())}
    control = {**own, "Net": Network("Net", "ControlNet", tmp_path / "Net.pth")}
    prompt = {"ip": Network("ip", "IP-Adapter", tmp_path / "ip.bin")}
    return {"control": control, "image_prompt": prompt}


def read(there, *controls):
    found = recalled(controls, there, hint_kinds(), "en")
    return found.values, found.sentences


def test_a_control_and_an_image_prompt_fill_their_fields(there, tmp_path):
    digits = file_hash(tmp_path / "Net.pth")
    control = RecordedControl("canny", "net", digits, "room.png", 0.5, 0.1, 0.9, "guess")
    values, sentences = read(there, control, RecordedControl("ip", "ip"))
    expected = {"control": "Net", "control_scale": 0.5, "control_start": 0.1, "control_end": 0.9}
    expected |= {"control_kind": "canny", "control_mode": "control", "image_prompt": "ip"}
    assert expected.items() <= values.items()
    assert len(sentences) == 2
    assert "(room.png) that Net looked at" in sentences[0] and "give it again" in sentences[1]


def test_a_name_that_an_upload_has_here_is_not_said(there):
    _, sentences = read(there, RecordedControl("hint", "net", "", "ab" * 32 + ".png"))
    assert sentences == ["the picture that Net looked at is in no recipe: give it again"]


def test_the_model_itself_looks_again(there):
    values, _ = read(there, RecordedControl("reference", ""))
    assert values["control"] == OF_MODEL and "control_kind" not in values


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (RecordedControl("canny", "gone"), "canny=gone is not among the networks"),
        (RecordedControl("gligen", "boxes"), "gligen=boxes draws things in boxes"),
        (RecordedControl("depth", "Net"), "depth, cannot be made here"),
        (RecordedControl("hint", "Net", "00"), "Net is another file here"),
    ],
)
def test_what_is_not_the_same_here_is_said(control, said, there):
    assert said in " ".join(read(there, control)[1])


def test_a_second_control_is_named_and_left_out(there):
    first, second = RecordedControl("canny", "Net"), RecordedControl("tile", "Net")
    values, sentences = read(there, first, second)
    assert values["control_kind"] == "canny"
    assert any("tile=Net is a further control" in each for each in sentences)
