"""The tab that draws pictures from a picture and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from apps.studio.form import FIRST_PROMPT, Form, fields_for
from apps.studio.panel import Panel
from apps.studio.pictures import picture_field, picture_of
from apps.studio.state import Studio, Tab
from apps.studio.words import shown
from ldm.settings.low_memory import LowMemoryImg2ImgSettings
from optimizedSD.web.drawing import Drawing

NAME = "image"


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    choice = studio.queue.pipeline.choice
    fields = fields_for(
        studio, LowMemoryImg2ImgSettings, prompt=FIRST_PROMPT, W=choice.size, strength=0.6
    )
    gr.Markdown(shown("image_hint"))
    with gr.Row():
        with gr.Column():
            picture = picture_field(studio, NAME)
            form = Form(studio, NAME, LowMemoryImg2ImgSettings, fields, size=False)
        with gr.Column():
            panel = Panel(studio, NAME, speaker=form.speaker)

    def read(values: Sequence[Any], language: str) -> Drawing:
        given, *held = values
        settings, image = form.read(held), picture_of(given)
        own, now = image.size[::-1], studio.queue.pipeline.choice  # another may be loaded by now
        height, width = settings.target_size(own, now.size, now.multiple) or own
        studio.queue.limits.check_size(settings, width, height)
        return Drawing(settings, language, image)

    panel.connect([picture, *form.inputs], read, form)
    return Tab(NAME, {"picture": picture, "recipe": form.by_name}, panel.wire)
