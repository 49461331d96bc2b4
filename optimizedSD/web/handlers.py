"""Answers a page's buttons: takes the values of its inputs, returns what its outputs show."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from ldm.errors import UserError
from ldm.settings.generation import GenerationSettings
from optimizedSD.web.fields import Field, settings_from, with_labels
from optimizedSD.web.page import Page
from optimizedSD.web.pictures import mask_of, opened, painted_picture, plain_picture
from optimizedSD.web.state import RunState
from optimizedSD.web.worker import Wanted, Worker

# The components that `Handlers.draw` yields values for, in this order.
OUTPUTS = ("status", "gallery", "seed", "parameters", "notices", "stored")
UNCHANGED = gr.skip()
_UPLOADED = re.compile(r"\S*[\\/][0-9a-f]{64}\.[a-z]{3,4}\b")


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
        self.labels = {field.option.flag: field.label for field in fields}

    def show_cancel(self, visit: gr.Request) -> tuple[Any, Any]:
        """Register the coming run, and put Cancel in the place of Draw."""
        self.worker.register(visit.session_hash)
        return gr.Button(visible=False), gr.Button("Cancel", visible=True, interactive=True)

    def stop(self, visit: gr.Request) -> Any:
        """Stop the visitor's run."""
        self.worker.stop(visit.session_hash)
        return gr.Button("Stopping after this step …", interactive=False)

    def show_draw(self) -> tuple[Any, Any]:
        """Put Draw in the place of Cancel."""
        return gr.Button(visible=True), gr.Button(visible=False)

    def draw(self, visit: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Draw, yielding what the components in ``outputs`` show.

        Args:
            visit: Whose run it is.
            *values: What the page has beside its controls, such as uploads, then the values of
                the controls.

        Raises:
            gr.Error: what the user has to change, as one line in the page's words.
        """
        shown: int | None = None
        try:
            address = getattr(getattr(visit, "client", None), "host", "")
            run = self.worker.draw(visit.session_hash, lambda: self._read(values), address)
            for state in run:
                # A browser loads pictures again each time they are sent. A client without a
                # browser only gets the last state, so that one is always complete.
                yield self._show(state, pictures=state.over or len(state.pictures) != shown)
                shown = len(state.pictures)
        except UserError as error:
            text = html.escape(self._said(str(error)))
            yield self._failed(text)
            raise gr.Error(text, duration=None, print_exception=False) from error
        except Exception:
            yield self._failed("the program failed; the terminal that it was started in says why")
            raise

    def show_picture(self, stored: Sequence[str], event: gr.SelectData) -> Any:
        """Return what ``clicked`` show of the picture that was clicked: its parameters."""
        return stored[event.index] if event.index < len(stored) else ""

    def _read(self, values: Sequence[Any]) -> Wanted:
        """Read what a run asks for, all of it checked before it takes a place in the line."""
        uploads, controls = values[: -len(self.fields)], values[-len(self.fields) :]
        settings = self._settings(controls)
        limits, choice = self.worker.limits, self.worker.pipeline.choice
        if not self.page.takes_picture:
            self._check_own_size(settings)
            return Wanted(settings)
        editor, *masks = uploads
        used = ("background", "layers") if masks else ("composite",)  # decoding takes seconds
        editor = opened(editor and {part: editor[part] for part in used})
        masks = [opened(mask) for mask in masks]
        image = plain_picture(editor) if masks else painted_picture(editor)
        own = image.size[::-1]
        height, width = settings.target_size(own, choice.size, choice.multiple) or own
        limits.check_size(settings, width, height)
        return Wanted(settings, image, mask_of(editor, masks[0]) if masks else None)

    def _settings(self, controls: Sequence[Any], **more: Any) -> GenerationSettings:
        """Return the settings that the controls hold, within the page's limits."""
        settings = settings_from(self.page.schema, self.fields, controls, **self.rest, **more)
        self.worker.limits.check(settings)
        return settings

    def _check_own_size(self, settings: GenerationSettings) -> None:
        """Check the size of pictures that start from noise."""
        choice = self.worker.pipeline.choice
        own = settings.H or choice.size, settings.W or choice.size
        height, width = settings.final_size(own, choice.multiple)
        self.worker.limits.check_size(settings, width, height)

    def _said(self, text: str) -> str:
        """Put a message into the page's words."""
        return with_labels(_UPLOADED.sub("that was uploaded", text), self.labels)

    def _show(self, state: RunState, *, pictures: bool) -> tuple[Any, ...]:
        """Return what ``outputs`` show; without ``pictures``, those that tell of them stay."""
        gallery = [(str(saved.path), saved.caption) for saved in state.pictures]
        stored = [saved.parameters for saved in state.pictures]
        return (
            _bar(state.fraction, state.status),
            gallery if pictures else UNCHANGED,
            str(state.seed),
            (stored[-1] if stored else "") if pictures else UNCHANGED,
            self._notices(state),
            stored if pictures else UNCHANGED,
        )

    def _notices(self, state: RunState) -> str:
        items = [
            f'<li class="{"warning" if notice.warning else "note"}">'
            f"{html.escape(self._said(notice.text))}</li>"
            for notice in state.notices
        ]
        return f"<ul>{''.join(items)}</ul>" if items else ""

    def _failed(self, text: str) -> tuple[Any, ...]:
        others = len(self.outputs) - 1
        return (f'<div class="warning">Not drawn: {text}</div>', *[UNCHANGED] * others)


def _bar(fraction: float, text: str) -> str:
    done = f'<div class="bar" role="progressbar"><div style="width: {fraction:.1%}"></div></div>'
    return f"{done}<div>{html.escape(text)}</div>"
