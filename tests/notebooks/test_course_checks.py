"""The activity's checks: a right answer passes, and each wrong one is told in words."""

from __future__ import annotations

import csv
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from running import ROOT

sys.path.append(str(ROOT / "notebooks"))  # as the notebooks do

import course_checks as check

STUDIO = SimpleNamespace(shape=(4, 8, 8))


def picture(value: int = 0) -> Image.Image:
    return Image.new("RGB", (8, 8), (value, value, value))


def seeded(seed):
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def globally_seeded(seed):
    torch.manual_seed(seed)
    return torch.randn(1, 4, 8, 8)


def told(call, *given) -> str:
    with pytest.raises(check.NotYet) as caught:
        call(*given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("several_pictures", ()),
        ("noise_of_a_seed", (STUDIO,)),
        ("pictures_by_steps", ()),
        ("prompts_of_words", ()),
        ("guidance", ()),
        ("pasted_face", ()),
        ("web_app", ()),
        ("feedback", ()),
    ],
)
def test_a_blank_and_an_error_are_told_in_one_line(name, more):
    def broken(*_):
        raise ValueError("a typing error")

    assert "is still blank" in told(getattr(check, name), lambda *_: ..., *more)
    assert "ends with ValueError: a typing error" in told(getattr(check, name), broken, *more)
    (line,) = check.NotYet("why")._render_traceback_()
    assert line == "✗ why"


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (lambda p, n: [picture()] * n, "both pictures are the same"),
        (lambda p, n: picture(), "expected a list of 2 pictures"),
        (lambda p, n: [1, 2], "expected pictures of Pillow"),
    ],
)
def test_several_pictures(answer, wrong):
    assert wrong in told(check.several_pictures, answer)
    assert check.several_pictures(lambda p, n: [picture(k) for k in range(n)]).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (lambda seed: torch.randn(4, 8, 8), "expected (1, 4, 8, 8)"),
        (lambda seed: torch.randn(1, 4, 8, 8), "other numbers the second time"),
        (lambda seed: seeded(0), "seeds 1 and 2 give the same"),
        (lambda seed: seeded(seed).abs(), "torch.randn"),
        (globally_seeded, "moves torch's global random numbers"),
        (lambda seed: [0.0], "no tensor"),
    ],
)
def test_noise_of_a_seed(answer, wrong):
    assert wrong in told(check.noise_of_a_seed, answer, STUDIO)
    assert check.noise_of_a_seed(seeded, STUDIO).startswith("✓")


def test_pictures_by_steps():
    values = iter(range(9))
    assert "differ" in told(
        check.pictures_by_steps, lambda p, s, counts: [picture(next(values)) for _ in counts]
    )
    assert "steps=count" in told(
        check.pictures_by_steps, lambda p, s, counts: [picture() for _ in counts]
    )
    assert "three pictures" in told(check.pictures_by_steps, lambda p, s, counts: [picture()])
    right = check.pictures_by_steps(lambda p, s, counts: [picture(c) for c in counts])
    assert right.startswith("✓")


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (lambda t, c: "a photo", "expected a list"),
        (lambda t, c: [f"a photo of a {t[0]} on a {c[0]} background"], "expected 4"),
        (lambda t, c: ["a photo of a {thing}"] * 4, "put an f before"),
        (lambda t, c: ["a photo of a cat on a red background"] * 4, "is missing"),
    ],
)
def test_prompts_of_words(answer, wrong):
    assert wrong in told(check.prompts_of_words, answer)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (lambda u, c, s: c + s * (c - u), "scale 1 must give"),
        (lambda u, c, s: s * c, "scale 0 must give"),
        (lambda u, c, s: u + min(s, 1) * (c - u), "begin at eps_uncond"),
        (lambda u, c, s: 1.0, "no tensor"),
    ],
)
def test_guidance(answer, wrong):
    assert wrong in told(check.guidance, answer)


def pasted_in_place(whole, face, box):
    whole.paste(face.crop((0, 0, 32, 32)), box[:2])
    return whole


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (lambda whole, face, box: face, "pixels outside the box"),
        (lambda whole, face, box: whole.copy(), "the middle of the box"),
        (lambda whole, face, box: face.resize((32, 32)), "its size must stay"),
        (pasted_in_place, "picture.copy()"),
    ],
)
def test_pasted_face(answer, wrong):
    assert wrong in told(check.pasted_face, answer)


def test_web_app():
    gr = pytest.importorskip("gradio")
    values = iter(range(9))

    def page(function, fields=3):
        return lambda: gr.Interface(function, ["text", "number", "number"][:fields], "image")

    assert "expected gr.Interface" in told(check.web_app, lambda: picture())
    assert "fields for prompt, seed and steps" in told(check.web_app, page(lambda p, s: p, 2))
    assert "expected pictures" in told(check.web_app, page(lambda p, s, n: p))
    drawn_anew = page(lambda p, s, n: picture(next(values)))
    assert "drew two pictures" in told(check.web_app, drawn_anew)


def test_feedback():
    def with_commas(path, row):
        with open(path, "a", encoding="utf-8") as file:
            file.write(",".join(row) + "\n" + ",".join(row.values()) + "\n")

    def last_alone(path, row):
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row)

    assert "rows after 2 calls" in told(check.feedback, with_commas)
    assert "1 rows after 2 calls" in told(check.feedback, last_alone)
