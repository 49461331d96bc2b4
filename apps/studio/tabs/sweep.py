"""The tab that compares settings: up to three of them vary, on one sheet with a table."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from apps.server.pace import Pace
from apps.studio.events import QUIET
from apps.studio.form import FIRST_PROMPT, Form, fields_for
from apps.studio.opinions import download_link
from apps.studio.panel import Panel
from apps.studio.state import Studio, Tab
from apps.studio.sweeping import FOLDER, Planned, Sweeping, plan
from apps.studio.words import count, say, shown
from ldm.errors import UserError
from ldm.paths import ERRORS, is_file
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from optimizedSD.web.handlers import language_of_visit

NAME = "sweep"
AXES = ("x", "y", "z")
ALONE = ("n_iter", "n_samples", "seed_mode", "fixed_code")
"""Settings of runs with several pictures: a cell has one, with a seed of its own."""
LARGEST_TABLE = 2**20  # bytes


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    own = studio.own_size
    sides = {side: studio.queue.pipeline.choice.sampling.get(side) or own for side in ("W", "H")}
    fields = fields_for(studio, LowMemoryTxt2ImgSettings, ALONE, prompt=FIRST_PROMPT, **sides)
    gr.Markdown(shown("sweep_hint"))
    with gr.Row():
        with gr.Column():
            axes = [
                gr.Textbox(first, label=shown(f"axis_{name}"), elem_id=f"sweep-{name}")
                for name, first in zip(AXES, first_axes(studio), strict=True)
            ]
            estimate = gr.HTML(elem_id="sweep-estimate", elem_classes="status")
            form = Form(studio, NAME, LowMemoryTxt2ImgSettings, fields)
        with gr.Column():
            panel = Panel(studio, NAME, speaker=form.speaker)
            table = gr.HTML(elem_id="sweep-table", elem_classes="table")
    studio.kept |= {f"sweep-{name}": each for name, each in zip(AXES, axes, strict=True)}

    def planned(values: Sequence[Any]) -> Planned:
        texts, held = values[: len(AXES)], values[len(AXES) :]
        queue = studio.queue
        settings = form.read(held)
        return plan(
            settings, [str(each or "") for each in texts], queue.pipeline.choice, queue.limits
        )

    def read(values: Sequence[Any], language: str) -> Sweeping:
        return Sweeping(planned(values), studio.outdir, studio.pace, language)

    def count_up(visit: gr.Request, *values: Any) -> str:
        language = language_of_visit(visit)
        try:
            return f'<div role="status">{in_words(planned(values), studio.pace, language)}</div>'
        except UserError as error:
            text = html.escape(form.speaker.said(str(error), language))
            return f'<div class="warning" role="status">{text}</div>'

    inputs = [*axes, *form.inputs]
    panel.connect(inputs, read, form)
    counted = [*axes, *(form.by_name[each] for each in ("ddim_steps", "W", "H", "prompt"))]
    gr.on([each.change for each in counted], count_up, inputs, estimate, **QUIET)

    def show_table(visit: gr.Request, chosen: Any) -> str:
        return table_html(studio.outdir, chosen, language_of_visit(visit))

    panel.chosen.change(show_table, panel.chosen, table, **QUIET)
    return Tab(NAME, {"recipe": form.by_name}, panel.wire, (count_up, inputs, [estimate]))


def first_axes(studio: Studio) -> tuple[str, str, str]:
    """Return what the axes first hold: guidance around what suits the model, by seeds."""
    scale = studio.queue.pipeline.choice.sampling.get("scale", Txt2ImgSettings.scale)
    return f"scale: 1, {scale:g}, {2 * scale:g}", "seed: 1-3", ""


def in_words(planned: Planned, pace: Pace, language: str) -> str:
    """Say how much a sweep is before it starts."""
    sides = " × ".join(str(len(axis)) for axis in planned.sweep.axes if axis is not None)
    seconds = planned.seconds(pace)
    key = "estimate_unknown" if seconds is None else "estimate"
    pictures = count(language, planned.pictures)
    return say(language, key, n=pictures, sides=sides, steps=planned.steps, s=seconds)


def table_html(outdir: Path, chosen: Any, language: str) -> str:
    """Return a link that saves the table of a sheet; empty for any other picture.

    Args:
        outdir: The studio's folder.
        chosen: The path of the picture that is shown.
        language: The visitor's.
    """
    sheet = Path(str(chosen or ""))
    path = sheet.parent / f"{sheet.stem}.csv"
    if sheet.parent != outdir / FOLDER or not is_file(path):
        return ""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_TABLE + 1)
    except ERRORS:
        return ""
    if len(data) > LARGEST_TABLE:
        return ""
    return download_link(data, path.name, html.escape(say(language, "save_table")))
