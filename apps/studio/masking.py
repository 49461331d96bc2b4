"""A mask that is made for the picture of a tab: of what it shows, of a colour, of words.

choice, what was typed  ->  MaskOptions  ->  make_mask  ->  the field for masks
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from apps.studio.panel import Panel
from apps.studio.words import say, shown
from ldm.errors import UserError
from ldm.paths import is_file, listing
from ldm.settings.masks import MaskOptions
from optimizedSD.web.handlers import language_of_visit
from optimizedSD.web.pictures import opened, plain_picture

FOLDER = Path("models/masks")
KINDS = ("subject", "background", "colour")
LONGEST = 200  # characters of a colour, or of words


def network_for(kind: str, folder: Path = FOLDER) -> str | None:
    """Return what finds words (a folder of CLIPSeg) or subjects (an ONNX file); None if nothing.

    Args:
        kind: ``words``, or another.
        folder: Where it is looked for.
    """
    files = sorted(listing(folder))
    if kind == "words":
        found = [each for each in files if is_file(each / "config.json")]
    else:
        found = [each for each in files if each.suffix.lower() == ".onnx"]
    return str(found[0]) if found else None


def options_of(kind: Any, typed: Any, folder: Path = FOLDER) -> MaskOptions:
    """Return what is to be marked.

    Args:
        kind: One of ``KINDS``, or ``words``.
        typed: The colour, or the words.
        folder: Where networks are.

    Raises:
        UserError: There is no such kind, or something is missing.
    """
    text = str(typed or "").strip()
    if len(text) > LONGEST:
        raise UserError(f"{len(text)} letters were given; expected at most {LONGEST}; shorten it")
    if kind in ("colour", "words") and not text:
        raise UserError("nothing was typed; expected a colour such as red, or words; type them")
    if kind == "colour":
        return MaskOptions(kind=kind, colour=text)
    if kind == "words" and (network := network_for(kind, folder)):
        return MaskOptions(kind=kind, words=text, model=network)
    if kind not in KINDS:
        raise UserError("there is no such kind of mask; expected one of the list; choose one")
    return MaskOptions(kind=kind, model=network_for(kind, folder))


class MaskMaker:
    """The controls that make a mask, laid out where they are made.

    Args:
        name: The tab's.
    """

    def __init__(self, name: str) -> None:
        kinds = (*KINDS, "words") if network_for("words") else KINDS
        with gr.Accordion(shown("make_mask"), open=False):
            self.kind = gr.Radio(
                [(shown(f"mask_{each}"), each) for each in kinds],
                value=KINDS[0],
                label=shown("mask_of"),
                elem_id=f"{name}-mask-of",
            )
            self.typed = gr.Textbox(
                label=shown("mask_typed"),
                info=shown("mask_typed_info"),
                elem_id=f"{name}-mask-typed",
            )
            self.button = gr.Button(shown("make_mask"), size="sm", elem_id=f"{name}-make-mask")

    def connect(self, picture: gr.ImageEditor, field: gr.Image, panel: Panel) -> None:
        """Let the button fill the field for masks; what is wrong is said where a job's is."""
        on_processor = panel.studio.queue.pipeline.device.type == "cpu"
        device = "cpu" if on_processor else "auto"  # onnxruntime may be for processors alone

        def make(visit: gr.Request, painted: Any, kind: Any, typed: Any) -> tuple[Any, Any]:
            language = language_of_visit(visit)
            try:
                options = options_of(kind, typed)
                image = plain_picture(opened(painted and {"background": painted["background"]}))
                from ldm.masking.making import make_mask

                return Image.fromarray(make_mask(image, options, device)), ""
            except UserError as error:
                text = html.escape(panel.speaker.said(str(error), language))
                said = say(language, "not_drawn")
                return gr.skip(), f'<div class="warning" role="alert">{said} {text}</div>'

        self.button.click(
            make,
            [picture, self.kind, self.typed],
            [field, panel.status],
            preprocess=False,
            concurrency_limit=1,
            api_visibility="private",
        )
