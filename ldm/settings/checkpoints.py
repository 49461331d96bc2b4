"""What a user can choose about files of weights: converting and exporting. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ldm.settings.generation import GenerationSettings
from ldm.settings.option import REQUIRED, Settings, changed, option


@dataclass(frozen=True, kw_only=True)
class ConvertSettings(Settings):
    """Settings of ``scripts/convert.py``."""

    program: ClassVar[str] = "convert"

    src: str = option(
        REQUIRED,
        "a .ckpt or .safetensors file, or a diffusers folder",
        str,
        positional=True,
        metavar="SRC",
        words="a checkpoint file or a diffusers folder",
    )
    dst: str = option(
        REQUIRED,
        "a folder for a file; a .safetensors or .ckpt file for a folder",
        str,
        positional=True,
        metavar="DST",
        words="a folder, or a file's name for a folder",
    )
    config: str | None = option(
        None,
        "the YAML that describes the model",
        str,
        shown="of a file the YAML beside it, else Stable Diffusion's own; of a folder what its "
        "JSON files say",
        metavar="FILE",
    )
    trust_config: bool = changed(GenerationSettings, "trust_config", group="")
    half: bool = option(False, "write the weights as float16")
    use_ema: bool = option(False, "take the averaged (EMA) weights of a checkpoint that holds both")
    overwrite: bool = option(False, "replace DST if it exists")
    meta: tuple[str, ...] = option(
        (),
        "an entry for the file's header, repeatable; a KEY without a dot, such as author, license "
        "or prediction_type, gets the prefix modelspec.",
        str,
        several="again",
        metavar="KEY=VALUE",
        pattern="[^=]+=.*",
        words="KEY=VALUE, as author=me",
    )


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """Settings of ``scripts/export_checkpoint.py``."""

    program: ClassVar[str] = "export_checkpoint"

    ckpt: str = option(
        REQUIRED, "the checkpoint to read: .ckpt or .safetensors", str, metavar="FILE"
    )
    out: str = option(REQUIRED, "the file to write: .safetensors", str, metavar="FILE")
    use_ema: bool = changed(ConvertSettings, "use_ema")
    dtype: str | None = option(
        None,
        "element type of the weights",
        str,
        choices=("float32", "float16", "bfloat16"),
        aliases=(("--half", "float16"),),
        shown="as in --ckpt",
    )
    meta: tuple[str, ...] = changed(ConvertSettings, "meta")
    overwrite: bool = changed(ConvertSettings, "overwrite", help="replace --out if it exists")
