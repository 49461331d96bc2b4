"""The tab that shows all pictures: search, recipe, draw again, bin; and where pictures drop."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from apps.studio.album import Album, Redrawing, request_again
from apps.studio.events import QUIET
from apps.studio.filling import Filler, drop_area, picture_html, wire_drop
from apps.studio.panel import Panel
from apps.studio.state import Studio, Tab
from apps.studio.words import count, say, shown
from ldm.errors import UserError
from optimizedSD.web.handlers import language_of_visit

NAME = "gallery"


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    return GalleryTab(studio).tab


class GalleryTab:
    """The tab's components and what answers them.

    Args:
        studio: The studio.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio, self.album = studio, Album(studio.outdir)
        self.paths, self.number = gr.State([]), gr.State(0)
        gr.Markdown(shown("gallery_hint"))
        with gr.Row():
            with gr.Column():
                self._search()
                self._bin()
                with gr.Accordion(shown("drop"), open=False):
                    self.drop = drop_area(NAME)
            with gr.Column():
                with gr.Row():
                    self.use = gr.Button(shown("use_recipe"), size="sm", elem_id="gallery-use")
                    self.throw = gr.Button(shown("throw"), size="sm", elem_id="gallery-throw")
                self.panel = Panel(studio, NAME, verb="again")
        self._connect()
        self.tab = Tab(NAME, {}, self._wire, (self._page(0), [self.words, self.number], self.grid))

    @property
    def grid(self) -> list[Any]:
        """The components that show a page."""
        return [self.shown, self.found, self.paths, self.number]

    def _search(self) -> None:
        with gr.Row(elem_classes="besides"):
            self.words = gr.Textbox(
                label=shown("search"), info=shown("search_info"), elem_id="gallery-search", scale=4
            )
            self.find = gr.Button(
                shown("find"), size="sm", scale=0, min_width=100, elem_id="gallery-find"
            )
        self.found = gr.HTML(elem_id="gallery-found", elem_classes="status")
        self.shown = gr.Gallery(
            label=shown("album"),
            columns=4,
            object_fit="contain",
            interactive=False,
            allow_preview=False,
            buttons=[],
            elem_id="gallery-grid",
        )
        with gr.Row():
            self.newer = gr.Button(shown("newer"), size="sm", elem_id="gallery-newer")
            self.older = gr.Button(shown("older"), size="sm", elem_id="gallery-older")

    def _bin(self) -> None:
        with gr.Accordion(shown("bin"), open=False, elem_id="gallery-bin") as self.bin:
            self.bin_said = gr.HTML(elem_id="gallery-bin-said", elem_classes="status")
            self.thrown = gr.Dropdown(
                [], label=shown("bin_list"), filterable=False, elem_id="gallery-thrown"
            )
            self.thrown_shown = gr.HTML()
            self.restore = gr.Button(shown("restore"), elem_id="gallery-restore")
            self.sure = gr.Checkbox(False, label=shown("sure"), elem_id="gallery-sure")
            self.empty = gr.Button(shown("empty"), elem_id="gallery-empty")

    def _connect(self) -> None:
        searched = [self.words, self.number]
        for listen, move in (
            (self.find.click, None),
            (self.words.submit, None),
            (self.newer.click, -1),
            (self.older.click, 1),
        ):
            listen(self._page(move), searched, self.grid, **QUIET)
        panel = self.panel
        self.shown.select(self._pick, self.paths, panel.outputs, **QUIET)
        panel.connect([panel.chosen], self._again)
        in_bin = [self.bin_said, self.thrown, self.thrown_shown]
        thrown = self.throw.click(
            self._throw, [panel.chosen, *searched], [*panel.outputs, *self.grid], **QUIET
        )
        thrown.success(self._listed, None, in_bin, **QUIET)
        self.bin.expand(self._listed, None, in_bin, **QUIET)
        self.thrown.input(self._show_thrown, self.thrown, self.thrown_shown, **QUIET)
        back = [*in_bin, *self.grid]
        self.restore.click(self._restore, [self.thrown, *searched], back, **QUIET)
        self.empty.click(self._empty, self.sure, [*in_bin, self.sure], **QUIET)

    def _wire(self, studio: Studio, tabs: Mapping[str, Tab]) -> None:
        self.panel.wire(studio, tabs)
        filler = Filler(studio, tabs)
        wire_drop(*self.drop, filler)
        outputs = [*filler.outputs, self.panel.notices]

        def use(visit: gr.Request, chosen: Any) -> list[Any]:
            language = language_of_visit(visit)
            try:
                path = self.album.gallery.inside(_named(chosen, language))
                updates, text = filler.filled(path, language)
            except UserError as error:
                return [*filler.unchanged(), self._warning(error)]
            return [*updates, text]

        self.use.click(use, self.panel.chosen, outputs, **QUIET)

    def _page(self, move: int | None) -> Callable[..., tuple[Any, ...]]:
        def turn(visit: gr.Request, words: Any, number: Any) -> tuple[Any, ...]:
            now = number if isinstance(number, int) else 0
            return self._grid(words, 0 if move is None else now + move, language_of_visit(visit))

        return turn

    def _grid(self, words: Any, number: int, language: str) -> tuple[Any, ...]:
        try:
            page = self.album.page(str(words or ""), number)
        except UserError as error:
            return gr.skip(), self._warning(error), gr.skip(), gr.skip()
        said = say(
            language,
            "found",
            n=count(language, page.count),
            page=page.number + 1,
            pages=page.pages,
        )
        paths = [str(each.path) for each in page.shown]
        tiles = [(path, Path(path).stem) for path in paths]
        return tiles, f'<div role="status">{html.escape(said)}</div>', paths, page.number

    def _pick(self, paths: Any, event: gr.SelectData) -> tuple[Any, ...]:
        """Show the picture that was clicked, as if the panel had drawn it."""
        if not isinstance(paths, list) or not 0 <= event.index < len(paths):
            return self._said("")
        try:
            path = self.album.gallery.inside(paths[event.index])
            lines = self.album.lines(path)
        except UserError as error:  # it is gone by now
            return self._said(self._warning(error))
        status, gallery, used, _, *rest = self.panel.showing([path])
        recipe = "\n".join(f"{key}: {value}" for key, value in lines)
        return status, gallery, used or dict(lines).get("Seed", ""), recipe, *rest

    def _said(self, text: str) -> tuple[Any, ...]:
        """Return what the panel shows where only its status changes."""
        return text, *(gr.skip() for _ in self.panel.outputs[1:])

    def _again(self, values: Sequence[Any], language: str) -> Redrawing:
        path, queue = _named(values[0], language), self.studio.queue
        request = request_again(
            self.album, path, queue.pipeline.choice, queue.limits, self.studio.fixed
        )
        return Redrawing(request, self.studio.outdir, language)

    def _throw(self, visit: gr.Request, chosen: Any, words: Any, number: Any) -> tuple[Any, ...]:
        language = language_of_visit(visit)
        try:
            thrown = self.album.throw(_named(chosen, language))
        except UserError as error:
            return (*self._said(self._warning(error)), *[gr.skip()] * len(self.grid))
        said = html.escape(say(language, "thrown", name=thrown.origin.name))
        page = self._grid(words, number if isinstance(number, int) else 0, language)
        cleared = (f'<div role="status">{said}</div>', [], "", "", "", "", "")
        return *cleared, *page

    def _listed(self, visit: gr.Request) -> tuple[Any, ...]:
        return self._bin_shows("", language_of_visit(visit))

    def _bin_shows(self, said: str, language: str) -> tuple[Any, ...]:
        listed = self.album.thrown()
        text = said or say(language, "bin_count", n=count(language, len(listed)))
        menu = gr.Dropdown(choices=listed, value=listed[0][1] if listed else None)
        shown_first = self._picture(listed[0][1]) if listed else ""
        return f'<div role="status">{html.escape(text)}</div>', menu, shown_first

    def _show_thrown(self, name: Any) -> str:
        return self._picture(str(name or ""))

    def _picture(self, name: str) -> str:
        try:
            path = self.album.thrown_picture(name)
        except UserError:
            return ""
        return picture_html(path, html.escape(path.name), path.name)

    def _restore(self, visit: gr.Request, name: Any, words: Any, number: Any) -> tuple[Any, ...]:
        language = language_of_visit(visit)
        try:
            path = self.album.bin.restore(str(name or ""))
        except UserError as error:
            warned = (self._warning(error), gr.skip(), gr.skip())
            return (*warned, *[gr.skip()] * len(self.grid))
        said = say(language, "restored", name=path.name)
        page = self._grid(words, number if isinstance(number, int) else 0, language)
        return (*self._bin_shows(said, language), *page)

    def _empty(self, visit: gr.Request, sure: Any) -> tuple[Any, ...]:
        language = language_of_visit(visit)
        if sure is not True:
            return (*self._bin_shows(say(language, "not_sure"), language), False)
        gone = count(language, self.album.bin.empty())
        return (*self._bin_shows(say(language, "emptied", n=gone), language), False)

    def _warning(self, error: UserError) -> str:
        text = str(error).replace(f"{self.studio.outdir}/", "")
        return f'<div class="warning" role="alert">{html.escape(text)}</div>'


def _named(chosen: Any, language: str) -> str:
    """Return the path of the chosen picture.

    Raises:
        UserError: None is chosen.
    """
    if not isinstance(chosen, str) or not chosen:
        raise UserError(say(language, "none_chosen"))
    return chosen
