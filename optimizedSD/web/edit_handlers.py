"""Answers the buttons of the page that edits: chips of words, pairs of pictures, maps of words."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from ldm.errors import UserError
from ldm.modules.attention_control.words import TokenizedPrompt, read_prompt
from ldm.pipelines.edits import make_edit, tokenizer_of
from ldm.settings.swap import SwapSettings
from optimizedSD.web.drawing import Drawing
from optimizedSD.web.edit_fields import chips, edit_labels, edit_settings, weight_of, with_weight
from optimizedSD.web.handlers import (
    OUTPUTS,
    UNCHANGED,
    Handlers,
    language_of_visit,
    parameters_in,
)
from optimizedSD.web.setting_words import LANGUAGES
from optimizedSD.web.state import RunState, SavedPicture
from optimizedSD.web.word_maps import WordMaps, heat_maps
from optimizedSD.web.words import said

SECONDS = 6.0  # that gradio's box with a mistake in the weights stays
_ROLES = ("source", "edit")


class EditHandlers(Handlers):
    """Answers the buttons of the page that edits by prompts.

    The weights of words are what is written in their control; the chips show it and change it.

    Args:
        *args: As ``Handlers``.

    Raises:
        UserError: The model's text encoder does not say which token is which word.
    """

    outputs = (*OUTPUTS, "maps")
    clicked = ("parameters", "maps")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for language in LANGUAGES:
            self.labels[language] |= edit_labels(language)
        self.tokenizer = tokenizer_of(self.worker.pipeline.model)

    def chips_of(self, prompt: str, weights: str) -> list[tuple[str, str]]:
        """Return the chips of a prompt's words, with their weights."""
        if max(len(prompt), len(weights)) > self.worker.limits.prompt:
            return []
        return chips((word.text for word in self._prompt(prompt).words()), weights)

    def show_words(self, prompt: Any, weights: Any, picked: Any) -> tuple[Any, Any]:
        """Return the chips of a prompt that is typed, and whether the slider has a word."""
        choices = self.chips_of(str(prompt or ""), str(weights or ""))
        stays = picked in [word for _, word in choices]
        return gr.Radio(choices=choices, value=picked if stays else None), gr.Slider(visible=stays)

    def pick(self, word: Any, weights: Any, visit: gr.Request = None) -> Any:
        """Return the slider for the word whose chip was clicked."""
        word = str(word or "")
        weight = weight_of(word, str(weights or ""))
        label = said("weight", language_of_visit(visit), word=word)
        return gr.Slider(label=label, value=weight, visible=bool(word))

    def weigh(self, word: Any, weight: Any, weights: Any) -> Any:
        """Return the weights after the slider was moved.

        Raises:
            gr.Error: What was written there before is no weights.
        """
        if not word or isinstance(weight, bool) or not isinstance(weight, (int, float)):
            return UNCHANGED
        try:
            return with_weight(str(word), weight, str(weights or ""))
        except UserError as error:
            text = html.escape(self._said(str(error), "en"))
            raise gr.Error(text, duration=SECONDS, print_exception=False) from error

    def show_picture(
        self, stored: Sequence[SavedPicture], event: gr.SelectData, visit: gr.Request = None
    ) -> tuple[Any, Any]:
        """Return the parameters of the picture that was clicked, and where its words look."""
        if event.index >= len(stored):
            return parameters_in(event.value), UNCHANGED
        clicked = stored[event.index]
        return clicked.parameters, _maps(clicked, language_of_visit(visit))

    def watcher_of(self, settings: SwapSettings) -> WordMaps:
        """Return what watches where the words of an edit look.

        Raises:
            UserError: A prompt is empty, or a word that the settings name is not in its prompt.
        """
        for name in ("sprompt", "prompt"):
            if not getattr(settings, name).strip():
                raise UserError(f"--{name} is empty; expected a description; fill it in")
        make_edit(settings, self.tokenizer, settings.n_samples)  # raises for unknown words
        prompts = [self._prompt(text) for text in settings.drawn_prompts]
        return WordMaps(prompts, settings.n_samples)

    def _prompt(self, text: str) -> TokenizedPrompt:
        return read_prompt(self.tokenizer, text)

    def _read(self, values: Sequence[Any]) -> Drawing:
        """Read what a run asks for, all of it checked before it takes a place in the line."""
        edit, controls = values[: -len(self.fields)], values[-len(self.fields) :]
        settings = self._settings(controls, **edit_settings(edit))
        self._check_own_size(settings)
        return Drawing(settings, watcher=self.watcher_of(settings))

    def _show(self, state: RunState, visitor: str, *, pictures: bool) -> tuple[Any, ...]:
        """Return what ``outputs`` show: only whole pairs, until the run is over."""
        ordinary = dict(zip(OUTPUTS, super()._show(state, visitor, pictures=pictures), strict=True))
        if not pictures:
            return (*ordinary.values(), UNCHANGED)
        noises = [saved.place[0] for saved in state.pictures]
        shown = [
            saved
            for saved in state.pictures
            if state.over or noises.count(saved.place[0]) == len(_ROLES)
        ]
        if not shown:  # half a pair: those of the run before stay
            kept = dict.fromkeys(("gallery", "seed", "parameters", "stored"), UNCHANGED)
            return (*(ordinary | kept).values(), UNCHANGED)
        ordinary["gallery"] = [(str(each.path), _said(each, "", state.language)) for each in shown]
        ordinary["stored"] = shown
        ordinary["parameters"] = shown[-1].parameters
        return (*ordinary.values(), _maps(shown[-1], state.language))


def _said(saved: SavedPicture, key: str, language: str) -> str:
    return said(key + _ROLES[saved.place[1]], language, seed=saved.seed)


def _maps(saved: SavedPicture, language: str) -> gr.Gallery:
    """Return the gallery with where the words of a picture look."""
    tiles = list(heat_maps(saved.path, saved.looks)) if saved.looks else []
    return gr.Gallery(value=tiles, label=_said(saved, "looks_", language))
