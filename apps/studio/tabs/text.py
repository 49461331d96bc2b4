"""The tab that draws pictures from words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from apps.studio.controlling import Controls
from apps.studio.form import FIRST_PROMPT, Form, fields_for
from apps.studio.panel import Panel
from apps.studio.queue import Drawing
from apps.studio.state import Studio, Tab
from apps.studio.words import shown
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings

NAME = "text"


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    own = studio.own_size
    sides = {side: studio.queue.pipeline.choice.sampling.get(side) or own for side in ("W", "H")}
    fields = fields_for(studio, LowMemoryTxt2ImgSettings, prompt=FIRST_PROMPT, **sides)
    gr.Markdown(shown("text_hint"))
    with gr.Row():
        with gr.Column():
            form = Form(studio, NAME, LowMemoryTxt2ImgSettings, fields)
            controls = Controls(studio, form)
        with gr.Column():
            panel = Panel(studio, NAME, speaker=form.speaker)

    def read(values: Sequence[Any], language: str) -> Drawing:
        looking, held = values[: len(controls.inputs)], values[len(controls.inputs) :]
        settings = form.read(held, **controls.read(looking, language))
        size = studio.own_size
        studio.queue.limits.check_size(settings, settings.W or size, settings.H or size)
        return Drawing(settings, language)

    panel.connect([*controls.inputs, *form.inputs], read, form)
    return Tab(NAME, {"recipe": form.by_name, "controls": controls}, panel.wire)
