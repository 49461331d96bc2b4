"""The layout of a page in gradio: what to draw on the left, what was drawn on the right.

Draw -> show_cancel (Cancel replaces Draw) -> draw, one state at a time -> show_draw
Cancel -> stop
What is entered or drawn -> page.js keeps it in the browser -> a reloaded page shows it again
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ldm.pipelines.models import ModelChoice
from ldm.settings.suiting import suiting
from optimizedSD.web.edit_handlers import EditHandlers
from optimizedSD.web.edit_layout import EDIT_CSS, TEXT, edit_controls, maps_gallery
from optimizedSD.web.fields import MAIN, Field, fields_of
from optimizedSD.web.handlers import Handlers
from optimizedSD.web.page import Page
from optimizedSD.web.words import TEXTS, script_texts, translations
from optimizedSD.web.worker import Worker

# The one whose fonts come with gradio; its texts are too pale, or on too pale a ground, to be read
# by everybody.
THEME = gr.themes.Default(primary_hue="indigo").set(
    body_text_color_subdued="*neutral_600",
    block_info_text_color="*neutral_600",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
)
CSS = """
.gradio-container { max-width: 1320px !important; }
#gallery .grid-wrap { min-height: 12em; max-height: 640px; }
#trouble:not(:has(.told)), #upload-trouble:not(:has(.told)) { display: none; }
#status .bar { height: 0.7em; background: var(--border-color-primary); border-radius: 0.35em; }
#status .bar div { height: 100%; background: var(--color-accent); border-radius: 0.35em; }
#status .bar div { transition: width 0.3s; }
.preview { display: block; margin: 0.5em auto 0; max-height: 20em; width: min(100%, 40em);
  object-fit: contain; }
#notices ul { margin: 0; padding-left: 1.2em; }
#notices summary { cursor: pointer; }
.warning { color: var(--error-text-color, #b91c1c); }
.gone :is(#status, #cancel, .toast-wrap) { display: none; }
"""
# A message in a box that can be closed.
TOLD_CSS = """
.told { display: flex; gap: 0.6em; align-items: start; padding: 0.5em 0.7em; border-radius: 0.35em;
  border: 1px solid var(--error-text-color, #b91c1c); color: var(--error-text-color, #b91c1c); }
.told span { flex: 1; }
.told button { text-decoration: underline; color: inherit; min-height: 1.5em; }
"""
# The label of a gallery lies on it: below the label is room for the pictures.
LABEL_CSS = """
.grid-wrap { padding-top: 2.6em !important; }
"""
CSS += TOLD_CSS + LABEL_CSS + EDIT_CSS
SCRIPT = Path(__file__).with_name("page.js")
# Controls that belong side by side.
PAIRS = (
    ("only_masked", "mask_blur"),
    ("H", "W"),
    ("ddim_steps", "sampler"),
    ("scale", "seed"),
    ("n_samples", "n_iter"),
)
SLIDER_STEPS = 100
AT_ONCE = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# What is painted over a picture, half transparent and in colours that few pictures have: one of
# them can be seen on any.
MARKS = [("#ff00c8", 0.6), ("#00e5ff", 0.6), ("#ffe600", 0.6)]
TROUBLE = '<div role="alert"></div>'  # filled by page.js
HOUR = 3600  # seconds


def controls_of(page: Page, choice: ModelChoice) -> list[Field]:
    """Return a page's controls, set to the model's own size and to what its YAML says suits it.

    For a model that only inpaints, strength and scale are set to its own values too.
    """
    initial = {**page.initial, **dict.fromkeys(page.size_controls, choice.size)}
    if choice.kind.walks.keys() == {"mask"}:
        initial |= choice.kind.own_values
    initial |= suiting(page.schema(), choice.sampling, {*page.fixed, *page.initial})
    return fields_of(page.schema, initial, page.fixed)


def handlers_for(
    page: Page, worker: Worker, fields: list[Field], rest: Mapping[str, Any]
) -> Handlers:
    """Return what answers a page's buttons; arguments as ``Handlers``.

    Raises:
        UserError: The page edits by words, and the model does not say which token is which.
    """
    made = EditHandlers if page.edits else Handlers
    return made(page, worker, fields, rest)


def build(page: Page, handlers: Handlers, about: str) -> gr.Blocks:
    """Build a page.

    Args:
        page: Which one.
        handlers: Answer its buttons.
        about: A line about the model.
    """
    with gr.Blocks(
        title=page.title, analytics_enabled=False, delete_cache=(HOUR, 24 * HOUR)
    ) as blocks:
        gr.Markdown(TEXT("heading"))
        gr.Markdown(TEXT("hint"))
        with gr.Row():
            with gr.Column():
                uploads = _uploads(page, handlers)
                inputs = [*uploads, *_controls(handlers)]
            with gr.Column():
                draw = gr.Button(TEXT("draw"), variant="primary", elem_id="draw")
                cancel = gr.Button(TEXT("cancel"), variant="stop", visible=False, elem_id="cancel")
                gr.HTML(TROUBLE, elem_id="trouble")
                outputs = _outputs(page)
                with gr.Accordion(TEXT("limits"), open=False):
                    gr.Markdown(f"{about}\n\n{handlers.worker.limits.sentence}")
        _connect(handlers, inputs, (draw, cancel), outputs)
        _keep(blocks, inputs[len(uploads) :], outputs)
        keep_files(blocks, uploads)
        menus = [each for each in inputs if isinstance(each, gr.Dropdown)]
        blocks.load(handlers.menus, None, menus, **AT_ONCE)
    return blocks


def translated(page: Page) -> gr.I18n:
    """Return the texts of a page in all languages, for ``launch``."""
    heading = tuple(f"# {text}" for text in page.heading)
    return gr.I18n(**translations({**TEXTS, "heading": heading, "hint": page.hint}))


def head(page: Page, model: str) -> str:
    """Return what stands in the head of a page: its script, and what that has to know.

    Args:
        page: The page.
        model: Its name: what is entered for one model is not for another.
    """
    return script(f"{page.server.program} {model}")


def script(kept: str) -> str:
    """Return a page's script with what it has to know.

    Args:
        kept: The name under which the browser keeps what was entered.
    """
    facts = {"kept": kept, "texts": script_texts()}
    written = json.dumps(facts).replace("<", "\\u003c")
    code = SCRIPT.read_text(encoding="utf-8")
    return f"<script>window.page = {written};</script><script>{code}</script>"


def component(field: Field, elem_id: str = "") -> gr.components.Component:
    """Return the gradio component for a control, with its label and first value.

    Args:
        field: The control.
        elem_id: Its name among the elements of the page; empty is the setting's.
    """
    label, info = words_of(field)
    common = {
        "label": label,
        "info": info,
        "value": field.value,
        "elem_id": elem_id or field.name,
    }
    if field.kind == "choice":
        common["value"] = "" if field.value is None else field.value
        return gr.Dropdown(choices=field.choices("en"), filterable=False, **common)
    if field.kind == "switch":
        return gr.Checkbox(**common)
    if field.kind == "slider":
        low, high = field.option.minimum, field.option.maximum
        whole = field.option.kind is int
        return gr.Slider(low, high, step=1 if whole else (high - low) / SLIDER_STEPS, **common)
    if field.kind == "blank":  # text, because gradio shows an empty number as 0
        shown = "" if field.value is None else str(field.value)
        return gr.Textbox(**(common | {"value": shown}))
    if field.kind == "number":
        # No limits here: the option's own error says better what is expected.
        return gr.Number(step=1 if field.option.kind is int else 0.5, **common)
    return gr.Textbox(lines=2 if field.name in ("sprompt", "prompt") else 1, **common)


def words_of(field: Field) -> tuple[Any, Any]:
    """Return a control's label and explanation, in whichever language the browser asks for."""
    if field.key is None:
        return field.label, field.info or None
    return TEXT(f"{field.key}.label"), TEXT(f"{field.key}.info") if field.info else None


def rows(fields: Iterable[Field]) -> Iterator[list[Field]]:
    """Yield the fields in order, row by row: the two of a pair share a row."""
    left = {field.name: field for field in fields}
    while left:
        name = next(iter(left))
        pair = next((pair for pair in PAIRS if name in pair), (name,))
        yield [left.pop(each) for each in pair if each in left]


def _controls(handlers: Handlers) -> list[gr.components.Component]:
    """Return the components of the controls; on the page of edits, those of the edit before."""
    made: dict[str, gr.components.Component] = {}
    edit: list[gr.components.Component] = []
    for row in rows(field for field in handlers.fields if field.name in MAIN):
        with gr.Row():
            made |= {field.name: component(field) for field in row}
        if isinstance(handlers, EditHandlers) and "prompt" in made and not edit:
            edit = edit_controls(handlers, made["prompt"], component)
    with gr.Accordion(TEXT("more"), open=False):
        made |= {f.name: component(f) for f in handlers.fields if f.name not in made}
        first = gr.Button(TEXT("reset"), size="sm", elem_id="reset")
    inputs = [*edit, *(made[field.name] for field in handlers.fields)]
    first.click(None, None, inputs, js="() => window.page.reset()", **AT_ONCE)
    return inputs


def _uploads(page: Page, handlers: Handlers) -> list[gr.components.Component]:
    """Return the components that take the init image and the mask, as far as the page has them."""
    if not page.takes_picture:
        return []
    # The brush is an eighth of a picture wide, at the size that the model was made for.
    width = handlers.worker.pipeline.choice.size // 8
    made: list[gr.components.Component] = [_editor(width, masked=page.takes_mask)]
    if page.takes_mask:
        with gr.Accordion(TEXT("upload_mask"), open=False):
            made.append(_mask_upload())
    gr.HTML(TROUBLE, elem_id="upload-trouble")
    return made


def _editor(brush_width: int, *, masked: bool) -> gr.ImageEditor:
    """Return the editor that a picture is uploaded to.

    Args:
        brush_width: The initial width, in pixels of the picture.
        masked: Whether painting marks the part to redraw; if not, it changes the picture.
    """
    marking = {"colors": MARKS, "color_mode": "fixed"} if masked else {}
    return gr.ImageEditor(
        label=TEXT("paint" if masked else "picture"),
        type="pil",
        format="png",  # lossless: the pixels that are kept must not change
        sources=("upload", "clipboard"),
        # gradio's crop moves the picture, but not what was painted on it.
        transforms=() if masked else ("crop",),
        layers=False,
        brush=gr.Brush(default_size=brush_width, **marking),
        height=420,
        elem_id="picture",
    )


def _mask_upload() -> gr.Image:
    return gr.Image(
        label=TEXT("mask"),
        type="pil",
        image_mode=None,
        sources=["upload", "clipboard"],
        elem_id="mask",
    )


def _outputs(page: Page) -> dict[str, gr.components.Component]:
    """Return the components that show a run, by the names in ``Handlers.outputs``."""
    return {
        "status": gr.HTML(elem_id="status"),
        "gallery": gr.Gallery(
            label=TEXT("pairs" if page.edits else "pictures"),
            columns=2,
            height=None,  # see the style
            object_fit="contain",
            interactive=False,
            buttons=["download", "fullscreen"],  # not "share": it uploads to another machine
            elem_id="gallery",
        ),
        **({"maps": maps_gallery()} if page.edits else {}),
        "notices": gr.HTML(elem_id="notices"),
        "seed": gr.Textbox(label=TEXT("used"), interactive=False, buttons=["copy"], elem_id="used"),
        "parameters": gr.Textbox(
            label=TEXT("parameters"),
            interactive=False,
            lines=4,
            buttons=["copy"],
            elem_id="parameters",
        ),
        "stored": gr.State([]),
    }


def _connect(
    handlers: Handlers,
    inputs: list[gr.components.Component],
    buttons: tuple[gr.Button, gr.Button],
    outputs: dict[str, gr.components.Component],
) -> None:
    draw, cancel = buttons
    given = [each for each in inputs if isinstance(each, (gr.ImageEditor, gr.Image))]
    shown = [outputs[name] for name in handlers.outputs]
    pressed = draw.click(handlers.show_cancel, None, [draw, cancel], **AT_ONCE)
    # gradio opens no upload and keeps no run waiting: the project's own reader and line do that.
    run = pressed.success(
        handlers.draw,
        inputs,
        shown,
        js=keeping(given, len(inputs)) if given else None,
        show_progress="hidden",
        preprocess=False,
        concurrency_limit=None,
        api_name="draw",
    )
    for ended in (run.success, run.failure):  # `then` follows a success only
        ended(handlers.show_draw, None, [draw, cancel], **AT_ONCE)
    cancel.click(handlers.stop, None, cancel, **AT_ONCE)
    outputs["gallery"].select(
        handlers.show_picture,
        outputs["stored"],
        [outputs[name] for name in handlers.clicked],
        **AT_ONCE,
    )


def keep_files(blocks: gr.Blocks, uploads: list[gr.components.Component]) -> None:
    """Let the browser keep which files were uploaded or painted, and bring them back."""
    if not uploads:
        return
    names = json.dumps([each.elem_id for each in uploads])
    # What listens to an editor's "change" is given no files.
    changes = [
        event
        for each in uploads
        for event in (
            (each.upload, each.input, each.clear)
            if isinstance(each, gr.ImageEditor)
            else (each.change,)
        )
    ]
    gr.on(changes, None, uploads, js=keeping(uploads), **AT_ONCE)
    bring = f"() => window.page.bringGiven({names})"
    blocks.load(None, None, uploads, js=bring, **AT_ONCE)


def keeping(uploads: list[gr.components.Component], passed: int = 0) -> str:
    """Return a script that keeps uploads and passes so many inputs on, uploads first.

    Args:
        uploads: The components that hold them.
        passed: How many inputs there are; 0 is as many as are given.
    """
    names = json.dumps([each.elem_id for each in uploads])
    return f"(...held) => window.page.keepGiven({names}, held.slice(0, {passed} || held.length))"


def _keep(
    blocks: gr.Blocks,
    controls: list[gr.components.Component],
    outputs: dict[str, gr.components.Component],
) -> None:
    """Let the browser keep what is entered and drawn; none of that reaches the server."""
    names = json.dumps([each.elem_id for each in controls])
    drawn = [outputs[name] for name in ("gallery", "seed", "parameters")]
    changes = [each.change for each in controls]
    gr.on(changes, None, controls, js=f"(...held) => window.page.keep({names}, held)", **AT_ONCE)
    outputs["gallery"].change(
        None, drawn, js="(...drawn) => window.page.keepDrawn(...drawn)", **AT_ONCE
    )
    bring = f"(...held) => window.page.bringBack({names}, held)"
    blocks.load(None, [*controls, *drawn], [*controls, *drawn], js=bring, **AT_ONCE)
