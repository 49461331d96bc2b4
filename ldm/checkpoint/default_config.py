"""Choose a configuration for a Stable Diffusion checkpoint that has none beside it.

The shapes of two weights decide: the UNet's input channels (16 in the retrieval-augmented model)
and the text encoder's token width (768 in version 1, 1024 in version 2). Imports no torch.
"""

from __future__ import annotations

from pathlib import Path

from ldm.checkpoint.peek import peek_shapes
from ldm.errors import UserError

FOLDER = "configs/stable-diffusion"
V1_CONFIG = f"{FOLDER}/v1-inference.yaml"
V1_INPAINTING_CONFIG = f"{FOLDER}/v1-inpainting-inference.yaml"
V2_INPAINTING_CONFIG = f"{FOLDER}/v2-inpainting-inference.yaml"
RETRIEVAL_CONFIG = "configs/retrieval-augmented-diffusion/768x768.yaml"
_UNET = "model.diffusion_model."
_INPUT = f"{_UNET}input_blocks.0.0.weight"
_TOKENS = f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_BY_SHAPE = {
    (9, 768): V1_INPAINTING_CONFIG,
    (9, 1024): V2_INPAINTING_CONFIG,
    (16, 768): RETRIEVAL_CONFIG,
}


def default_config(ckpt: Path) -> str:
    """Return the path, from the repository's root, of the configuration to use for a checkpoint.

    Assumes version 1 unless the weights say otherwise.

    Raises:
        UserError: Stable Diffusion 2, whose two variants have weights of the same shapes.
    """
    shapes = peek_shapes(ckpt)
    channels, width = (shapes.get(name, (0, 0))[1] for name in (_INPUT, _TOKENS))
    if (channels, width) == (4, 1024):
        raise UserError(
            f"{ckpt} is Stable Diffusion 2, and whether it predicts noise or v is not in the "
            f"file; expected a configuration with it; add --config {FOLDER}/v2-inference-v.yaml "
            f"for a model of 768 pixels, {FOLDER}/v2-inference.yaml for the base model of 512"
        )
    return _BY_SHAPE.get((channels, width), V1_CONFIG)
