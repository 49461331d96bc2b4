"""Answers a page's buttons: takes the values of its inputs, returns what its outputs show."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from ldm.errors import UserError
from ldm.images.metadata import read_parameters
from ldm.settings.generation import GenerationSettings
from ldm.settings.inpaint import InpaintSettings
from optimizedSD.web.drawing import Drawing
from optimizedSD.web.fields import Field, settings_from
from optimizedSD.web.page import Page
from optimizedSD.web.pictures import (
    is_marked,
    mask_of,
    opened,
    own_picture,
    painted_picture,
    plain_picture,
)
from optimizedSD.web.speaking import Speaker, bar
from optimizedSD.web.state import RunState
from optimizedSD.web.words import language_of, said
from optimizedSD.web.worker import Worker

# The components that `Handlers.draw` yields values for, in this order.
OUTPUTS = ("status", "gallery", "seed", "parameters", "notices", "stored")
UNCHANGED = gr.skip()


class Handlers:
    """Answers a page's buttons.

    gradio passes ``visit``, which tells the visitors' browser windows apart.

    Args:
        page: The page.
        worker: Draws.
        fields: The page's controls, in the order that their values arrive in.
        rest: Settings that have no control.

    Attributes:
        outputs: The components that ``draw`` yields values for.
        clicked: Those that ``show_picture`` returns values for.
    """

    outputs: tuple[str, ...] = OUTPUTS
    clicked: tuple[str, ...] = ("parameters",)

    def __init__(
        self, page: Page, worker: Worker, fields: Sequence[Field], rest: Mapping[str, Any]
    ) -> None:
        self.page, self.worker, self.fields, self.rest = page, worker, fields, rest
        self.speaker = Speaker(fields)
        self.labels = self.speaker.labels

    def show_cancel(self, visit: gr.Request) -> tuple[Any, Any]:
        """Register the coming run, and put Cancel in the place of Draw."""
        self.worker.register(visit.session_hash)
        cancel = gr.Button(said("cancel", language_of_visit(visit)), visible=True, interactive=True)
        return gr.Button(visible=False), cancel

    def stop(self, visit: gr.Request) -> Any:
        """Stop the visitor's run."""
        self.worker.stop(visit.session_hash)
        return gr.Button(said("stopping", language_of_visit(visit)), interactive=False)

    def show_draw(self) -> tuple[Any, Any]:
        """Put Draw in the place of Cancel."""
        return gr.Button(visible=True), gr.Button(visible=False)

    def menus(self, visit: gr.Request) -> list[Any]:
        """Return the menus of the page with their values in the visitor's language."""
        language = language_of_visit(visit)
        return [
            gr.Dropdown(choices=field.choices(language))
            for field in self.fields
            if field.kind == "choice"
        ]

    def draw(self, visit: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Draw, yielding what the components in ``outputs`` show.

        Args:
            visit: Whose run it is.
            *values: What the page has beside its controls, such as uploads, then the values of
                the controls.

        Raises:
            gr.Error: what the user has to change, as one line in the page's words; the page shows
                it in its status, as gradio's own box would lie over the button and stay.
        """
        shown: int | None = None
        language = language_of_visit(visit)
        try:
            address = getattr(getattr(visit, "client", None), "host", "")
            read = lambda: replace(self._read(values), language=language)  # noqa: E731
            run = self.worker.draw(visit.session_hash, read, address)
            for state in run:
                # A browser loads pictures again each time they are sent.
                pictures = bool(state.pictures) and len(state.pictures) != shown
                # A client without a browser only gets the last state, so that one is complete.
                over = state.over and bool(state.pictures)
                yield self._show(state, visit.session_hash, pictures=pictures or over)
                shown = len(state.pictures)
        except UserError as error:
            yield self._failed(html.escape(self._said(str(error), language)), language)
            raise _shown_by_the_page(self._said(str(error), language)) from error
        except Exception as error:
            text = said("failed", language)
            yield self._failed(text, language)
            raise _shown_by_the_page(text, unexpected=True) from error

    def show_picture(self, stored: Sequence[str], event: gr.SelectData) -> Any:
        """Return what ``clicked`` show of the picture that was clicked: its parameters."""
        return stored[event.index] if event.index < len(stored) else parameters_in(event.value)

    def _read(self, values: Sequence[Any]) -> Drawing:
        """Read what a run asks for, all of it checked before it takes a place in the line."""
        uploads, controls = values[: -len(self.fields)], values[-len(self.fields) :]
        settings = self._settings(controls)
        limits, choice = self.worker.limits, self.worker.pipeline.choice
        if not self.page.takes_picture:
            self._check_own_size(settings)
            return Drawing(settings)
        editor, *masks = uploads
        used = ("background", "layers") if masks else ("composite",)  # decoding takes seconds
        editor = opened(editor and {part: editor[part] for part in used})
        masks = [opened(mask) for mask in masks]
        if masks:
            return self._read_part(settings, editor, masks[0])
        image = painted_picture(editor)
        own = image.size[::-1]
        height, width = settings.target_size(own, choice.size, choice.multiple) or own
        limits.check_size(settings, width, height)
        return Drawing(settings, image=image)

    def _read_part(self, settings: InpaintSettings, editor: Any, mask: Any) -> Drawing:
        """Read what redraws a part of a picture.

        Args:
            settings: The run's.
            editor: What it holds, opened.
            mask: One that was uploaded, opened; None if none was.
        """
        choice = self.worker.pipeline.choice
        image = own_picture(editor) if settings.lays_out else plain_picture(editor)
        drawn = settings.W or choice.size, settings.H or choice.size
        if settings.only_masked is None:
            height, width = image.size[::-1]
            grown = height + sum(settings.margins[1::2]), width + sum(settings.margins[::2])
            drawn = (settings.target_size(grown, choice.size, choice.multiple) or grown)[::-1]
        self.worker.limits.check_size(settings, *drawn)
        around = any(settings.margins) and not is_marked(editor, mask)
        return Drawing(settings, image=image, mask=None if around else mask_of(editor, mask))

    def _settings(self, controls: Sequence[Any], **more: Any) -> GenerationSettings:
        """Return the settings that the controls hold, within the page's limits."""
        settings = settings_from(self.page.schema, self.fields, controls, **self.rest, **more)
        self.worker.limits.check(settings)
        return settings

    def _check_own_size(self, settings: GenerationSettings) -> None:
        """Check the size of pictures that start from noise."""
        own = self.worker.pipeline.choice.size
        self.worker.limits.check_size(settings, settings.W or own, settings.H or own)

    def _said(self, text: str, language: str) -> str:
        """Put a message into the page's words."""
        return self.speaker.said(text, language)

    def _show(self, state: RunState, visitor: str, *, pictures: bool) -> tuple[Any, ...]:
        """Return what ``outputs`` show; without ``pictures``, those that tell of them stay.

        So do the pictures of the run before, until this one has its first.
        """
        gallery = [(str(saved.path), saved.caption) for saved in state.pictures]
        stored = [saved.parameters for saved in state.pictures]
        return (
            bar(state),
            gallery if pictures else UNCHANGED,
            str(state.seed) if pictures else UNCHANGED,
            stored[-1] if pictures else UNCHANGED,
            self._notices(state, visitor),
            stored if pictures else UNCHANGED,
        )

    def _notices(self, state: RunState, visitor: str) -> str:
        return self.speaker.notices(state, visitor)

    def _failed(self, text: str, language: str) -> tuple[Any, ...]:
        others = len(self.outputs) - 1
        shown = f'<div class="warning" role="alert">{said("not_drawn", language)} {text}</div>'
        return (shown, *[UNCHANGED] * others)


def language_of_visit(visit: gr.Request) -> str:
    """Return the language of ``LANGUAGES`` that a visitor's browser asks for."""
    headers = getattr(visit, "headers", None)
    return language_of(headers.get("accept-language") if headers else None)


def _shown_by_the_page(text: str, *, unexpected: bool = False) -> gr.Error:
    """Return an error that a client without a browser gets, and no box in a browser shows."""
    return gr.Error(html.escape(text), visible=False, print_exception=unexpected)


def parameters_in(clicked: Any) -> Any:
    """Return what is stored in the file of a picture that the browser kept from before."""
    try:
        return read_parameters(clicked["image"]["path"]) or ""
    except (UserError, KeyError, TypeError):  # it is gone, or nothing was clicked
        return UNCHANGED
