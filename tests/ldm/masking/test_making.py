"""Masks of every kind, of drawn pictures and of those that scikit-image ships."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from face_files import astronaut, write_onnx
from PIL import Image, ImageDraw

from ldm.errors import UserError
from ldm.masking.making import make_mask
from ldm.settings.masks import MaskOptions

_CARD, _ON_CPU = "CUDAExecutionProvider", ["CPUExecutionProvider"]


def ball(size=(90, 60), box=(30, 15, 60, 45)):
    """A red ball before a blue wall with a little grain."""
    picture = Image.new("RGB", size, (40, 60, 160))
    ImageDraw.Draw(picture).ellipse(box, fill=(210, 40, 30))
    grain = np.random.default_rng(0).normal(scale=4, size=(size[1], size[0], 3))
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))


def marked(size=(90, 60), box=(30, 15, 60, 45)):
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return np.asarray(mask) > 0


def overlap(mask, wanted):
    mask = mask >= 128
    return (mask & wanted).sum() / (mask | wanted).sum()


@pytest.mark.parametrize("given", [{"colour": "#d2281e"}, {"at": "45,30"}])
def test_a_colour_is_marked_by_its_name_or_by_a_pixel_that_has_it(given):
    mask = make_mask(ball(), MaskOptions(kind="colour", tolerance=30.0, **given))
    assert overlap(mask, marked()) > 0.97
    assert (
        overlap(make_mask(ball(), MaskOptions(kind="colour", **given, invert=True)), marked()) < 0.1
    )


def test_tolerance_counts_in_lab_where_black_to_white_is_100():
    grey = Image.new("L", (4, 1))
    grey.putdata([0, 60, 120, 255])

    def count(far):
        options = MaskOptions(kind="colour", colour="black", tolerance=far)
        return int((make_mask(grey.convert("RGB"), options) > 0).sum())

    assert [count(far) for far in (1.0, 26.0, 51.0, 99.0, 100.1)] == [1, 2, 3, 3, 4]


def test_grabcut_finds_the_thing_in_a_box_and_all_else_is_background():
    options = {"box": "0.25,0.15,0.75,0.85"}
    subject = make_mask(ball(), MaskOptions(kind="subject", **options))
    assert overlap(subject, marked()) > 0.95
    background = make_mask(ball(), MaskOptions(kind="background", **options))
    assert np.array_equal(background, 255 - subject)
    assert np.array_equal(make_mask(ball(), MaskOptions(kind="subject", **options)), subject)


def test_the_astronauts_suit_is_marked_by_its_orange():
    options = MaskOptions(kind="colour", at="120,300", tolerance=30.0, largest=True)
    mask = make_mask(astronaut(), options)
    assert mask[300, 120] == 255 and mask[280, 80] == 255 and mask[400, 230] == 255
    assert not mask[:150].any() and not mask[:, 420:].any()  # her head; the shuttle
    assert 0.1 < (mask > 0).mean() < 0.3


@pytest.fixture(params=["probabilities", "logits", "probabilities for half precision"])
def network(request, tmp_path):
    """A network that marks the right half."""
    half = np.zeros((1, 1, 32, 32))
    half[..., 16:] = 1.0
    value = half * 24 - 12 if request.param == "logits" else half
    write_onnx(tmp_path / "half.onnx", {"d0": value, "d1": value * 0}, (1, 3, 32, 32))
    return tmp_path / "half.onnx"


def test_an_onnx_file_marks_what_it_takes_for_the_subject(network):
    mask = make_mask(ball(), MaskOptions(kind="subject", model=str(network)))
    assert mask.shape == (60, 90) and not mask[:, :40].any() and (mask[:, 50:] == 255).all()
    background = make_mask(ball(), MaskOptions(kind="background", model=str(network)))
    assert np.array_equal(background, 255 - mask)


def test_pictures_are_given_to_networks_as_they_were_trained():
    from types import SimpleNamespace

    from ldm.masking.subject import _prepared

    white = Image.new("RGB", (7, 5), "white")
    told = SimpleNamespace(shape=["batch", 3, 6, 8], type="tensor(float16)")
    x = _prepared(white, told, "u2net.onnx")
    assert x.shape == (1, 3, 6, 8) and x.dtype == np.float16
    expected = (1 - np.array([0.485, 0.456, 0.406])) / (0.229, 0.224, 0.225)
    assert np.allclose(x[0, :, 0, 0], expected, atol=2e-3)
    told = SimpleNamespace(shape=[1, 3, "h", "w"], type="tensor(float)")
    assert _prepared(white, told, "isnet-general-use.onnx")[0, 0, 0, 0] == 0.5


def test_a_networks_logits_become_how_sure_it_is(tmp_path):
    logits = np.repeat([-12.0, 3.0, 12.0], 10)[None, None, None] * np.ones((1, 1, 30, 1))
    write_onnx(tmp_path / "x.onnx", {"y": logits}, (1, 3, 30, 30))
    options = MaskOptions(kind="subject", model=str(tmp_path / "x.onnx"))
    mask = make_mask(Image.new("RGB", (30, 30), "white"), options)
    assert np.abs(mask[15, [4, 14, 25]] - 255 / (1 + np.exp([12.0, -3.0, -12.0]))).max() < 2


@pytest.mark.parametrize(
    ("shape", "outputs", "words"),
    [
        ((1, 1, 8, 8), {"y": np.zeros((1, 1, 8, 8))}, "expected one RGB picture"),
        ((1, 3, 8, 8), {"y": np.zeros((1, 5, 8, 8))}, "expected one mask"),
        ((1, 3, 8, 8), {"y": np.full((1, 1, 8, 8), np.nan)}, "NaN"),
        (None, None, "cannot be run by onnxruntime"),
    ],
)
def test_other_networks_are_refused_in_one_line(tmp_path, shape, outputs, words):
    path = tmp_path / "x.onnx"
    if shape is None:
        path.write_bytes(b"no network")
    else:
        write_onnx(path, outputs, shape)
    with pytest.raises(UserError, match=words) as told:
        make_mask(ball(), MaskOptions(kind="subject", model=str(path)))
    assert "\n" not in str(told.value) and "rembg" in str(told.value)


def test_a_picture_too_small_for_grabcut_is_not_blamed_on_a_box_that_nobody_gave():
    with pytest.raises(UserError, match="the picture is 9x1 as GrabCut looks at it") as told:
        make_mask(ball().resize((9, 1)), MaskOptions(kind="subject"))
    assert "--box" not in str(told.value)


def test_onnx_files_compute_where_they_are_told(network, monkeypatch):
    import onnxruntime

    used = []
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, providers: used.append(providers) or session(path, providers=_ON_CPU),
    )
    options = MaskOptions(kind="subject", model=str(network))
    with pytest.raises(UserError, match="--device cuda was given, but the onnxruntime"):
        make_mask(ball(), options, "cuda")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [_CARD, *_ON_CPU])
    for device in ("auto", "cpu", "cuda:1"):
        make_mask(ball(), options, device)
    assert used == [
        [(_CARD, {"device_id": "0"}), *_ON_CPU],
        _ON_CPU,
        [(_CARD, {"device_id": "1"}), *_ON_CPU],
    ]


def test_without_onnxruntime_the_extra_is_named(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime.*\[repair\]"):
        make_mask(ball(), MaskOptions(kind="subject", model=str(network)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "colour"}, "--kind colour was given alone; expected --colour or --at; add it"),
        ({"kind": "colour", "colour": "red", "at": "1,1"}, "--colour and --at; .* leave one out"),
        ({"kind": "colour", "colour": "reddish"}, "--colour 'reddish' was given; expected a name"),
        ({"kind": "colour", "at": "90,2"}, "--at 90,2 was given; the picture is 90x60"),
        ({"kind": "colour", "at": "1"}, "--at '1' was given; expected X,Y"),
        ({"kind": "colour", "at": "1.5,2"}, "--at '1.5,2' was given; expected X,Y: whole pixels"),
        ({"kind": "colour", "colour": "red", "box": "0,0,1,1"}, "--box .* does not have it"),
        ({"kind": "subject", "box": "0,0,1,1"}, "something outside"),
        ({"kind": "subject", "box": "0.5,0,0.5,1"}, "something inside"),
        ({"kind": "subject", "box": "10,10,50,50"}, "--box 10,10,50,50 was given; .* fractions"),
        ({"kind": "subject", "box": "-0.1,0,0.5,1"}, "fractions from 0 to 1"),
        ({"kind": "subject", "box": "nan,0,0.5,1"}, "expected LEFT,TOP,RIGHT,BOTTOM"),
        ({"kind": "subject", "box": "0,0,.5,1", "model": "x"}, "which needs none"),
        ({"kind": "words", "model": "x"}, "--kind words was given alone; expected --words"),
        ({"kind": "words", "words": "cat"}, "without --model"),
        ({"kind": "words", "words": " , ", "model": "x"}, "--words is empty"),
        ({"kind": "words", "words": "cat", "model": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_what_does_not_fit_is_one_line(given, words):
    with pytest.raises(UserError, match=words) as told:
        make_mask(ball(), MaskOptions(**given))
    assert "\n" not in str(told.value)
