"""The tab that draws a part of a picture anew, or draws on around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from apps.studio.controlling import Controls
from apps.studio.form import FIRST_PROMPT, LEAST_WIDTH, Form, fields_for
from apps.studio.masking import MaskMaker
from apps.studio.panel import Panel
from apps.studio.pictures import mask_field, paint_field, painted_of
from apps.studio.queue import Drawing
from apps.studio.state import Studio, Tab
from apps.studio.words import shown
from ldm.errors import UserError
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.low_memory import ForkHabits, SmallDevice
from ldm.settings.option import changed

NAME = "repaint"
SIDES = ("left", "top", "right", "bottom")
BY_HAND = ("only_masked", "outpaint")  # settings that have controls of the tab's own
PADDING = 32  # pixels of the picture around the mask


@dataclass(frozen=True, kw_only=True)
class TabSettings(ForkHabits, InpaintSettings):
    """Settings of the tab: an empty seed is a random one."""

    seed: int | None = changed(SmallDevice, "seed")
    seed_mode: str = changed(SmallDevice, "seed_mode")


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    kind = studio.queue.pipeline.choice.kind
    own = kind.own_values if kind.walks.keys() == {"mask"} else {}  # one that only inpaints
    fields = fields_for(studio, TabSettings, BY_HAND, **{"prompt": FIRST_PROMPT, **own})
    gr.Markdown(shown("repaint_hint"))
    with gr.Row():
        with gr.Column():
            picture = paint_field(studio, NAME)
            with gr.Accordion(shown("upload_mask"), open=False):
                mask = mask_field(NAME)
            maker = MaskMaker(NAME)
            area, margins = _area(studio)
            form = Form(studio, NAME, TabSettings, fields, first=("invert_mask",))
            controls = Controls(studio, form, own=True, masked=True)
        with gr.Column():
            panel = Panel(studio, NAME, speaker=form.speaker)

    count = len(controls.inputs)

    def read(values: Sequence[Any], language: str) -> Drawing:
        (painted, uploaded), (only, padding) = values[:2], values[2:4]
        sides = [_pixels(each) for each in values[4:8]]
        looking, held = values[8 : 8 + count], values[8 + count :]
        outpaint = ",".join(map(str, sides)) if any(sides) else None
        rest = {"only_masked": _pixels(padding) if only else None, "outpaint": outpaint}
        own = (painted or {}).get("background")
        settings = form.read(held, **rest, **controls.read(looking, language, own))
        how = {"needs_mask": not any(sides), "transparent": settings.lays_out}
        image, marked = painted_of(painted, uploaded, **how)
        if not only:  # else the model's own size is drawn
            width, height = image.width + sides[0] + sides[2], image.height + sides[1] + sides[3]
            studio.queue.limits.check_size(settings, width, height)
        return Drawing(settings, language, image, marked)

    maker.connect(picture, mask, panel)
    given = [picture, mask, *area, *margins]
    panel.connect([*given, *controls.inputs, *form.inputs], read, form)
    receives = {"picture": picture, "recipe": form.by_name, "controls": controls}
    return Tab(NAME, receives, panel.wire)


def _area(studio: Studio) -> tuple[list[Any], list[Any]]:
    """Return the controls of what is drawn: the area around the mask, and the margins."""
    most = studio.queue.limits.side
    with gr.Row():
        with gr.Column(min_width=LEAST_WIDTH):
            only = gr.Checkbox(
                True,
                label=shown("only_masked"),
                info=shown("only_masked_info"),
                elem_id=f"{NAME}-only",
            )
        with gr.Column(min_width=LEAST_WIDTH):
            padding = gr.Slider(
                0, most, PADDING, step=1, label=shown("padding"), elem_id=f"{NAME}-padding"
            )
    with gr.Accordion(shown("outpaint"), open=False), gr.Row():
        margins = [
            gr.Slider(
                0,
                most,
                0,
                step=8,
                label=shown(f"margin_{side}"),
                elem_id=f"{NAME}-{side}",
                min_width=120,
            )
            for side in SIDES
        ]
    studio.kept |= {each.elem_id: each for each in (only, padding, *margins)}
    return [only, padding], margins


def _pixels(value: Any) -> int:
    """Return a number of pixels that a slider holds.

    Raises:
        UserError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 10_000:
        raise UserError(
            f"{value!r} pixels were given; expected a number from 0 to 10000; change it"
        )
    return round(value)
