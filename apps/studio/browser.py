"""The shelf below a prompt: LoRAs and embeddings of models/, their words, and a button."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from apps.studio.adapters import Adapter, adapters_there, with_adapter
from apps.studio.events import QUIET
from apps.studio.filling import picture_html
from apps.studio.words import say, shown
from optimizedSD.web.handlers import language_of_visit


def shelf(prompt: Any, name: str) -> None:
    """Lay the shelf out, and let its button write into a prompt.

    Args:
        prompt: The component of the prompt.
        name: Of the tab.
    """
    with gr.Accordion(shown("shelf"), open=False, elem_id=f"{name}-shelf") as place:
        menu = gr.Dropdown(
            [], label=shown("shelf"), info=shown("shelf_info"), elem_id=f"{name}-adapter"
        )
        about = gr.HTML(elem_id=f"{name}-adapter-about")
        insert = gr.Button(shown("insert"), size="sm", elem_id=f"{name}-insert")
    place.expand(_listed, None, [menu, about], **QUIET)
    menu.input(_about, menu, about, **QUIET)
    insert.click(_insert, [menu, prompt], prompt, **QUIET)


def _listed(visit: gr.Request) -> tuple[Any, str]:
    there = [each for each in adapters_there() if each.writable]
    choices = [(f"{each.name} ({each.kind})", _key(each)) for each in there]
    first = there[0] if there else None
    menu = gr.Dropdown(choices=choices, value=choices[0][1] if choices else None)
    return menu, about_html(first, language_of_visit(visit)) if first else ""


def _about(visit: gr.Request, key: Any) -> str:
    found = _found(key)
    return about_html(found, language_of_visit(visit)) if found else ""


def _insert(key: Any, prompt: Any) -> Any:
    found = _found(key)
    return with_adapter(str(prompt or ""), found) if found else gr.skip()


def about_html(adapter: Adapter, language: str) -> str:
    """Return what an adapter says of itself, with its picture, as HTML."""
    words, base = ", ".join(adapter.words), adapter.base
    lines = [
        adapter.title or adapter.name,
        say(language, "wakes", words=words) if words else "",
        say(language, "made_for", base=base) if base else "",
        adapter.note,
        adapter.written,
    ]
    text = "<br>".join(html.escape(line) for line in lines if line)
    return picture_html(adapter.picture, text, adapter.name)


def _key(adapter: Adapter) -> str:
    return f"{adapter.kind}/{adapter.name}"


def _found(key: Any) -> Adapter | None:
    return next((each for each in adapters_there() if _key(each) == key and each.writable), None)
