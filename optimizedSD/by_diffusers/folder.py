"""What the JSON files in a diffusers pipeline's folder say; read without torch or diffusers.

model_index.json   unet/config.json   vae/config.json   scheduler/scheduler_config.json
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ldm.budgets import CONFIG_NUMBER
from ldm.checkpoint.diffusers.json_files import T5_CLASSES, parse_json
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import MISSING, folder_fault, is_file, is_folder, listing, real_path, reason
from ldm.pipelines.models import Fingerprint
from ldm.yaml_files import children

PIPELINE = "StableDiffusionPipeline"
WEIGHTS = (".safetensors",)
TOKENIZER = "tokenizer/tokenizer_config.json"
# The files that the libraries read beside the weights, and entries by which they would load code:
# modules from the folder or the hub, kernels, quantizers.
READ = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "safety_checker/config.json",
    "feature_extractor/preprocessor_config.json",
    TOKENIZER,
    "scheduler/scheduler_config.json",
)
CODE = (
    "_attn_implementation",
    "_attn_implementation_internal",
    "attn_implementation",
    "auto_map",
    "custom_pipeline",
    "experts_implementation",
    "quantization_config",
)
CHECKPOINTS = (".ckpt", ".safetensors")


@dataclass(frozen=True)
class DiffusersFolder:
    """A Stable Diffusion pipeline in diffusers' layout.

    Attributes:
        path: The folder.
        size: The side in pixels that the model was made for.
        factor: Pixels per latent cell along a side; the sides of pictures are multiples of it.
        timesteps: Length of the noise schedule, in steps.
        variant: ``fp16`` if the folder holds the weights in float16 only, else None.
        has_checker: Whether a safety checker belongs to it.
        scheduler: What the folder says of its scheduler.
    """

    path: Path
    size: int
    factor: int
    timesteps: int
    variant: str | None
    has_checker: bool
    scheduler: dict[str, Any]

    @classmethod
    def read(cls, name: str) -> DiffusersFolder:
        """Read the folder that ``--model`` names.

        Raises:
            UserError: it does not exist, or is not a text-to-image pipeline of Stable Diffusion.
        """
        path = Path(name)
        if not is_folder(path):
            raise _absent(name)
        index = _json(path, "model_index.json")
        kind = index.get("_class_name")
        if kind != PIPELINE:
            raise UserError(
                f"--model {path} holds a {quoted(kind)}; expected a {PIPELINE}; give another folder"
            )
        words = index.get("tokenizer")
        if isinstance(words, list) and words and words[-1] in T5_CLASSES:
            raise UserError(
                f"--model {path} has a {words[-1]}; expected CLIP's tokenizer, as this program has "
                f"no other; draw with scripts/txt2img.py --ckpt {path}"
            )
        _check_entries(path)
        factor = 2 ** (len(_entry(path, "vae", "block_out_channels", list)) - 1)
        weights = [file.name for file in _weights(path)]
        checker = index.get("safety_checker")
        return cls(
            path=path,
            size=_entry(path, "unet", "sample_size", int) * factor,
            factor=factor,
            timesteps=_entry(path, "scheduler", "num_train_timesteps", int),
            variant="fp16" if all(".fp16." in file for file in weights) else None,
            has_checker=isinstance(checker, list) and any(checker),
            scheduler=_json(path, "scheduler/scheduler_config.json"),
        )

    @property
    def name(self) -> str:
        """The model's name in pictures' metadata: the folder's name."""
        return real_path(self.path).name

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The hash of the file of the UNet's weights; of the first one if there are several."""
        return Fingerprint(_weights(self.path)[0])

    def check_steps(self, steps: int) -> None:
        """Raise UserError if the model's noise schedule has fewer steps than ``steps``."""
        if steps > self.timesteps:
            raise UserError(
                f"--ddim_steps {steps} was given; the model has {self.timesteps} steps; "
                f"give {self.timesteps} or fewer"
            )

    def side(self, flag: str, pixels: int | None) -> int:
        """Return the length of a picture's side in pixels, by default the model's own.

        Raises:
            UserError: it is not a multiple of ``factor``.
        """
        pixels = pixels or self.size
        if pixels % self.factor:
            below = max(pixels // self.factor, 1) * self.factor
            raise UserError(
                f"{flag} {pixels} was given; expected a multiple of {self.factor}; the nearest "
                f"are {below} and {below + self.factor}"
            )
        return pixels


def _absent(name: str) -> UserError:
    """Return the error for a name that is no folder: a file, a name on the hub, or a typo."""
    if is_file(name):
        ours = Path(name).suffix.lower() in CHECKPOINTS
        advice = f"run optimized_txt2img.py --ckpt {name}" if ours else "give the folder"
        return UserError(f"--model {name} is a file; expected a diffusers folder; {advice}")
    fault = folder_fault(name)
    fault = "is not on this machine" if fault == MISSING else fault
    return UserError(
        f"--model {name} {fault}; expected a folder with model_index.json, as nothing is "
        "downloaded; fetch a model first: "
        f"hf download {_hub_name(name)} --local-dir FOLDER"
    )


def _hub_name(name: str) -> str:
    parts = name.split("/")
    return name if len(parts) == 2 and all(parts) and parts[0].strip(".") else "OWNER/MODEL"


def _weights(path: Path) -> list[Path]:
    """Return the files of the UNet's weights, sorted.

    Raises:
        UserError: there are none.
    """
    found = [file for file in listing(path / "unet") if file.suffix.lower() in WEIGHTS]
    if not found:
        pickled = any(file.suffix.lower() == ".bin" for file in listing(path / "unet"))
        raise UserError(
            f"--model {path} has no {'' if not pickled else 'other than pickled '}weights in its "
            "subfolder unet; expected .safetensors files; "
            + (
                f"convert it: python scripts/convert.py {path} FILE.safetensors, and back"
                if pickled
                else "fetch the model again"
            )
        )
    return found


def _check_entries(path: Path) -> None:
    """Refuse a folder whose files would have the libraries load code, or endless networks.

    Raises:
        UserError: It names the file and the entry.
    """
    for file in READ:
        entries = list(_entries(_json(path, file))) if is_file(path / file) else []
        found = next((key for key, value in entries if key in CODE and value is not None), None)
        if found is not None:
            raise UserError(
                f"--model {path}: {file} has {found}, by which a library loads code; expected "
                "settings alone; take it out, or give another folder"
            )
        # A tokenizer's longest row is written as 1e30 where there is none.
        numbers = (abs(value) for _, value in entries if isinstance(value, int | float))
        if file != TOKENIZER and max(numbers, default=0) > CONFIG_NUMBER:
            raise UserError(
                f"--model {path}: {file} has a number beyond {CONFIG_NUMBER}; expected a network's "
                "sizes; fetch the model again"
            )


def _entries(node: Any) -> Iterator[tuple[str | int, Any]]:
    """Yield every key and value of a tree, at any depth: JSON nests deeper than calls may."""
    left = [node]
    while left:
        for key, value in children(left.pop()):
            yield key, value
            left.append(value)


def _entry(path: Path, part: str, key: str, kind: type) -> Any:
    file = "scheduler/scheduler_config.json" if part == "scheduler" else f"{part}/config.json"
    value = _json(path, file).get(key)
    if type(value) is not kind or not value:
        raise UserError(
            f"--model {path}: {file} has {value!r} for {key}; expected what a {PIPELINE} "
            "has there; fetch the model again"
        )
    return value


def _json(path: Path, file: str) -> dict[str, Any]:
    try:
        read = parse_json(path / file)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--model {path}: {file} cannot be read ({reason(error)}); expected a complete "
            "diffusers folder; check the path or fetch the model again"
        ) from error
    return read if isinstance(read, dict) else {}
