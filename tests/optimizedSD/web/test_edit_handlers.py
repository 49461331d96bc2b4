"""The buttons of the page that edits, pressed over HTTP, and what its chips and sliders answer."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ldm.errors import UserError
from ldm.images.metadata import read_parameters
from ldm.pipelines.request import prepare_from_flags
from ldm.settings.swap import SwapSettings

gradio = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from optimizedSD.web.edit_fields import edit_fields  # noqa: E402 - imports gradio
from optimizedSD.web.handlers import UNCHANGED  # noqa: E402
from optimizedSD.web.layout import controls_of, handlers_for  # noqa: E402
from optimizedSD.web.limits import Limits  # noqa: E402
from optimizedSD.web.page import SWAP  # noqa: E402
from optimizedSD.web.worker import Worker  # noqa: E402

# gradio keeps its statistics with calls that pandas is going to drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*")
CAT, DOG = "a photo of a cat", "a photo of a big dog"


@pytest.fixture
def handlers(pipeline, tmp_path):
    rest = {"outdir": str(tmp_path), **SWAP.fixed}
    worker = Worker(pipeline, log_run=lambda settings: None)
    return handlers_for(SWAP, worker, controls_of(SWAP, pipeline.choice), rest)


@pytest.fixture
def edit(ask):
    """Return a function that draws an edit and returns what the page finally shows."""

    def edit(sprompt=CAT, prompt=DOG, *, n_samples=1, seed="7", **changes):
        held = {field.name: field.value for field in edit_fields()} | changes
        texts = {"sprompt": sprompt, "prompt": prompt, "n_samples": n_samples, "seed": seed}
        return ask(SWAP, *held.values(), **texts)

    return edit


def visit(handlers, **changes):
    """Return what ``draw`` yields in this process, of the page's first values but for changes."""
    fields = [*edit_fields(), *handlers.fields]
    held = {field.name: field.value for field in fields}
    held |= {"ddim_steps": 4, "seed": "7", "sprompt": CAT, "prompt": DOG} | changes
    return list(handlers.draw(SimpleNamespace(session_hash="me"), *held.values()))


def captions(gallery):
    return [each["caption"] for each in gallery]


def test_each_sample_is_a_pair_of_source_and_edit_beside_each_other(edit, served):
    shown = edit(n_samples=2)
    assert captions(shown["gallery"]) == [
        "source, seed 7",
        "edit, seed 7",
        "source, seed 8",
        "edit, seed 8",
    ]
    assert "4 pictures in" in shown["status"]
    assert shown["parameters"].startswith(f"{DOG}\nSteps: 4, ")
    assert f"Source prompt: {CAT}" in shown["parameters"]
    assert "Seed: 8" in shown["parameters"]
    _, folder = served(SWAP)
    assert len(list((folder / "a_photo_of_a_cat").glob("*.png"))) == 2
    assert len(list((folder / "a_photo_of_a_big_dog").glob("*.png"))) == 2


def test_there_is_a_map_for_each_word_of_the_last_edit(edit):
    shown = edit(seed="20")
    assert captions(shown["maps"]["value"]) == DOG.split()
    assert shown["maps"]["label"] == "Where each word of the edit looks, seed 20"


@pytest.mark.parametrize(
    ("changes", "recorded"),
    [
        ({"reweight": "dog=2.5"}, "Edit weights: dog=2.5"),
        ({"cross_replace_steps_end": 0.5}, "Edit cross steps: 0.5"),
        ({"self_replace_steps_start": 0.2}, 'Edit self steps: "?0.2:0.4'),
        ({"blend_source": "cat", "blend_edit": "dog"}, 'Edit blend: "?cat|dog'.replace("|", r"\|")),
    ],
)
def test_a_control_of_the_edit_reaches_the_picture(edit, changes, recorded):
    assert re.search(recorded, edit(**changes)["parameters"])


def test_a_picture_of_the_page_is_drawn_again_by_the_program(handlers, pipeline, tmp_path):
    """Its parameters are the whole recipe, with the weights and windows that were set."""
    visit(handlers, reweight="dog=2", cross_replace_steps_start=0.25)
    (path,) = (tmp_path / "a_photo_of_a_big_dog").glob("*.png")
    assert "Edit weights: dog=2" in read_parameters(path)
    flags = {"from_image": str(path), "ckpt": str(pipeline.choice.ckpt_path)}
    request = prepare_from_flags(SwapSettings, flags)
    request = replace(request, choice=pipeline.choice)
    (again,) = pipeline.generate(request)
    assert np.array_equal(np.asarray(Image.open(path)), again.pixels)


def test_prompts_are_plain_text_and_no_mixtures(edit):
    shown = edit("a cat:2 a tree:1", "a dog:2 a tree:1", reweight="dog=2")
    assert "Prompt weights" not in shown["parameters"]
    assert "dog" in captions(shown["maps"]["value"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reweight": "dgo=2"}, "'dgo' is not in the prompt 'a photo of a big dog'"),
        ({"reweight": "dgo=2"}, "did you mean 'dog'?"),
        ({"reweight": "dog"}, "“Weights” 'dog' was given; expected words with numbers"),
        ({"blend_source": "dog", "blend_edit": "dog"}, "'dog' is not in the prompt 'a photo of a"),
        ({"blend_source": "cat"}, "“Change only” 'cat' was given for one prompt only"),
        ({"cross_replace_steps_start": 0.9}, "“Words” 0.9:0.8 was given; expected a share"),
        ({"sprompt": " "}, "“Prompt of the source” is empty"),
        ({"prompt": ""}, "“Prompt of the edit” is empty"),
        ({"sprompt": "a" * 2001}, "of 2001 characters was given; expected at most 2000"),
        ({"reweight": "a" * 2000 + "=1"}, "“Weights” of 2002 characters was given"),
        ({"n_samples": 9}, "of 2 prompts was given; expected at most 16"),
        ({"cross_replace_steps_end": 2}, "“Words” 2.0 was given; expected a number from 0"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_on_the_page_and_takes_no_place(edit, changes, message):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as caught:
        edit(**changes)
    text = html.unescape(str(caught.value))
    assert message in text
    assert "--" not in text
    assert "\n" not in text


def test_a_mode_that_the_prompts_do_not_allow_is_one_line(handlers):
    with pytest.raises(gradio.Error, match="use the mode refine or auto"):
        visit(handlers, mode="replace")


def test_a_mistake_in_a_word_is_told_even_when_the_line_is_full(handlers):
    handlers.worker.limit(Limits(waiting=0))
    handlers.worker.line.enter("another visitor")
    with pytest.raises(gradio.Error, match="is not in the prompt"):
        visit(handlers, reweight="dgo=2")


# --- chips, slider, clicks ---


def test_words_that_are_typed_become_chips(handlers):
    words, slider = handlers.show_words("a snowy house", "snowy=2", None)
    assert words.choices == [("a", "a"), ("snowy ×2", "snowy"), ("house", "house")]
    assert words.value is None
    assert not slider.visible


def test_words_of_a_prompt_without_spaces_become_chips(handlers):
    words, _ = handlers.show_words("緑の背景の犬の写真", "", None)
    assert {"背景", "犬", "写真"} <= {word for _, word in words.choices}


def test_the_picked_chip_stays_picked_while_the_prompt_has_its_word(handlers):
    words, slider = handlers.show_words("a snowy house", "", "house")
    assert (words.value, slider.visible) == ("house", True)
    words, slider = handlers.show_words("a snowy hill", "", "house")
    assert (words.value, slider.visible) == (None, False)


def test_a_prompt_that_is_too_long_is_not_read_for_chips(handlers, monkeypatch):
    handlers.worker.limit(Limits(prompt=10))
    monkeypatch.setattr(handlers, "_prompt", lambda text: pytest.fail("it was read"))
    assert handlers.show_words("a" * 11, "", None)[0].choices == []
    assert handlers.show_words("a", "a" * 11, None)[0].choices == []


def test_a_clicked_chip_brings_the_slider_with_its_weight(handlers):
    slider = handlers.pick("house", "snowy=2, house=-1")
    assert (slider.label, slider.value, slider.visible) == ("Weight of “house”", -1.0, True)


def test_the_slider_writes_the_weight(handlers):
    assert handlers.weigh("house", 2.5, "snowy=2") == "snowy=2, house=2.5"
    assert handlers.weigh("snowy", 1, "snowy=2") == ""


@pytest.mark.parametrize("word, weight", [(None, 2), ("", 2), ("a", None), ("a", "2"), ("a", True)])
def test_a_slider_without_a_word_or_a_number_writes_nothing(handlers, word, weight):
    assert handlers.weigh(word, weight, "snowy=2") == UNCHANGED


def test_weights_that_cannot_be_read_are_not_written_over(handlers):
    with pytest.raises(gradio.Error, match="“Weights” &#x27;&lt;b&gt;&#x27; was given"):
        handlers.weigh("house", 2, "<b>")


def test_a_clicked_picture_shows_its_own_parameters_and_maps(handlers):
    last = dict(zip(handlers.outputs, visit(handlers, n_samples=2)[-1], strict=True))
    parameters, maps = handlers.show_picture(last["stored"], SimpleNamespace(index=2))
    assert parameters.startswith(f"{CAT}\n")
    assert "Seed: 8" in parameters
    assert maps.label == "Where each word of the source looks, seed 8"
    assert captions(maps.value) == CAT.split()
    assert handlers.show_picture(last["stored"], SimpleNamespace(index=4, value=None)) == (
        UNCHANGED,
        UNCHANGED,
    )


def test_a_picture_without_its_pair_is_shown_only_when_the_run_is_over(handlers, monkeypatch):
    generate = handlers.worker.pipeline.generate

    def broken(*given, **rest):
        drawn = generate(*given, **rest)
        yield next(drawn)
        drawn.close()

    monkeypatch.setattr(handlers.worker.pipeline, "generate", broken)
    answers = [dict(zip(handlers.outputs, each, strict=True)) for each in visit(handlers)]
    galleries = [each["gallery"] for each in answers if each["gallery"] != UNCHANGED]
    assert len(galleries) == 1
    assert [caption for _, caption in galleries[-1]] == ["edit, seed 7"]


def test_a_model_that_does_not_say_which_token_is_which_word_has_no_such_page(
    pipeline, monkeypatch
):
    monkeypatch.setattr(pipeline.model.cond_stage_model, "tokenizer", None)
    with pytest.raises(UserError, match="has no tokenizer"):
        handlers_for(SWAP, Worker(pipeline, lambda settings: None), [], {})
