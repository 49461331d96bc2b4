"""Thumbs, stars and a note below the pictures of every panel; kept as soon as one is clicked."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from apps.studio.album import Album
from apps.studio.events import QUIET
from apps.studio.opinions import Opinions, stars_in_words
from apps.studio.state import Studio
from apps.studio.words import say, shown
from ldm.errors import UserError
from ldm.feedback.store import LONGEST_NAME, LONGEST_NOTE, STARS
from optimizedSD.web.handlers import language_of_visit

if TYPE_CHECKING:
    from apps.studio.panel import Panel


@dataclass
class Row:
    """What stands below the pictures of one panel.

    Attributes:
        chosen: The path of the picture that is shown.
        up: The button of a thumb that is up.
        down: The button of one that is down.
        stars: One to five.
        note: In words.
        keep: The button that keeps the note.
        said: What is kept.
    """

    chosen: Any
    up: Any
    down: Any
    stars: Any
    note: Any
    keep: Any
    said: Any


class Rating:
    """Lays out a row below each panel's pictures, and connects all of them to one person.

    Args:
        studio: The studio.

    Attributes:
        opinions: Where they are kept.
        name: Who judges: a component that ``connect`` is given.
    """

    def __init__(self, studio: Studio) -> None:
        self.opinions = Opinions(Album(studio.outdir).gallery, studio.outdir)
        self.rows: list[Row] = []

    def __call__(self, studio: Studio, panel: Panel) -> None:  # noqa: ARG002 - as all below panels
        """Lay out a panel's row."""
        with gr.Accordion(shown("opinion"), open=False, elem_id=panel.id("opinion")):
            with gr.Row():
                up = gr.Button(shown("thumb_up"), size="sm", min_width=80, elem_id=panel.id("up"))
                down = gr.Button(
                    shown("thumb_down"), size="sm", min_width=80, elem_id=panel.id("down")
                )
            stars = gr.Radio(
                [("★" * each, str(each)) for each in STARS],
                label=shown("stars"),
                elem_id=panel.id("stars"),
            )
            with gr.Row(elem_classes="besides"):
                note = gr.Textbox(
                    label=shown("note"), max_length=LONGEST_NOTE, elem_id=panel.id("note"), scale=4
                )
                keep = gr.Button(
                    shown("keep_note"),
                    size="sm",
                    scale=0,
                    min_width=110,
                    elem_id=panel.id("keep-note"),
                )
            said = gr.HTML(elem_id=panel.id("opinion-said"), elem_classes="status")
        self.rows.append(Row(panel.chosen, up, down, stars, note, keep, said))

    def connect(self, person: Any) -> None:
        """Let the rows keep what is clicked.

        Args:
            person: The component with the name of who judges.
        """
        for row in self.rows:
            who = [row.chosen, person]
            row.up.click(self._thumb(1), who, row.said, **QUIET)
            row.down.click(self._thumb(-1), who, row.said, **QUIET)
            row.stars.input(self._stars, [*who, row.stars], row.said, **QUIET)
            row.keep.click(self._note, [*who, row.note], row.said, **QUIET)
            row.chosen.change(self._shown, who, [row.stars, row.note, row.said], **QUIET)

    def _thumb(self, thumb: int) -> Callable[..., str]:
        def give(visit: gr.Request, chosen: Any, person: Any) -> str:
            return self.give(visit, chosen, person, thumb=thumb)

        return give

    def _stars(self, visit: gr.Request, chosen: Any, person: Any, stars: Any) -> str:
        given = int(stars) if str(stars) in map(str, STARS) else 0
        return self.give(visit, chosen, person, stars=given)

    def _note(self, visit: gr.Request, chosen: Any, person: Any, note: Any) -> str:
        return self.give(visit, chosen, person, note=str(note or ""))

    def give(self, visit: gr.Request, chosen: Any, person: Any, **what: Any) -> str:
        """Keep an opinion of the picture that is shown; return what is said, as HTML."""
        language = language_of_visit(visit)
        if not isinstance(chosen, str) or not chosen:
            return _line(say(language, "none_chosen"), "warning")
        try:
            kept = self.opinions.give(chosen, person_of(person), **what)
        except UserError as error:
            return _line(str(error), "warning")
        note = f" “{kept.note}”" if kept.note else ""
        return _line(say(language, "kept_opinion", signs=stars_in_words(kept) + note), "kept")

    def _shown(self, chosen: Any, person: Any) -> tuple[Any, str, str]:
        """Return the stars, the note and the line of the picture that is shown now."""
        try:
            found = self.opinions.of(str(chosen), person_of(person)) if chosen else None
        except UserError:
            found = None  # it is gone by now
        if found is None:
            return gr.Radio(value=None), "", ""
        line = _line(stars_in_words(found), "kept")
        return gr.Radio(value=str(found.stars) if found.stars else None), found.note, line


def person_of(typed: Any) -> str:
    """Return who judges: the name that they typed, as --auth has one name for everybody."""
    return str(typed or "").strip()[:LONGEST_NAME]


def _line(text: str, kind: str) -> str:
    return f'<div class="{kind}" role="status">{html.escape(text)}</div>'
