"""Answers a page's buttons: values in, what its components show out."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from ldm.errors import UserError
from optimizedSD.web.fields import Field, in_words, settings_from
from optimizedSD.web.kinds import Page
from optimizedSD.web.pictures import mask_of, painted_picture, plain_picture
from optimizedSD.web.state import View
from optimizedSD.web.worker import Request, Worker

# In the order of what `Handlers.draw` yields.
SHOWN = ("status", "gallery", "seed", "parameters", "notices", "stored")
UNCHANGED = gr.skip()


class Handlers:
    """Stands between a page's components and the worker.

    Args:
        page: The page.
        worker: What draws.
        fields: The page's controls, in the order that their values come in.
        rest: Settings that have no control.
    """

    def __init__(
        self, page: Page, worker: Worker, fields: Sequence[Field], rest: Mapping[str, Any]
    ) -> None:
        self.page, self.worker, self.fields, self.rest = page, worker, fields, rest
        self.labels = {field.option.flag: field.label for field in fields}

    def announce(self, request: gr.Request) -> tuple[Any, Any]:
        """Make ready for a run: the button to draw becomes one to cancel."""
        self.worker.announce(request.session_hash)
        return gr.Button(visible=False), gr.Button("Cancel", visible=True, interactive=True)

    def stop(self, request: gr.Request) -> Any:
        """Stop the visitor's run."""
        self.worker.stop(request.session_hash)
        return gr.Button("Stopping after this step …", interactive=False)

    def ready(self) -> tuple[Any, Any]:
        """Offer to draw again."""
        return gr.Button(visible=True), gr.Button(visible=False)

    def draw(self, request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Draw, yielding what the components in ``SHOWN`` show.

        Args:
            request: Tells visitors apart.
            *values: The page's pictures, then its controls.

        Raises:
            gr.Error: something cannot be drawn, in one line in the page's words.
        """
        shown: int | None = None
        try:
            for view in self.worker.draw(request.session_hash, lambda: self._request(values)):
                # Pictures that are sent again are loaded again; who asks without a browser has
                # only the last view, which therefore tells everything.
                yield self._show(view, pictures=view.over or len(view.pictures) != shown)
                shown = len(view.pictures)
        except UserError as error:
            text = html.escape(in_words(str(error), self.labels))
            yield _failed(text)
            raise gr.Error(text, duration=None, print_exception=False) from error
        except Exception:
            yield _failed("a fault of the program; where it was started there is more on it")
            raise

    def choose(self, stored: Sequence[str], event: gr.SelectData) -> str:
        """Return the parameters of the picture that was clicked on."""
        return stored[event.index]

    def _request(self, values: Sequence[Any]) -> Request:
        pictures, controls = values[: -len(self.fields)], values[-len(self.fields) :]
        settings = settings_from(self.page.schema, self.fields, controls, **self.rest)
        if self.page.takes_mask:
            editor, uploaded = pictures
            image = plain_picture(editor)
            return Request(settings, image, mask_of(editor, uploaded))
        return Request(settings, painted_picture(pictures[0]) if pictures else None)

    def _show(self, view: View, *, pictures: bool) -> tuple[Any, ...]:
        stored = [saved.parameters for saved in view.pictures]
        return (
            _bar(view.share, view.status),
            [(str(saved.path), saved.caption) for saved in view.pictures]
            if pictures
            else UNCHANGED,
            str(view.seed),
            (stored[-1] if stored else "") if pictures else UNCHANGED,
            self._notices(view),
            stored if pictures else UNCHANGED,
        )

    def _notices(self, view: View) -> str:
        items = [
            f'<li class="{"warning" if notice.warning else "note"}">'
            f"{html.escape(in_words(notice.text, self.labels))}</li>"
            for notice in view.notices
        ]
        return f"<ul>{''.join(items)}</ul>" if items else ""


def _bar(share: float, text: str) -> str:
    done = f'<div class="bar" role="progressbar"><div style="width: {share:.1%}"></div></div>'
    return f"{done}<div>{html.escape(text)}</div>"


def _failed(text: str) -> tuple[Any, ...]:
    return (f'<div class="warning">Not drawn: {text}</div>', *[UNCHANGED] * 5)
