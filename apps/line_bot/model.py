"""Which model the bot draws with, and with which settings. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from apps.line_bot.settings import BotSettings
from ldm.pipelines.models import ModelChoice, choose_model
from ldm.pipelines.translating import translator_of
from ldm.settings.low_memory import LowMemoryImg2ImgSettings, LowMemoryTxt2ImgSettings
from ldm.settings.option import options_of


@dataclass(frozen=True, kw_only=True)
class ChatSettings(LowMemoryTxt2ImgSettings):
    """Settings of a picture drawn from a message: what a user writes names no file."""

    takes_tags: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class ChatPictureSettings(LowMemoryImg2ImgSettings):
    """Settings of a picture drawn from a message and a picture."""

    takes_tags: ClassVar[bool] = False


def shared_settings(settings: BotSettings) -> dict[str, Any]:
    """Return the settings that the operator fixes for all pictures.

    What is left to the model, or to the programs' defaults, is not among them.
    """
    known = ChatSettings.__dataclass_fields__
    own = {each.name: getattr(settings, each.name) for each in options_of(settings)}
    shared = {name: own[name] for name in own if name in known and name != "device"}
    left = {
        name for name in ("scale", "ddim_steps", "sampler", "clip_skip") if shared[name] is None
    }
    return {name: value for name, value in shared.items() if name not in left}


def model_for(settings: BotSettings) -> ModelChoice:
    """Find the model; its weights are not loaded yet.

    Raises:
        UserError: there is none, a setting does not suit it, or what prompts are to be translated
            with cannot be used.
    """
    fixed = ChatSettings(**shared_settings(settings))
    fixed.validate()
    translator_of(fixed)
    return choose_model(fixed)
