"""The tab that draws a part of a picture anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from apps.studio.form import FIRST_PROMPT, Form, fields_for
from apps.studio.panel import Panel
from apps.studio.pictures import mask_field, paint_field, painted_of
from apps.studio.queue import Drawing
from apps.studio.state import Studio, Tab
from apps.studio.words import shown
from ldm.settings.inpaint import LowMemoryInpaintSettings

NAME = "repaint"


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    choice = studio.queue.pipeline.choice
    first = {"prompt": FIRST_PROMPT, "W": choice.size}
    if choice.kind.walks.keys() == {"mask"}:  # a model that only inpaints has its own
        first |= choice.kind.own_values
    fields = fields_for(studio, LowMemoryInpaintSettings, **first)
    gr.Markdown(shown("repaint_hint"))
    with gr.Row():
        with gr.Column():
            picture = paint_field(studio, NAME)
            inverted = gr.Checkbox(False, label=shown("invert"), elem_id=f"{NAME}-invert")
            with gr.Accordion(shown("upload_mask"), open=False):
                mask = mask_field(NAME)
            form = Form(studio, NAME, LowMemoryInpaintSettings, fields, size=False)
        with gr.Column():
            panel = Panel(studio, NAME, speaker=form.speaker)

    def read(values: Sequence[Any], language: str) -> Drawing:
        painted, uploaded, invert, *held = values
        settings = form.read(held)
        image, marked = painted_of(painted, uploaded, inverted=bool(invert))
        own, now = image.size[::-1], studio.queue.pipeline.choice  # another may be loaded by now
        height, width = settings.target_size(own, now.size, now.multiple) or own
        studio.queue.limits.check_size(settings, width, height)
        return Drawing(settings, language, image, marked)

    panel.connect([picture, mask, inverted, *form.inputs], read, form)
    return Tab(NAME, {"picture": picture, "recipe": form.by_name}, panel.wire)
