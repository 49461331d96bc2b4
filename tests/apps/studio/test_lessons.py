"""Lessons: in three languages, each with an example that can be drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawing import text_settings

from apps.studio.lessons import LESSONS, parts
from apps.studio.shown_lessons import TILE, Showing, evenly, strip
from apps.studio.words import LANGUAGES, say
from ldm.errors import UserError
from ldm.images.io import load_image
from ldm.settings.generation import Txt2ImgSettings
from ldm.sweeps.axes import read_axis
from ldm.sweeps.plan import plan_sweep

PROMPTS = ("a photo of a panda on a red background", "cat", "赤い背景の猫", 'a "quoted", cat')


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_speaks_each_language_and_asks_something(name):
    texts = [say(language, f"lesson_{name}_text") for language in LANGUAGES]
    assert len(set(texts)) == len(LANGUAGES)
    assert all(text.count("*") >= 2 for text in texts), "the question is in italics"
    assert all("?" in text or "？" in text or "か" in text for text in texts)
    numbers = {say(language, f"lesson_{name}")[:2] for language in LANGUAGES}
    assert len(numbers) == 1


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", [name for name, each in LESSONS.items() if each.axis])
def test_an_example_is_a_sweep_that_can_be_drawn(name, prompt):
    begins = LESSONS[name].begins(prompt)
    base = Txt2ImgSettings(prompt=begins, seed=7, n_iter=1, n_samples=1)
    axis = read_axis(LESSONS[name].axis(prompt, 7), Txt2ImgSettings)
    cells = plan_sweep(base, [axis]).cells
    assert 1 <= len(cells) <= 8
    if name == "seeds":
        assert [cell.settings.seed for cell in cells] == list(range(7, 13))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_growing_prompt_ends_as_the_whole_and_never_is_empty(prompt):
    axis = read_axis(LESSONS["words"].axis(prompt, 1), Txt2ImgSettings)
    assert list(axis.values) == parts(prompt)
    assert all(part and prompt.startswith(part) for part in parts(prompt))
    assert parts(prompt) == sorted(set(parts(prompt)), key=len) and parts(prompt)[-1] == prompt


def test_the_first_and_the_last_are_always_shown():
    for count in range(1, 60):
        chosen = evenly(count, 8)
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        assert chosen == sorted(set(chosen)) and len(chosen) == min(count, 8)


def test_a_strip_shows_each_picture_once_under_its_label():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    tiles = [(f"{k}", np.full((512, 256, 3), c, np.uint8)) for k, c in enumerate(colours)]
    shown = strip(tiles)
    assert shown.shape[0] >= TILE
    for colour in colours:
        assert (shown == colour).all(-1).sum() == TILE * TILE // 2


@pytest.mark.parametrize("kind", ["way", "looks"])
def test_what_happens_inside_the_model_is_drawn_for_real(kind, queue, tmp_path):
    settings = text_settings(H=64, W=64, prompt="a cat", ddim_steps=4)
    states = list(queue.draw("me", lambda: Showing(settings, kind, tmp_path)))
    (shown,) = states[-1].pictures
    pixels = np.asarray(load_image(shown.path))
    assert shown.path.name == "lesson-0000.png" and min(pixels.shape[:2]) > TILE
    (picture,) = (tmp_path / "lessons" / "samples").glob("*.png")
    (alone,) = queue.pipeline.generate(replace(settings, n_samples=1, n_iter=1))
    assert np.array_equal(load_image(picture), alone.pixels)


def test_a_model_without_colours_for_its_latents_says_so(queue, tmp_path, monkeypatch):
    monkeypatch.setattr("ldm.pipelines.previewing.preview_of", lambda choice: None)
    with pytest.raises(UserError, match="no factors"):
        list(queue.draw("me", lambda: Showing(text_settings(), "way", tmp_path)))
