"""What the page of edits has beside what all pages have: chips, windows, and maps of words.

The prompt is typed -> show_words (chips)
A chip is clicked   -> pick (slider)  -> weigh (what is written)  -> show_words (chips)
"""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from optimizedSD.web.edit_fields import LEAST_WEIGHT, MOST_WEIGHT, edit_fields
from optimizedSD.web.edit_handlers import EditHandlers
from optimizedSD.web.fields import Field

EDIT_CSS = """
#maps .grid-wrap { min-height: 10em; }
#words label { padding: 0.2em 0.8em; border-radius: 1em; }
#words label span { margin-left: 0; }
#words label:has(input:checked) { background: var(--color-accent); color: white; }
#words input { position: absolute; opacity: 0; }
#words label:has(input:focus-visible) { outline: 2px solid var(--color-accent); }
"""
AT_ONCE = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
    "preprocess": False,
    "trigger_mode": "always_last",
}
TEXT = gr.I18n()  # the page's own translates the keys


def edit_controls(
    handlers: EditHandlers,
    prompt: gr.Textbox,
    component: Callable[[Field], gr.components.Component],
) -> list[gr.components.Component]:
    """Lay out the controls of the edit.

    Args:
        handlers: Answer what they do.
        prompt: The component of the edited prompt, whose words become chips.
        component: Returns the component of a control.

    Returns:
        The components of ``edit_fields``.
    """
    weights, *windows, source, edit = edit_fields()
    words, weight = _chips(handlers, prompt.value)
    made = [component(weights)]
    for pair in (windows[:2], windows[2:], (source, edit)):
        with gr.Row():
            made += [component(field) for field in pair]
    _connect(handlers, prompt, words, weight, made[0])
    return made


def maps_gallery() -> gr.Gallery:
    """Return the gallery of heat maps, one for each word."""
    return gr.Gallery(
        label=TEXT("looks"),
        columns=4,
        height="auto",
        object_fit="contain",
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id="maps",
    )


def _chips(handlers: EditHandlers, prompt: str) -> tuple[gr.Radio, gr.Slider]:
    words = gr.Radio(
        choices=handlers.chips_of(prompt, ""),
        label=TEXT("words"),
        info=TEXT("words_info"),
        elem_id="words",
    )
    weight = gr.Slider(LEAST_WEIGHT, MOST_WEIGHT, 1, step=0.1, visible=False, elem_id="weight")
    return words, weight


def _connect(
    handlers: EditHandlers,
    prompt: gr.Textbox,
    words: gr.Radio,
    weight: gr.Slider,
    weights: gr.components.Component,
) -> None:
    for typed in (prompt, weights):
        typed.change(handlers.show_words, [prompt, weights, words], [words, weight], **AT_ONCE)
    words.input(handlers.pick, [words, weights], weight, **AT_ONCE)
    weight.input(handlers.weigh, [words, weight, weights], weights, **AT_ONCE)
