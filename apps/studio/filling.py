"""Fill a tab's fields with the recipe of a picture, and say what could not be taken over.

filler = Filler(studio, tabs)
button.click(lambda ...: filler.filled(path, language), ..., filler.outputs)
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from apps.studio.dropped import Dropped, dropped
from apps.studio.events import QUIET
from apps.studio.state import Studio, Tab
from apps.studio.telling import warned
from apps.studio.words import say, shown
from ldm.errors import UserError
from ldm.images.opening import opened
from ldm.pipelines.recorded_controls import RecordedControl
from optimizedSD.web.handlers import language_of_visit

ORDER = ("text", "image", "repaint", "edit")
"""Tabs that draw from settings."""


class Filler:
    """Fills the fields of whichever tab draws such pictures.

    Args:
        studio: The studio.
        tabs: All tabs, by name.
    """

    def __init__(self, studio: Studio, tabs: Mapping[str, Tab]) -> None:
        self.bar = studio.bar
        found = {name: tabs[name].receives.get("recipe") for name in ORDER if name in tabs}
        self.tabs = {name: own_fields(fields) for name, fields in found.items() if fields}
        held = {name: tabs[name].receives.get("controls") for name in self.tabs}
        self.controls = {name: each for name, each in held.items() if each}

    @property
    def outputs(self) -> list[Any]:
        """The components that ``filled`` returns updates for: all fields, and the row of tabs."""
        held = [*self.tabs.values(), *(each.fields for each in self.controls.values())]
        return [*(made for fields in held for made in fields.values()), self.bar]

    def filled(self, picture: Any, language: str) -> tuple[list[Any], str]:
        """Return updates for ``outputs``, and what is said about them as HTML.

        Args:
            picture: The file.
            language: The visitor's.

        Raises:
            UserError: It is no picture, or does not say how it was made.
        """
        found = dropped(picture)
        name = found.tab if found.tab in self.tabs else next(iter(self.tabs))
        held = self.tabs[name]
        found = dropped(picture, held.keys())
        updates = [
            _held(component, found.values[setting])
            if tab == name and setting in found.values
            else gr.skip()
            for tab, fields in self.tabs.items()
            for setting, component in fields.items()
        ]
        looking, sentences = self._looking(found.controls, name, language)
        found = replace(found, sentences=(*found.sentences, *sentences))
        return [*updates, *looking, gr.Tabs(selected=name)], _said(found, name, language)

    def _looking(
        self, recorded: Sequence[RecordedControl], tab: str, language: str
    ) -> tuple[list[Any], list[str]]:
        """Return updates for the fields of all tabs' controls, and what is said about them."""
        updates, sentences = [], []
        for name, controls in self.controls.items():
            if name == tab:
                own, sentences = controls.filled(recorded, language)
                updates += own
            else:
                updates += [gr.skip()] * len(controls.fields)
        if tab not in self.controls:
            called = [f"{each.kind}={each.file}" for each in recorded]
            sentences = [say(language, "recipe_no_fields", called=each) for each in called]
        return updates, sentences

    def unchanged(self) -> list[Any]:
        """Return updates that change nothing."""
        return [gr.skip() for _ in self.outputs]


def own_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tab's fields, each component once: an edit's first prompt also goes by another."""
    twice = "sprompt" in fields and fields["sprompt"] is fields.get("prompt")
    return {name: each for name, each in fields.items() if not (twice and name == "prompt")}


def taken_over(
    picture: Path, fields: Mapping[str, Any], tab: str, language: str
) -> tuple[list[Any], str]:
    """Return updates for a tab's own fields from the recipe of any picture, and what is said.

    Args:
        picture: The file.
        fields: Of ``own_fields``.
        tab: The tab's name.
        language: The visitor's.

    Raises:
        UserError: It is no picture, or does not say how it was made.
    """
    found = dropped(picture, {*fields, "prompt"})
    values = dict(found.values)
    if "sprompt" in fields and "prompt" in values:  # an edit begins from what was drawn
        values.setdefault("sprompt", values["prompt"])
    updates = [
        _held(component, values[name]) if name in values else gr.skip()
        for name, component in fields.items()
    ]
    return updates, _said(found, tab, language)


def drop_area(name: str) -> tuple[Any, Any]:
    """Lay out where a picture is dropped, and where is said what became of it.

    Args:
        name: Of the tab that it is on.
    """
    place = gr.Image(
        label=shown("drop"),
        type="filepath",
        sources=["upload", "clipboard"],
        height=160,
        buttons=[],
        elem_id=f"{name}-drop",
    )
    return place, gr.HTML(elem_id=f"{name}-dropped", elem_classes="notices")


def wire_drop(place: Any, said: Any, filler: Filler) -> None:
    """Let what is dropped fill the fields."""

    def read(visit: gr.Request, value: Any) -> list[Any]:
        language = language_of_visit(visit)
        path = value.get("path") if isinstance(value, dict) else value
        if not path:
            return [*filler.unchanged(), ""]
        try:
            updates, text = filler.filled(Path(str(path)), language)
        except UserError as error:
            return [*filler.unchanged(), warned(_without_name(str(error), str(path)))]
        return [*updates, text]

    place.upload(read, place, [*filler.outputs, said], **QUIET)


def _held(component: Any, value: Any) -> Any:
    """Return a value as a component holds it; a menu takes nothing that is not in it."""
    if isinstance(component, gr.Textbox):
        return "" if value is None else str(value)
    if isinstance(component, gr.Dropdown):
        offered = [each[1] if isinstance(each, tuple) else each for each in component.choices]
        return value if value in offered else gr.skip()
    return gr.skip() if value is None else value


def _said(found: Dropped, tab: str, language: str) -> str:
    source, tab_name = html.escape(found.source), say(language, tab)
    text = say(language, "read_by", source=source, n=len(found.values), tab=tab_name)
    if not found.sentences:
        return f'<div role="status">{text}</div>'
    items = "".join(f"<li>{html.escape(each)}</li>" for each in found.sentences)
    return f'<div role="status">{text} {say(language, "not_understood")}<ul>{items}</ul></div>'


def _without_name(text: str, path: str) -> str:
    """Take out of a message the flag for such a picture, and the name that an upload has here."""
    for name in (f"--from-image {Path(path).name}", path, Path(path).name):
        text = text.replace(name, "the picture")
    return text


def data_address(path: Path, side: int = 256) -> str:
    """Return a small copy of a picture as a ``data:`` address; empty if it cannot be read.

    Args:
        path: The file.
        side: Its longer side in pixels, at most.
    """
    import base64
    import io

    try:
        with opened(path) as image:
            image.thumbnail((side, side))
            held = io.BytesIO()
            image.convert("RGB").save(held, "JPEG", quality=80)
    except (UserError, OSError, ValueError, SyntaxError):
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"


def picture_html(path: Path | None, text: str, name: str = "") -> str:
    """Return HTML that shows a picture which is not served, with lines of text beside it."""
    address = data_address(path) if path is not None else ""
    image = f'<img src="{address}" alt="{html.escape(name)}">' if address else ""
    return f'<div class="aside">{image}<div>{text}</div></div>'
