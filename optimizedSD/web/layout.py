"""A page in gradio: what to draw on the left, what was drawn on the right.

Draw -> announce (Draw gives way to Cancel) -> draw, a view at a time -> ready
Cancel -> stop
"""

from __future__ import annotations

import gradio as gr

from ldm.pipelines.models import ModelChoice
from ldm.settings.inpaint import OWN_VALUES
from ldm.settings.model_kind import ModelKind
from optimizedSD.web.components import component, editor, mask_upload, rows
from optimizedSD.web.fields import MAIN, Field, fields_of
from optimizedSD.web.handlers import SHOWN, Handlers
from optimizedSD.web.kinds import Page

THEME = gr.themes.Default(primary_hue="indigo")  # its fonts are served from here
CSS = """
.gradio-container { max-width: 1320px !important; }
#status .bar { height: 0.7em; background: var(--border-color-primary); border-radius: 0.35em; }
#status .bar div { height: 100%; background: var(--color-accent); border-radius: 0.35em; }
#notices ul { margin: 0; padding-left: 1.2em; }
.warning { color: var(--error-text-color, #b91c1c); }
"""


def controls_of(page: Page, choice: ModelChoice) -> list[Field]:
    """Return a page's controls, with the model's size where a size is asked for.

    A model that is made for inpainting begins at its own strength and scale.
    """
    first = {**page.first, **dict.fromkeys(page.sized, choice.size)}
    if choice.kind is ModelKind.INPAINT:
        first |= OWN_VALUES[choice.kind]
    return fields_of(page.schema, first)


def build(page: Page, handlers: Handlers, about: str) -> gr.Blocks:
    """Return the page.

    Args:
        page: What it is for.
        handlers: Answers its buttons.
        about: A line on the model.
    """
    with gr.Blocks(title=page.title, analytics_enabled=False) as blocks:
        gr.Markdown(f"# {page.title}\n{page.hint}")
        with gr.Row():
            with gr.Column():
                inputs = [*_pictures(page, handlers), *_controls(handlers.fields)]
            with gr.Column():
                draw = gr.Button("Draw", variant="primary", elem_id="draw")
                cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id="cancel")
                outputs = _outputs()
                gr.Markdown(about)
        _connect(handlers, inputs, (draw, cancel), outputs)
    return blocks


def _pictures(page: Page, handlers: Handlers) -> list[gr.components.Component]:
    if not page.takes_picture:
        return []
    # A stroke of an eighth of the picture, at the size that the model was made for.
    width = handlers.worker.pipeline.choice.size // 8
    made: list[gr.components.Component] = [editor(width, masked=page.takes_mask)]
    if page.takes_mask:
        with gr.Accordion("Upload a mask", open=False):
            made.append(mask_upload())
    return made


def _controls(fields: list[Field]) -> list[gr.components.Component]:
    made: dict[str, gr.components.Component] = {}
    for row in rows(field for field in fields if field.name in MAIN):
        with gr.Row():
            made |= {field.name: component(field) for field in row}
    with gr.Accordion("More settings", open=False):
        made |= {field.name: component(field) for field in fields if field.name not in MAIN}
    return [made[field.name] for field in fields]


def _outputs() -> dict[str, gr.components.Component]:
    """Return what shows a run, by the names in ``SHOWN``."""
    return {
        "status": gr.HTML(elem_id="status"),
        "gallery": gr.Gallery(
            label="Pictures",
            columns=2,
            height=640,  # two rows of square ones
            object_fit="contain",
            interactive=False,
            buttons=["download", "fullscreen"],  # not "share", which sends them to another machine
            elem_id="gallery",
        ),
        "notices": gr.HTML(elem_id="notices"),
        "seed": gr.Textbox(label="Seed used", interactive=False, buttons=["copy"], elem_id="used"),
        "parameters": gr.Textbox(
            label="Parameters, as stored in the picture (click on another one for its own)",
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
    at_once = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    draw, cancel = buttons
    shown = [outputs[name] for name in SHOWN]
    pressed = draw.click(handlers.announce, None, [draw, cancel], **at_once)
    run = pressed.success(
        handlers.draw, inputs, shown, show_progress="hidden", concurrency_limit=1, api_name="draw"
    )
    for ended in (run.success, run.failure):  # `then` is the former alone
        ended(handlers.ready, None, [draw, cancel], **at_once)
    cancel.click(handlers.stop, None, cancel, **at_once)
    outputs["gallery"].select(handlers.choose, outputs["stored"], outputs["parameters"], **at_once)
