"""The tab that draws pictures from a picture and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from apps.studio.controlling import Controls
from apps.studio.form import FIRST_PROMPT, Form, fields_for
from apps.studio.panel import Panel
from apps.studio.pictures import picture_field, picture_of
from apps.studio.queue import Drawing
from apps.studio.state import Studio, Tab
from apps.studio.words import shown
from ldm.settings.low_memory import LowMemoryImg2ImgSettings

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
            picture = picture_field(NAME)
            form = Form(studio, NAME, LowMemoryImg2ImgSettings, fields, size=False)
            controls = Controls(studio, form, own=True)
        with gr.Column():
            panel = Panel(studio, NAME, speaker=form.speaker)

    count = len(controls.inputs)

    def read(values: Sequence[Any], language: str) -> Drawing:
        given, looking, held = values[0], values[1 : 1 + count], values[1 + count :]
        image = picture_of(given)
        settings = form.read(held, **controls.read(looking, language, given))
        own, now = image.size[::-1], studio.queue.pipeline.choice  # another may be loaded by now
        height, width = settings.target_size(own, now.size, now.multiple) or own
        studio.queue.limits.check_size(settings, width, height)
        return Drawing(settings, language, image)

    panel.connect([picture, *controls.inputs, *form.inputs], read, form)
    receives = {"picture": picture, "recipe": form.by_name, "controls": controls}
    return Tab(NAME, receives, panel.wire)
