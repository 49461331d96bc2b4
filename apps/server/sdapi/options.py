"""The few of AUTOMATIC1111's options that are understood: kept by key, or given for one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.server.front.values import Fields, wrong
from ldm.settings.language import EMPHASES

FORMATS = {"png": "png", "jpg": "jpg", "jpeg": "jpg"}
_EMPHASES = {name.replace("-", " ").capitalize(): name for name in EMPHASES}
_LAYERS = 12  # of the text encoder that Stable Diffusion v1 has
_LONGEST_NAME = 300


@dataclass(frozen=True)
class Model:
    """The model that is served, as clients may name it.

    Attributes:
        name: Its own name.
        hash: The first ten digits of its file's SHA-256.
        file: The name of its file, without its folder.
    """

    name: str
    hash: str
    file: str

    @property
    def title(self) -> str:
        """What AUTOMATIC1111 shows and takes."""
        return f"{self.name} [{self.hash}]"

    def is_called(self, text: str) -> bool:
        """Return whether a text names this model."""
        return text in (self.title, self.name, self.hash, self.file)


@dataclass(frozen=True)
class Options:
    """What holds for the requests of a key.

    Attributes:
        clip_skip: The text encoder's block that is used, from the last.
        emphasis: What weights of words do.
        format: Of the pictures that are sent.
        faces: What redraws faces where that is asked for, by name; empty is the first there is.
    """

    clip_skip: int = 1
    emphasis: str = "original"
    format: str = "png"
    faces: str = ""

    @classmethod
    def read(cls, values: Mapping[str, Any], base: Options, model: Model) -> Options:
        """Return options with changes.

        Args:
            values: The changes by AUTOMATIC1111's names.
            base: What is changed.
            model: The one that is served: no other can be asked for.

        Raises:
            Unfit: An option is unknown, or cannot have its value.
        """
        fields = Fields(values)
        for name in ("sd_model_checkpoint", "sd_checkpoint_hash"):
            called = fields.text(name, model.name, most=_LONGEST_NAME)
            if called and not model.is_called(called):
                raise wrong(name, called, f"{model.title}, the model that is served")
        fields.only("sd_vae", ("Automatic", "None", ""), "the model's own decoder is used")
        fields.only("eta_noise_seed_delta", (0,), "noise depends on the seed alone")
        emphasis = next(word for word, name in _EMPHASES.items() if name == base.emphasis)
        changed = cls(
            fields.whole("CLIP_stop_at_last_layers", base.clip_skip, low=1, high=_LAYERS),
            _EMPHASES[fields.choice("emphasis", emphasis, _EMPHASES)],
            FORMATS[fields.choice("samples_format", base.format, FORMATS)],
            fields.text("face_restoration_model", base.faces, most=_LONGEST_NAME),
        )
        fields.close()
        return changed

    def shown(self, model: Model) -> dict[str, Any]:
        """Return all options by AUTOMATIC1111's names."""
        return {
            "sd_model_checkpoint": model.title,
            "sd_checkpoint_hash": model.hash,
            "sd_vae": "None",
            "eta_noise_seed_delta": 0,
            "CLIP_stop_at_last_layers": self.clip_skip,
            "emphasis": next(word for word, name in _EMPHASES.items() if name == self.emphasis),
            "samples_format": self.format,
            "face_restoration_model": self.faces or None,
        }
