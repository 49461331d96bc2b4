"""From settings to the controllers that edit a picture: what ``--is-swap`` and its like mean."""

from __future__ import annotations

from typing import Any

from ldm.errors import UserError
from ldm.modules.attention_control.auto import Auto
from ldm.modules.attention_control.chain import Chain
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.edit import PromptEdit
from ldm.modules.attention_control.local_blend import LocalBlend
from ldm.modules.attention_control.refine import Refine
from ldm.modules.attention_control.replace import Replace
from ldm.modules.attention_control.reweight import Reweight
from ldm.modules.attention_control.words import read_prompt
from ldm.settings.edit_words import read_blend, read_weights, read_window, read_windows
from ldm.settings.swap import SwapSettings

_EDITS: dict[str, type[PromptEdit]] = {"auto": Auto, "replace": Replace, "refine": Refine}


def tokenizer_of(model: Any) -> Any:
    """Return the tokenizer of a model's text encoder.

    Raises:
        UserError: It has none.
    """
    tokenizer = getattr(model.cond_stage_model, "tokenizer", None)
    if tokenizer is None:
        raise UserError(
            f"the text encoder {type(model.cond_stage_model).__name__} has no tokenizer; expected "
            "one that says which token is which word; use another model"
        )
    return tokenizer


def make_edit(settings: SwapSettings, tokenizer: Any, pictures: int) -> Controller | None:
    """Return what edits a batch of pictures; None if nothing is edited.

    Args:
        settings: Checked.
        tokenizer: The text encoder's.
        pictures: How many pictures of each prompt the batch holds.

    Raises:
        UserError: A word that the settings name is not in its prompt, or words cannot be swapped
            one for one.
    """
    if not settings.edits:
        return None
    source, *targets = (read_prompt(tokenizer, text) for text in settings.drawn_prompts)
    common = {
        "cross_steps": read_windows(settings.cross_replace_steps),
        "self_steps": read_window(settings.self_replace_steps, "--self_replace_steps"),
        "pictures": pictures,
    }
    edit = _EDITS[settings.mode](source, targets, **common)
    if weights := read_weights(settings.reweight):
        edit = Reweight(source, targets, weights, prior=edit, **common)
    if words := read_blend(settings.blend, len(targets)):
        return Chain(edit, LocalBlend([source, *targets], words, pictures=pictures))
    return edit
