"""Checks of the activity's blanks: each says that an answer is right, or what is wrong with it.

A check is given what the learner wrote and tries it. What is wrong is told in one line, as the
error ``NotYet``, so that running the whole notebook stops there.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from course_helpers import Studio
from PIL import Image
from torch import Tensor

PROMPTS = ("a photo of a cat on a red background", "a photo of a dog on a blue background")


class NotYet(Exception):
    """An answer is missing or wrong; the message says how."""

    def _render_traceback_(self) -> list[str]:  # IPython's hook: the line alone, no traceback
        return [f"✗ {self}"]


def _tried(function: Callable, *given: Any) -> Any:
    """Call a learner's function and return its answer."""
    name = getattr(function, "__name__", "the answer")
    if not callable(function):
        raise NotYet(f"{function!r} was given; expected a function: fill in its blank")
    try:
        answer = function(*given)
    except NotYet:
        raise
    except Exception as error:
        raise NotYet(f"{name} ends with {type(error).__name__}: {error}") from None
    if answer is None or answer is ...:
        raise NotYet(f"{name} is still blank: it returned nothing; did you forget `return`?")
    return answer


def _require(right: bool, wrong: str) -> None:
    if not right:
        raise NotYet(wrong)


def _pixels(picture: Any, name: str) -> np.ndarray:
    wrong = f"{name} made a {type(picture).__name__}; expected pictures of Pillow (PIL.Image)"
    _require(isinstance(picture, Image.Image), wrong)
    return np.asarray(picture.convert("RGB")).astype(int)


def several_pictures(several: Callable) -> str:
    """Check ``several(prompt, count)``: pictures from noise of their own."""
    pictures = _tried(several, PROMPTS[0], 2)
    wrong = f"several(prompt, 2) returned {type(pictures).__name__}; expected a list of 2 pictures"
    _require(isinstance(pictures, Sequence) and len(pictures) == 2, wrong)
    first, second = (_pixels(picture, "several") for picture in pictures)
    _require(
        bool((first != second).any()),
        "both pictures are the same; each needs noise of its own: torch.randn(count, ...), not 1",
    )
    return "✓ several: two pictures, each from its own noise"


def noise_of_a_seed(noise_of: Callable, studio: Studio) -> str:
    """Check ``noise_of(seed)``: a latent that a seed alone decides."""
    state = torch.random.get_rng_state()
    noise = _tried(noise_of, 1)
    shape = (1, *studio.shape)
    _require(isinstance(noise, Tensor), f"noise_of returned {type(noise).__name__}, no tensor")
    _require(
        tuple(noise.shape) == shape,
        f"noise_of(1) has the shape {tuple(noise.shape)}; expected {shape}: one latent",
    )
    _require(
        torch.equal(noise, noise_of(1)),
        "noise_of(1) gave other numbers the second time; seed the generator inside the function",
    )
    _require(not torch.equal(noise, noise_of(2)), "seeds 1 and 2 give the same numbers; use seed")
    _require(
        abs(float(noise.mean())) < 0.2 and abs(float(noise.std()) - 1) < 0.2,
        f"mean {noise.mean():.2f}, deviation {noise.std():.2f}; expected 0 and 1: torch.randn",
    )
    _require(
        torch.equal(state, torch.random.get_rng_state()),
        "noise_of moves torch's global random numbers; use a torch.Generator() of its own",
    )
    return "✓ noise_of: the same seed gives the same noise, and nobody else's numbers move"


def pictures_by_steps(by_steps: Callable) -> str:
    """Check ``by_steps(prompt, seed, counts)``: one noise, walked in 1, 2, ... steps."""
    pictures = _tried(by_steps, PROMPTS[0], 3, [1, 2, 1])
    wrong = "by_steps(prompt, seed, [1, 2, 1]) must return three pictures, one for each number"
    _require(isinstance(pictures, Sequence) and len(pictures) == 3, wrong)
    one, two, again = (_pixels(picture, "by_steps") for picture in pictures)
    same = bool((one == again).all())
    _require(same, "the two pictures of 1 step differ; begin each from noise_of(seed)")
    _require(bool((one != two).any()), "1 step and 2 steps are the same picture; pass steps=count")
    return "✓ by_steps: one beginning, so that only the steps differ"


def prompts_of_words(prompts_of: Callable) -> str:
    """Check ``prompts_of(things, colours)``: every thing on every colour."""
    made = _tried(prompts_of, ["cat", "dog"], ["red", "blue"])
    _require(isinstance(made, list), f"prompts_of returned {type(made).__name__}; expected a list")
    _require(
        len(made) == 4, f"{len(made)} prompts of 2 things and 2 colours; expected 4: each pair"
    )
    for prompt in made:
        wrong = (
            f"{prompt!r} is not filled in; put an f before the quotes: f'a photo of a {{thing}}'"
        )
        _require("{" not in prompt, wrong)
    expected = {
        f"a photo of a {t} on a {c} background" for t in ("cat", "dog") for c in ("red", "blue")
    }
    missing = sorted(expected - set(made))
    _require(not missing, f"{missing[:1]} is missing; you have {made}")
    return "✓ prompts_of: every thing on every colour"


def guidance(guided: Callable) -> str:
    """Check ``guided(eps_uncond, eps_cond, scale)`` against the library's own."""
    uncond, cond = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for scale, said in (
        (1.0, "scale 1 must give the prompt's own prediction, eps_cond"),
        (0.0, "scale 0 must give the empty prompt's, eps_uncond"),
        (7.5, "begin at eps_uncond and go scale times the way from there to eps_cond"),
    ):
        answer = _tried(guided, uncond, cond, scale)
        _require(isinstance(answer, Tensor), f"guided returned {type(answer).__name__}, no tensor")
        _require(torch.allclose(answer, uncond + scale * (cond - uncond), atol=1e-5), said)
    return "✓ guided: what the library computes at each step"


def pasted_face(paste_back: Callable) -> str:
    """Check ``paste_back(picture, face, box)``: the face in its box, all else as it was."""
    picture = Image.fromarray(np.full((64, 64, 3), 40, np.uint8))
    face, box = Image.fromarray(np.full((64, 64, 3), 200, np.uint8)), (16, 8, 48, 40)
    done = _pixels(_tried(paste_back, picture, face, box), "paste_back")
    left, top, right, bottom = box
    _require(done.shape == (64, 64, 3), f"the picture became {done.shape}; its size must stay")
    outside = np.ones((64, 64), bool)
    outside[top:bottom, left:right] = False
    _require(bool((done[outside] == 40).all()), f"pixels outside the box {box} have changed")
    _require(bool((done[24, 32] == 200).all()), "the middle of the box is not the face's")
    _require(
        bool((np.asarray(picture) == 40).all()),
        "the picture that was given has changed; paste into picture.copy()",
    )
    return "✓ paste_back: the face is in its box, and nothing else has moved"


def web_app(make_app: Callable) -> str:
    """Check ``make_app()``: a page of gradio whose function draws."""
    import gradio as gr

    app = _tried(make_app)
    wrong = f"make_app returned {type(app).__name__}; expected gr.Interface(...)"
    _require(isinstance(app, gr.Interface), wrong)
    kinds = [type(part).__name__ for part in app.input_components]
    _require(len(kinds) == 3, f"the page has {kinds}; expected fields for prompt, seed and steps")
    drawn = _pixels(_tried(app.fn, PROMPTS[0], 5, 1), "the page's function")
    again = _pixels(app.fn(PROMPTS[0], 5, 1), "the page's function")
    _require(bool((drawn == again).all()), "the same seed drew two pictures; use noise_of(seed)")
    return "✓ make_app: a page that draws; make_app().launch() opens it"


def feedback(remember: Callable) -> str:
    """Check ``remember(path, row)``: rows that any spreadsheet reads, whatever is in the note."""
    rows = [
        {"file": "1.png", "prompt": PROMPTS[0], "stars": "5", "note": 'sharp, "very" good\nreally'},
        {"file": "2.png", "prompt": PROMPTS[1], "stars": "1", "note": "猫ではない"},
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "feedback.csv"
        for row in rows:
            try:
                remember(path, row)
            except Exception as error:
                raise NotYet(f"remember ends with {type(error).__name__}: {error}") from None
        _require(path.is_file(), "remember is still blank: it wrote no file")
        with open(path, encoding="utf-8", newline="") as file:
            read = list(csv.DictReader(file))
    _require(len(read) == 2, f"{len(read)} rows after 2 calls; append, and write the names once")
    wrong = f"{read[0]} came back; {rows[0]} was written; let csv.DictWriter do the quoting"
    _require(read == rows, wrong)
    return "✓ remember: two rows, read back as they were written"
