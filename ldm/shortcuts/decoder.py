"""A tiny decoder from a file, in place of a model's own for a while.

Shapes: B batch, C latent channels, h w latent sides, H W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.checks import load_exactly, named, require_finite
from ldm.adapters.control.lent import Lent
from ldm.checkpoint.diffusers.json_files import read_json, weights_in
from ldm.checkpoint.io import read_checkpoint
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.models.tiny_decoder import TinyDecoder
from ldm.paths import at_home, is_file, is_folder
from ldm.wrapping import Wrapping

KIND = "tiny decoder"
STEM, CONFIG = "diffusion_pytorch_model", "config.json"
_DIFFUSERS = re.compile(r"decoder\.layers\.(\d{1,3})\.(.+)")
_EXPECTED: Mapping[str, Any] = {
    "act_fn": "relu",
    "upsample_fn": "nearest",
    "upsampling_scaling_factor": 2,
    "shift_factor": 0.0,
}
"""What a folder's configuration has to say, if it says anything of it."""


def decoder_file(path: str | Path) -> Path:
    """Return the file of a decoder's weights, given it or diffusers' folder around it.

    Raises:
        UserError: There is none.
    """
    path = at_home(path)
    if not is_folder(path):
        return path
    files = weights_in(path, (STEM,))
    if len(files) != 1:
        raise UserError(
            f"--decoder {path} is a folder without {STEM}.safetensors; expected diffusers' folder "
            "of an AutoencoderTiny, or a file; check the path"
        )
    return files[0]


def read_decoder(path: str | Path) -> TinyDecoder:
    """Read a tiny decoder: TAESD's ``taesd_decoder``, or diffusers' AutoencoderTiny.

    Raises:
        UserError: It is missing, damaged, unsafe, or no such decoder.
    """
    file = decoder_file(path)
    given = read_checkpoint(file).tensors
    theirs = {name: match for name in given if (match := _DIFFUSERS.fullmatch(name))}
    if not theirs:
        return _filled(file, given, 1.0)
    # Theirs has no layer for the bend, which is in its ``forward``.
    state = {f"{int(match[1]) + 1}.{match[2]}": given[name] for name, match in theirs.items()}
    return _filled(file, state, _scale(file))


def _scale(file: Path) -> float:
    """Return what diffusers divides latents by, from the configuration beside a file."""
    if not is_file(file.parent / CONFIG):
        return 1.0
    config = read_json(file.parent, CONFIG)
    for name, expected in _EXPECTED.items():
        found = config.get(name, expected)
        if (found or 0.0) != expected:
            raise UserError(
                f"--decoder {file} was given, and {CONFIG} beside it has {name} {quoted(found)}; "
                f"expected {expected}, as TAESD for Stable Diffusion 1 has; give that one"
            )
    scale = config.get("scaling_factor", 1.0)
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not 0 < scale < 1e6:
        raise UserError(
            f"--decoder {file} was given, and {CONFIG} beside it has scaling_factor "
            f"{quoted(scale)}; expected a number above 0; correct it"
        )
    return float(scale)


def _filled(file: Path, state: Mapping[str, Tensor], scale: float) -> TinyDecoder:
    try:
        with torch.device("meta"):
            network = TinyDecoder({name: tuple(v.shape) for name, v in state.items()}, scale)
    except UserError as error:
        raise UserError(f"--decoder {file} was given; {error}") from None
    require_finite(file, KIND, state)
    if unknown := load_exactly(network, state, file, KIND):
        raise UserError(
            f"{KIND} {str(file)!r} has weights that no such decoder has: {named(unknown)}; "
            "expected taesd_decoder or diffusers' AutoencoderTiny; give such a file"
        )
    return network.eval()


def check_fit(decoder: TinyDecoder, model: nn.Module, path: str | Path) -> None:
    """Refuse a decoder of other latents than a model's.

    Raises:
        UserError: Channels or sides differ.
    """
    factor = model.first_stage_model.downsampling_factor
    if (decoder.in_channels, decoder.factor) != (model.channels, factor):
        raise UserError(
            f"--decoder {path} decodes {decoder.in_channels} channels to pictures {decoder.factor} "
            f"times as large; the model's latents have {model.channels} channels and a factor of "
            f"{factor}; give a decoder that was made for this model's autoencoder"
        )


@contextmanager
def decoding_by(model: nn.Module, decoder: TinyDecoder) -> Iterator[None]:
    """Let a tiny decoder decode a model's latents inside the block.

    It takes the diffusion's latents as samplers leave them, with ``scale_factor`` in.

    Args:
        model: The hub.
        decoder: Fits its latents.
    """
    lent, wrapping = Lent(decoder), Wrapping()

    @torch.no_grad()
    def decode(own: Callable, z: Tensor, *options: Any, **more: Any) -> Tensor:  # noqa: ARG001
        """Decode latents (B, C, h, w) to pictures (B, 3, H, W); codebooks have no part in it."""
        return lent.to(z.device, torch.float32)(z.float())

    wrapping.put(model, "decode_first_stage", decode)
    try:
        yield
    finally:
        wrapping.undo()
        lent.go_home()
