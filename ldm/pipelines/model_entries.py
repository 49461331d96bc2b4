"""Entries of a model's configuration that programs look at, or the wrong one told. No torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ldm.budgets import CONFIG_NUMBER, MODEL_LEVELS
from ldm.checkpoint.diffusers.json_files import INDEX
from ldm.checkpoint.found_config import check_numbers, load_model_config
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.settings.suiting import read_suiting


class Entries:
    """Entries of a configuration, or a UserError that names the wrong one.

    Args:
        path: A YAML file, or the index of a diffusers folder.
        given: Whether the user gave it, or trusts what it names.

    Attributes:
        config: The whole configuration.
    """

    def __init__(self, path: Path, *, given: bool) -> None:
        self.path = path
        if path.name == INDEX:
            from ldm.checkpoint.diffusers.to_yaml import folder_config

            self.config = folder_config(path.parent)
            check_numbers(self.config, f"folder {str(path.parent)!r}")
        else:
            self.config = load_model_config(path, given=given)

    def get(self, key: str, fallback: Any = None) -> Any:
        """Return what stands at a key below ``model.params``."""
        try:
            value = OmegaConf.select(self.config, f"model.params.{key}", default=fallback)
        except OmegaConfBaseException as error:
            raise UserError(
                f"config {self.path}: model.params.{key} cannot be resolved "
                f"({str(error).splitlines()[0]}); expected a value; correct it"
            ) from error
        if value is None:
            raise UserError(
                f"config {self.path} has no model.params.{key}; expected a latent diffusion "
                "model with text conditioning; give another --config"
            )
        return value

    def number(self, key: str, fallback: int | None = None, most: int = CONFIG_NUMBER) -> int:
        """Return a whole number from 1 to ``most``."""
        value = self.get(key, fallback)
        if type(value) is not int or value < 1:
            raise self._wrong(key, value, "a whole number, 1 or more")
        if value > most:
            raise self._wrong(key, value, f"a whole number, {most} or less")
        return value

    def length(self, key: str, fallback: list[int] | None = None) -> int:
        """Return how many levels a list has."""
        value = self.get(key, fallback and ListConfig(fallback))
        if not isinstance(value, ListConfig) or not value:
            raise self._wrong(key, value, "a list")
        if len(value) > MODEL_LEVELS:
            raise self._wrong(key, value, f"{MODEL_LEVELS} levels or fewer")
        return len(value)

    def _wrong(self, key: str, value: Any, expected: str) -> UserError:
        where = f"config {self.path}: model.params.{key} is {quoted(value)}"
        return UserError(f"{where}; expected {expected}; correct it")


def languages_of(config: DictConfig, path: Path) -> tuple[str, ...]:
    """Return the languages that a model's text encoder reads, as two-letter codes.

    They stand beside ``model``, under ``languages``. Where nothing does, the class of the encoder
    says it: all but ``FrozenJapaneseCLIPEmbedder`` were made for English.

    Args:
        config: The whole configuration.
        path: The file that it was read from.

    Raises:
        UserError: They are no list of such codes.
    """
    value = OmegaConf.select(config, "languages", default=None)
    if value is None:
        encoder = OmegaConf.select(config, "model.params.cond_stage_config", default=None)
        target = str(encoder.get("target")) if isinstance(encoder, DictConfig) else ""
        return ("ja",) if target.endswith(".FrozenJapaneseCLIPEmbedder") else ("en",)
    codes = list(value) if isinstance(value, ListConfig) else []
    if not codes or not all(isinstance(c, str) and re.fullmatch("[a-z]{2}", c) for c in codes):
        raise UserError(
            f"config {path}: languages is {quoted(value)}; expected a list of two-letter codes "
            "such as [en, ja]; correct it"
        )
    return tuple(codes)


def sampling_of(config: DictConfig, path: Path) -> dict[str, Any]:
    """Return the settings that suit a model, by field name: ``sampling`` beside ``model``.

    A scale may stand beside ``model`` itself, as in older files.

    Args:
        config: The whole configuration.
        path: The file that it was read from.

    Raises:
        UserError: It names what is no setting of a model, or a value that it cannot have.
    """
    value = OmegaConf.select(config, "sampling", default=None)
    value = OmegaConf.create({}) if value is None else value
    if not isinstance(value, DictConfig):
        raise UserError(
            f"config {path}: sampling is {quoted(value)}; expected settings such as "
            "{scale: 3, steps: 20}; correct it"
        )
    older = {"scale": config.scale} if "scale" in config else {}
    entries = older | OmegaConf.to_container(value, resolve=True)
    return read_suiting(entries, f"config {path}")


def known_words_of(config: DictConfig, path: Path) -> tuple[str, ...]:
    """Return the words that a model learned, if ``knows`` beside ``model`` lists them.

    Args:
        config: The whole configuration.
        path: The file that it was read from.

    Raises:
        UserError: It is no list of words.
    """
    value = OmegaConf.select(config, "knows", default=None)
    if value is None:
        return ()
    words = list(value) if isinstance(value, ListConfig) else []
    if not words or not all(isinstance(word, str) and word.strip() for word in words):
        raise UserError(
            f"config {path}: knows is {quoted(value)}; expected a list of words in quotes or "
            "letters, such as [cat, palm tree]; correct it"
        )
    return tuple(words)
