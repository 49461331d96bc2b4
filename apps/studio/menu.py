"""The menu of models above the tabs: what lies in models/, and a button that loads it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import gradio as gr

from apps.studio.checkpoints import checkpoint_named, checkpoints_there
from apps.studio.loading import Loading, load_model
from apps.studio.state import Studio, Tab
from apps.studio.words import say, shown
from ldm.errors import UserError
from ldm.paths import real_path
from ldm.pipelines.models import ModelChoice
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.suiting import suiting
from optimizedSD.web.handlers import language_of_visit
from optimizedSD.web.limits import Limits

FOLLOWS = ("W", "H", "scale", "ddim_steps", "sampler", "spacing", "clip_skip")
"""Settings whose controls are set anew for another model."""


class Menu:
    """The menu, laid out where it is made.

    Args:
        studio: The studio.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row(elem_classes="besides"):
            names = self.names()
            self.choice = gr.Dropdown(
                names, value=self.current(), label=shown("model"), elem_id="model", scale=3
            )
            self.load = gr.Button(
                shown("load_model"), size="sm", scale=0, min_width=100, elem_id="load-model"
            )
            self.said = gr.HTML(elem_id="model-said", elem_classes="status", scale=4)

    def names(self) -> list[str]:
        """Return the names on the menu."""
        return [each.name for each in checkpoints_there(*self._besides)]

    def current(self) -> str:
        """Return the name of the model that is loaded."""
        path = real_path(self.studio.queue.pipeline.choice.ckpt_path)
        menu = checkpoints_there(*self._besides)
        return next((each.name for each in menu if real_path(each.path) == path), "")

    @property
    def _besides(self) -> list[Any]:
        return [self.studio.queue.pipeline.choice.ckpt_path, *self.studio.models]

    def connect(self, tabs: Mapping[str, Tab]) -> None:
        """Let the button load, and set the fields of the tabs to what suits the model."""
        fields = [
            (name, component)
            for tab in tabs.values()
            for name, component in (tab.receives.get("recipe") or {}).items()
            if name in FOLLOWS
        ]
        shows = [self.said, self.choice, *(component for _, component in fields)]

        def load(visit: gr.Request, name: Any) -> Iterator[list[Any]]:
            stays = [gr.skip()] * (len(shows) - 1)
            language = language_of_visit(visit)
            try:
                for text in self._loading(visit, str(name or ""), language):
                    yield [text, *stays]
            except UserError as error:
                warned = f'<div class="warning" role="alert">{html.escape(str(error))}</div>'
                yield [warned, self.current(), *stays[1:]]
                return
            said = say(language, "loaded", name=self.current())
            choice, limits = self.studio.queue.pipeline.choice, self.studio.queue.limits
            updates = [_suited(name, each, choice, limits) for name, each in fields]
            yield [_status(said), self.current(), *updates]

        self.load.click(
            load,
            self.choice,
            shows,
            show_progress="hidden",
            preprocess=False,
            concurrency_limit=None,
            api_visibility="private",
        )
        self.studio.loads.append((self._again, None, self.choice))

    def _again(self) -> Any:
        """Return the menu as it is now."""
        return gr.Dropdown(choices=self.names(), value=self.current())

    def _loading(self, visit: gr.Request, name: str, language: str) -> Iterator[str]:
        queue, flags = self.studio.queue, self.studio.flags

        def read() -> Loading:
            entry = checkpoint_named(name, *self._besides)
            return Loading(entry, partial(load_model, flags), self._changed, language)

        address = getattr(visit.client, "host", "")
        for state in queue.draw(visit.session_hash, read, address):
            notices = "".join(f"<div>{html.escape(each.text)}</div>" for each in state.notices)
            if not state.over:
                yield _status(state.status) + notices

    def _changed(self, queue: Any) -> None:
        size = queue.pipeline.choice.size
        queue.limits = Limits.of(self.studio.flags, size, queue.limits.where)


def _suited(name: str, component: Any, choice: ModelChoice, limits: Limits) -> Any:
    """Return the update of a field for a model: its own value, and sides in its own multiples."""
    usual = Txt2ImgSettings()
    own = suiting(usual, choice.sampling, ())
    if name in ("W", "H"):
        value = own.get(name) or choice.size
        if not isinstance(component, gr.Slider):
            return value
        multiple = choice.multiple
        return gr.Slider(
            minimum=multiple, maximum=max(limits.side, value), step=multiple, value=value
        )
    return own.get(name, getattr(usual, name))


def _status(text: str) -> str:
    return f'<div role="status">{html.escape(text)}</div>'
