"""What a tab shows of its jobs: Draw and Cancel, progress, pictures, their recipes, where to next.

    Draw -> begin (Cancel replaces Draw) -> run, one state at a time -> end (Draw is back)

Pictures stay when the next job begins: its own come before them. What is kept in the browser is
paths below the studio's folder, which are looked at anew each time.
"""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from apps.studio.controls import KINDS
from apps.studio.events import IN_BROWSER, QUIET, kept_json
from apps.studio.filling import own_fields, taken_over
from apps.studio.form import Form
from apps.studio.state import Studio, Tab
from apps.studio.telling import warned
from apps.studio.words import say, shown
from ldm.errors import UserError, in_words
from ldm.images.embed import parameters_in
from ldm.images.io import open_image
from ldm.images.metadata import parse_parameters
from optimizedSD.web.handlers import language_of_visit
from optimizedSD.web.layout import keeping
from optimizedSD.web.speaking import Speaker, bar
from optimizedSD.web.state import RunState
from optimizedSD.web.uploads import shown_picture

if TYPE_CHECKING:
    from optimizedSD.web.worker import Job

logger = logging.getLogger(__name__)
TARGETS = ("text", "image", "repaint", "edit", "enlarge", "sweep", "learn")
"""Tabs that a picture can be sent to, or its recipe where they take no picture."""
MOST_KEPT = 24  # pictures of a tab
KEPT_LENGTH = 20_000  # characters of what a browser keeps of a tab
# On a phone, what a tab shows is below its controls.
_TO_STATUS = "() => { if (innerWidth < 768) document.getElementById('%s').scrollIntoView(); }"
Read = Callable[[Sequence[Any], str], "Job"]
"""From the values of a tab's inputs, and the visitor's language; raises UserError."""


class Panel:
    """The results of a tab, laid out where it is made.

    Args:
        studio: The studio.
        name: The tab's.
        targets: Where a picture can be sent: tabs, and what of a tab's controls looks at it.
        speaker: Says the library's messages in the tab's words.
        verb: The key of what the button says.

    Attributes:
        chosen: A ``gr.State`` with the path of the picture that is shown large; empty: none.
        gallery: Its pictures.
        draw: The button that begins.
        more: Further components, each with what it shows of a state with a new picture; set before
            ``connect``.
    """

    def __init__(
        self,
        studio: Studio,
        name: str,
        *,
        targets: Sequence[str] = (*TARGETS, *KINDS),
        speaker: Speaker | None = None,
        verb: str = "draw",
    ) -> None:
        self.studio, self.name = studio, name
        self.more: Sequence[tuple[Any, Callable[[RunState], Any]]] = ()
        self.speaker = speaker or Speaker(())
        studio.panels.append(self)
        self.kept = gr.BrowserState("", storage_key=f"studio-{name}", secret=studio.flags.program)
        self.chosen = gr.State("")
        with gr.Row(elem_classes="actions"):
            self.draw = gr.Button(
                shown(verb), variant="primary", elem_id=self.id("draw"), elem_classes="draw"
            )
            self.cancel = gr.Button(
                shown("cancel"),
                variant="stop",
                visible=False,
                elem_id=self.id("cancel"),
                elem_classes="cancel",
            )
        self.status = gr.HTML(elem_id=self.id("status"), elem_classes="status")
        self.gallery = gr.Gallery(
            label=shown("pictures"),
            columns=2,
            height="auto",
            object_fit="contain",
            interactive=False,
            buttons=["download", "fullscreen"],  # not "share": it uploads to another machine
            elem_id=self.id("gallery"),
            elem_classes="drawn",
        )
        self.sends = self._senders(targets)
        self.used = gr.Textbox(
            label=shown("used"), interactive=False, buttons=["copy"], elem_id=self.id("used")
        )
        self.recipe = gr.Textbox(
            label=shown("recipe"),
            interactive=False,
            lines=4,
            buttons=["copy"],
            elem_id=self.id("recipe"),
        )
        for below in studio.under:
            below(studio, self)
        self.notices = gr.HTML(elem_id=self.id("notices"), elem_classes="notices")

    def id(self, part: str) -> str:
        """Return the name of a part of this panel among the elements of the page."""
        return f"{self.name}-{part}"

    @property
    def outputs(self) -> list[Any]:
        """The components that ``run`` yields values for."""
        return [
            *(self.status, self.gallery, self.used, self.recipe, self.notices),
            *(self.kept, self.chosen),
            *(component for component, _ in self.more),
        ]

    def connect(self, inputs: Sequence[Any], read: Read, form: Form | None = None) -> None:
        """Let the button begin a job.

        Args:
            inputs: The components that ``read`` is given the values of.
            read: Makes a job of them.
            form: Whose button takes a seed again.
        """
        buttons = [self.draw, self.cancel, self.status]

        def run(visit: gr.Request, kept: Any, *values: Any) -> Iterator[tuple[Any, ...]]:
            yield from self._run(visit, kept, values, read)

        pressed = self.draw.click(self._begin, None, buttons, **QUIET)
        self.draw.click(None, None, None, js=_TO_STATUS % self.id("status"), **IN_BROWSER)
        given = [each for each in inputs if each in self.studio.given.values()]
        if given:  # also what another tab has sent, of which an editor tells nobody
            self.draw.click(None, given, None, js=keeping(given), **IN_BROWSER)
        # gradio opens no upload and keeps no job waiting: the project's reader and line do that.
        job = pressed.success(
            run,
            [self.kept, *inputs],
            self.outputs,
            show_progress="hidden",
            preprocess=False,
            concurrency_limit=None,
            api_name=self.name,
        )
        for ended in (job.success, job.failure):  # `then` follows a success only
            ended(self._end, None, buttons[:2], **QUIET)
        self.cancel.click(self._stop, None, self.cancel, **QUIET)
        shows = [self.chosen, self.used, self.recipe]
        self.gallery.select(self._show, self.kept, shows, **QUIET)
        if form is not None:
            seed = form.by_name["seed"]
            form.reuse.click(
                None, [self.used, seed], seed, js="(used, own) => used || own", **IN_BROWSER
            )

    def wire(self, studio: Studio, tabs: Mapping[str, Tab]) -> None:
        """Let the pictures be sent to other tabs; those that are not there have no button."""
        for name, button in self.sends.items():
            if name in KINDS:
                self._wire_control(name, button, studio, tabs)
                continue
            tab = tabs.get(name)
            received = {} if tab is None else tab.receives
            if "picture" in received:
                place, recipe = received["picture"], received.get("recipe") or {}
                words = [recipe[each] for each in ("prompt", "negative_prompt") if each in recipe]
                sent = button.click(self._send, [self.chosen, *words], [place, *words], **QUIET)
                sent.success(lambda name=name: gr.Tabs(selected=name), None, studio.bar, **QUIET)
            elif "recipe" in received:
                self._wire_recipe(tab, button, studio)
            else:
                button.visible = False

    def _wire_recipe(self, tab: Tab, button: Any, studio: Studio) -> None:
        """Let a picture's recipe be sent to a tab that takes no picture."""
        fields = own_fields(tab.receives["recipe"])

        def send(visit: gr.Request, chosen: Any) -> list[Any]:
            language = language_of_visit(visit)
            found = shown_picture(str(chosen or ""), [self.studio.outdir])
            unchanged = [gr.skip()] * len(fields)
            if found is None:
                return [*unchanged, gr.skip(), gr.skip()]
            try:
                updates, text = taken_over(found[0], fields, tab.name, language)
            except UserError as error:
                return [*unchanged, warned(self.speaker.said(str(error), language)), gr.skip()]
            return [*updates, text, gr.Tabs(selected=tab.name)]

        shows = [*fields.values(), self.notices, studio.bar]
        button.click(send, self.chosen, shows, **QUIET)

    def _wire_control(self, key: str, button: Any, studio: Studio, tabs: Mapping[str, Tab]) -> None:
        """Let a picture be sent to what looks at pictures: on its own tab, else on the first."""
        own = tabs[self.name] if "controls" in tabs[self.name].receives else None
        tab = own or next((each for each in tabs.values() if "controls" in each.receives), None)
        if tab is None:
            button.visible = False
            return
        controls, name = tab.receives["controls"], tab.name
        opened = [studio.bar, controls.place]

        def send(chosen: Any) -> Any:
            return self._send(chosen)[0]

        sent = button.click(send, self.chosen, controls.pictures[key], **QUIET)
        sent.success(
            lambda: (gr.Tabs(selected=name), gr.Accordion(open=True)), None, opened, **QUIET
        )

    def showing(self, paths: Sequence[Path]) -> tuple[Any, ...]:
        """Return what ``outputs`` show of pictures in the studio's folder, the first one large."""
        return self.restored(self._text(paths))

    def restored(self, kept: Any) -> tuple[Any, ...]:
        """Return what ``outputs`` show of the pictures that a browser kept."""
        paths = self._paths(kept)
        if not paths:
            return tuple(gr.skip() for _ in self.outputs)
        own = ("", _tiles(paths), *_told(paths[0]), "", self._text(paths), str(paths[0]))
        return (*own, *[gr.skip()] * len(self.more))

    def _senders(self, targets: Sequence[str]) -> dict[str, Any]:
        if not targets:
            return {}
        with gr.Row(elem_classes="senders"):
            gr.Markdown(shown("send_to"))
            return {
                each: gr.Button(
                    shown(each),
                    size="sm",
                    min_width=60,
                    elem_id=self.id(f"to-{each.replace('_', '-')}"),
                )
                for each in targets
            }

    def _begin(self, visit: gr.Request) -> tuple[Any, Any, str]:
        """Register the coming job, and put Cancel in the place of Draw; pictures stay."""
        self.studio.queue.register(visit.session_hash)
        text = say(language_of_visit(visit), "cancel")
        return gr.Button(visible=False), gr.Button(text, visible=True, interactive=True), ""

    def _stop(self, visit: gr.Request) -> Any:
        """Stop the visitor's job."""
        self.studio.queue.stop(visit.session_hash)
        return gr.Button(say(language_of_visit(visit), "stopping"), interactive=False)

    def _end(self) -> tuple[Any, Any]:
        """Put Draw in the place of Cancel."""
        return gr.Button(visible=True), gr.Button(visible=False)

    def _run(
        self, visit: gr.Request, kept: Any, values: Sequence[Any], read: Read
    ) -> Iterator[tuple[Any, ...]]:
        """Do a job, yielding what ``outputs`` show."""
        language = language_of_visit(visit)
        before, shown_count = self._paths(kept), 0
        address = address_of(visit)
        try:
            job = self.studio.queue.draw(
                visit.session_hash, lambda: read(values, language), address
            )
            for state in job:
                # A browser loads pictures again each time they are sent; a client without one only
                # gets the last state, so that one is complete.
                new = state.over or len(state.pictures) != shown_count
                yield self._state(state, before, visit.session_hash, pictures=new)
                shown_count = len(state.pictures)
        except UserError as error:
            yield self._failed(language, self.speaker.said(str(error), language))
        except Exception as error:
            logger.exception("a job failed: %s", in_words(error))
            yield self._failed(language, say(language, "failed"))

    def _state(
        self, state: RunState, before: list[Path], visitor: str, *, pictures: bool
    ) -> tuple[Any, ...]:
        """Return what ``outputs`` show; without ``pictures``, those that tell of them stay."""
        status = bar(state)
        notices = self.speaker.notices(state, visitor)
        if not (pictures and state.pictures):
            others = len(self.outputs) - 5
            return (status, *[gr.skip()] * 3, notices, *[gr.skip()] * others)
        own = [saved.path for saved in reversed(state.pictures)]
        paths = [*own, *(path for path in before if path not in own)][:MOST_KEPT]
        newest = state.pictures[-1]
        told = (str(newest.seed), newest.parameters)
        more = [show(state) for _, show in self.more]
        return status, _tiles(paths), *told, notices, self._text(paths), str(paths[0]), *more

    def _failed(self, language: str, text: str) -> tuple[Any, ...]:
        said = f"{say(language, 'not_drawn')} {html.escape(text)}"
        others = len(self.outputs) - 1
        return (f'<div class="warning" role="alert">{said}</div>', *[gr.skip()] * others)

    def _show(self, kept: Any, event: gr.SelectData) -> tuple[str, str, str]:
        """Return path, seed and recipe of the picture that was clicked."""
        paths = self._paths(kept)
        if not 0 <= event.index < len(paths):
            return "", "", ""
        path = paths[event.index]
        return str(path), *_told(path)

    def _send(self, chosen: Any, *words: Any) -> tuple[Any, ...]:
        """Return a picture, and the prompts of its recipe, for another tab."""
        found = shown_picture(str(chosen or ""), [self.studio.outdir])
        if found is None:
            return (gr.skip(), *[gr.skip()] * len(words))
        prompts = _prompts(found[0])
        kept = prompts[: len(words)] if prompts else [gr.skip()] * len(words)
        return (str(found[0]), *kept)

    def _paths(self, kept: Any) -> list[Path]:
        """Return the pictures that a browser names, as far as they are this studio's."""
        names, folder = kept_json(kept, KEPT_LENGTH, list), self.studio.outdir
        texts = [name for name in names[:MOST_KEPT] if isinstance(name, str)]
        found = (shown_picture(str(folder / name), [folder]) for name in texts)
        return [each[0] for each in found if each]

    def _text(self, paths: Sequence[Path]) -> str:
        folder = self.studio.outdir.resolve()
        inside = [path.resolve() for path in paths]
        names = [str(path.relative_to(folder)) for path in inside if path.is_relative_to(folder)]
        return json.dumps(names, ensure_ascii=False)


def address_of(visit: gr.Request) -> str:
    """Return the address whose share of the line a visitor takes; empty is their own.

    People of this machine, or behind a proxy on it, have one address and are many.
    """
    host = getattr(visit.client, "host", "") or ""
    try:
        return "" if ip_address(host).is_loopback else host
    except ValueError:
        return host


def _tiles(paths: Sequence[Path]) -> list[tuple[str, str]]:
    return [(str(path), path.stem) for path in paths]


def _told(path: Path) -> tuple[str, str]:
    """Return a picture's seed and recipe, as its file says them."""
    try:
        text = parameters_in(open_image(path)) or ""
    except UserError:  # it was deleted a moment ago
        return "", ""
    return parse_parameters(text)[2].get("Seed", ""), text


def _prompts(path: Path) -> tuple[str, str] | None:
    """Return the prompts of a picture's recipe; None if it has none."""
    text = _told(path)[1]
    return parse_parameters(text)[:2] if text else None
