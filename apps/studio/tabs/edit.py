"""The tab that edits a picture by changing words of its prompt, and shows where words look."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import gradio as gr

from apps.studio.form import FIRST_PROMPT, Form, fields_for
from apps.studio.panel import Panel
from apps.studio.state import Studio, Tab
from apps.studio.words import shown
from ldm.errors import UserError
from ldm.pipelines.edits import tokenizer_of
from ldm.settings.swap import LowMemorySwapSettings
from optimizedSD.web.drawing import Drawing
from optimizedSD.web.edit_fields import edit_settings
from optimizedSD.web.edit_handlers import EditHandlers
from optimizedSD.web.edit_layout import edit_controls, maps_gallery
from optimizedSD.web.fields import Field
from optimizedSD.web.layout import component
from optimizedSD.web.page import SWAP
from optimizedSD.web.state import RunState
from optimizedSD.web.word_maps import heat_maps

NAME = "edit"


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    try:
        tokenizer_of(studio.queue.pipeline.model)
    except UserError as error:  # models of classes have none
        gr.Markdown(str(error))
        return Tab(NAME)
    own = studio.own_size
    first = {"sprompt": FIRST_PROMPT, "prompt": "a photo of a cat on a red background"}
    fields = fields_for(
        studio, LowMemorySwapSettings, tuple(SWAP.fixed), W=own, H=own, n_samples=1, **first
    )
    gr.Markdown(shown("edit_hint"))
    with gr.Row():
        with gr.Column():
            form = Form(studio, NAME, LowMemorySwapSettings, fields)
            handlers = EditHandlers(SWAP, studio.queue, fields, studio.fixed)
            with gr.Accordion(shown("weights"), open=False):
                edit = edit_controls(handlers, form.by_name["prompt"], _numbered())
        with gr.Column():
            panel = Panel(studio, NAME, speaker=handlers.speaker)  # which knows the edit's words
            panel.more = ((maps_gallery(), _maps),)

    def read(values: Sequence[Any], language: str) -> Drawing:
        changes, held = values[: len(edit)], values[len(edit) :]
        settings = form.read(held, **SWAP.fixed, **edit_settings(changes))
        size = studio.own_size
        studio.queue.limits.check_size(settings, settings.W or size, settings.H or size)
        return Drawing(settings, language, watcher=handlers.watcher_of(settings))

    panel.connect([*edit, *form.inputs], read, form)
    recipe = {name: made for name, made in form.by_name.items() if name != "prompt"}
    return Tab(NAME, {"recipe": recipe | {"prompt": form.by_name["sprompt"]}}, panel.wire)


def _numbered() -> Any:
    """Return what makes a component of a field, under an id that no other has."""
    numbers = count()

    def made(each: Field) -> gr.components.Component:
        return component(each, elem_id=f"{NAME}-{each.name}-{next(numbers)}")

    return made


def _maps(state: RunState) -> Any:
    """Return where the words of the newest picture look."""
    newest = state.pictures[-1]
    tiles = list(heat_maps(newest.path, newest.looks)) if newest.looks else []
    return gr.Gallery(value=tiles)
