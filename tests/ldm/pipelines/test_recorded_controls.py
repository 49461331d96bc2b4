"""Controls are read from what a picture records, whoever wrote it, and nothing is looked for."""

from __future__ import annotations

import json

import pytest

from ldm.pipelines.recorded_controls import RecordedControl, recorded_controls

THEIRS = (
    "Module: canny, Model: control_v11p_sd15_canny [d14c016b], Weight: 0.8, Resize Mode: Crop and "
    "Resize, Processor Res: 512, Threshold A: 100, Threshold B: 200, Guidance Start: 0.1, "
    "Guidance End: 0.9, Pixel Perfect: True, Control Mode: My prompt is more important"
)


def own(*wishes, **more):
    return {"Control": json.dumps(wishes), "Control mode": "prompt", "ControlNet 0": THEIRS, **more}


def test_our_own_says_the_file_the_picture_and_how_it_acted():
    entries = own(r"canny=nets\edges.pth:C:\photos\room.png:0.5:0:0.75", Steps="4")
    entries["Control hashes"] = json.dumps(["ab"])
    (found,), said = recorded_controls(entries)
    expected = RecordedControl("canny", "edges", "ab", "room.png", 0.5, 0.0, 0.75, "prompt")
    assert found == expected
    assert said == {*entries} - {"Steps"}


def test_the_extensions_entry_is_read_in_our_words():
    (found,), said = recorded_controls({"ControlNet 0": THEIRS, "Seed": "1"})
    name = "control_v11p_sd15_canny"
    assert found == RecordedControl("canny", name, "", "", 0.8, 0.1, 0.9, "prompt")
    assert said == {"ControlNet 0"}


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("none", "hint"),
        ("softedge_hed", "softedge"),
        ("lineart_anime_denoise", "lineart_anime"),
        ("lineart_coarse", "lineart"),
        ("tile_resample", "tile"),
        ("seg_ofade20k", "segmentation"),
        ("ip-adapter_clip_sd15", "ip"),
        ("reference_only", "reference"),
        ("depth_midas", "depth"),
        ("tilery", "tilery"),
    ],
)
def test_what_the_extension_makes_of_a_picture_has_our_name(module, kind):
    (found,), _ = recorded_controls({"ControlNet 0": THEIRS.replace("canny,", f"{module},", 1)})
    assert found.kind == kind


@pytest.mark.parametrize(
    "entries",
    [
        {"Control": "["},
        {"Control": "[7]"},
        {"Control": '["canny"]'},
        {"Control": "[]"},
        {"ControlNet 0": "much: more"},
        {"ControlNets": THEIRS},
        {},
    ],
)
def test_what_cannot_be_read_is_left_for_others_to_name(entries):
    assert recorded_controls(entries) == ((), frozenset())


def test_numbers_that_are_none_are_the_usual_ones():
    text = THEIRS.replace("0.8", "nan").replace("0.1", "x")
    (found,), _ = recorded_controls({"ControlNet 0": text})
    assert (found.scale, found.start) == (1.0, 0.0)
