"""gradio components for the controls of a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import gradio as gr

from optimizedSD.web.fields import Field

# Controls that belong side by side.
PAIRS = (("H", "W"), ("ddim_steps", "sampler"), ("scale", "seed"), ("n_samples", "n_iter"))
SLIDER_STEPS = 100


def component(field: Field) -> gr.components.Component:
    """Return a control, labelled and with its first value."""
    common = {
        "label": field.label,
        "info": field.info or None,
        "value": field.value,
        "elem_id": field.name,
    }
    if field.kind == "choice":
        return gr.Dropdown(choices=list(field.option.offered), filterable=False, **common)
    if field.kind == "switch":
        return gr.Checkbox(**common)
    if field.kind == "slider":
        low, high = field.option.minimum, field.option.maximum
        whole = field.option.kind is int
        return gr.Slider(low, high, step=1 if whole else (high - low) / SLIDER_STEPS, **common)
    if field.kind == "blank":  # gradio shows an empty number as 0
        shown = "" if field.value is None else str(field.value)
        return gr.Textbox(**(common | {"value": shown}))
    if field.kind == "number":
        # No range here: out of it, the option itself says best what is expected.
        return gr.Number(step=1 if field.option.kind is int else 0.5, **common)
    return gr.Textbox(lines=2 if field.name == "prompt" else 1, **common)


def rows(fields: Iterable[Field]) -> Iterator[list[Field]]:
    """Yield the fields in order, those that belong together side by side."""
    left = {field.name: field for field in fields}
    while left:
        name = next(iter(left))
        pair = next((pair for pair in PAIRS if name in pair), (name,))
        yield [left.pop(each) for each in pair if each in left]


def editor(brush_width: int, *, masked: bool) -> gr.ImageEditor:
    """Return what a picture is uploaded to.

    Args:
        brush_width: At first, in pixels of the picture.
        masked: It is painted over where it is to be drawn anew; else it can be cropped and painted.
    """
    label = "Picture; paint over what to draw anew" if masked else "Picture"
    white = {"colors": ["#ffffff"], "color_mode": "fixed"} if masked else {}
    return gr.ImageEditor(
        label=label,
        type="pil",
        format="png",  # lossless: what is kept has to be the picture's own to the bit
        sources=("upload", "clipboard"),
        # A crop moves the picture, but not what was painted on it.
        transforms=() if masked else ("crop",),
        layers=False,
        brush=gr.Brush(default_size=brush_width, **white),
        height=420,
        elem_id="picture",
    )


def mask_upload() -> gr.Image:
    """Return what the picture of a mask is uploaded to."""
    return gr.Image(
        label="White is drawn anew, together with what is painted above",
        type="pil",
        image_mode=None,
        sources=["upload", "clipboard"],
        elem_id="mask",
    )
