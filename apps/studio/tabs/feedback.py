"""The tab that counts what people think of pictures, and hands it on: a table, or training data."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import gradio as gr

from apps.studio.events import QUIET
from apps.studio.opinions import TRAINING, Opinions, download_link, training_command
from apps.studio.rating import Rating
from apps.studio.state import Studio, Tab
from apps.studio.words import count, say, shown
from ldm.errors import UserError
from ldm.feedback.store import LONGEST_NAME
from optimizedSD.web.handlers import language_of_visit

NAME = "feedback"
GOOD = 4  # stars, at first


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    rating = next(each for each in studio.under if isinstance(each, Rating))
    opinions = rating.opinions
    gr.Markdown(shown("feedback_hint"))
    person = gr.Textbox(
        label=shown("your_name"),
        info=shown("your_name_info"),
        max_length=LONGEST_NAME,
        elem_id="feedback-person",
    )
    studio.kept["feedback-person"] = person
    with gr.Row(elem_classes="besides"):
        judged = gr.HTML(elem_id="feedback-judged", elem_classes="status")
        refresh = gr.Button(
            shown("refresh"), size="sm", scale=0, min_width=140, elem_id="feedback-refresh"
        )
    least = gr.Slider(1, 5, GOOD, step=1, label=shown("least_stars"), elem_id="feedback-least")
    with gr.Row():
        table = gr.Button(shown("export_table"), elem_id="feedback-table")
        folder = gr.Button(shown("export_folder"), elem_id="feedback-folder")
    said = gr.HTML(elem_id="feedback-said", elem_classes="status")

    def counted(visit: gr.Request) -> str:
        return counted_html(opinions, language_of_visit(visit))

    def tabled(visit: gr.Request) -> str:
        words = html.escape(say(language_of_visit(visit), "save_table"))
        return _safely(lambda: download_link(opinions.table(), "feedback.csv", words))

    def exported(visit: gr.Request, stars: Any) -> str:
        return exported_html(opinions, stars, studio.flags.outdir, language_of_visit(visit))

    def wire(studio: Studio, tabs: Mapping[str, Tab]) -> None:  # noqa: ARG001 - as all tabs
        rating.connect(person)

    refresh.click(counted, None, judged, **QUIET)
    table.click(tabled, None, said, **QUIET)
    folder.click(exported, least, said, **QUIET)
    return Tab(NAME, {}, wire, (counted, [], [judged]))


def counted_html(opinions: Opinions, language: str) -> str:
    """Return how many opinions there are."""
    found = opinions.judged()
    pictures = count(language, found.pictures)
    text = say(language, "judged", opinions=found.opinions, n=pictures, good=found.good)
    return f'<div role="status">{html.escape(text)}</div>'


def exported_html(opinions: Opinions, stars: Any, outdir: str, language: str) -> str:
    """Copy the good pictures to a new folder; return what is said of it.

    Args:
        opinions: What people think.
        stars: How many are good, as the page holds it.
        outdir: What the command line calls the studio's folder.
        language: The visitor's.
    """

    def export() -> str:
        done = opinions.export(int(stars) if isinstance(stars, (int, float)) else GOOD)
        folder = f"{TRAINING}/{done.folder.name}"
        text = say(language, "exported", n=count(language, done.written), folder=folder)
        command = training_command(f"{outdir}/{folder}")
        return f'<div role="status">{html.escape(text)}<pre>{html.escape(command)}</pre></div>'

    return _safely(export)


def _safely(make: Any) -> str:
    try:
        return make()
    except UserError as error:
        return f'<div class="warning" role="alert">{html.escape(str(error))}</div>'
