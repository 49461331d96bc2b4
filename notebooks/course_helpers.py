"""What the course's notebooks share: the model that one variable names, and pictures side by side.

``studio = load(MODEL)`` draws by this project's code, or by the diffusers library with the same
methods. Noise comes from the caller, so that the lesson owns the seeds.
Shapes: n pictures, C channels, h w sides of the latents.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.pipelines.models import ModelChoice, find_model
from ldm.pipelines.pipeline import Pipeline
from ldm.settings.generation import Txt2ImgSettings

ROOT = Path(__file__).resolve().parents[1]
DEMO = "models/ldm/demo/model.safetensors"
BY_DIFFUSERS = "diffusers:"
# The steps begin at the noisiest one and are exactly as many as asked, with both libraries.
SPACING = "trailing"


class Studio(Protocol):
    """What draws.

    Attributes:
        shape: (C, h, w) of a latent.
        scale: The guidance scale that suits the model.
        name: Which model it is.
    """

    shape: tuple[int, int, int]
    scale: float
    name: str

    def draw(
        self,
        prompts: Sequence[str],
        noise: Tensor,
        *,
        steps: int = 20,
        scale: float | None = None,
        negative: str = "",
    ) -> list[Image.Image]:
        """Draw a picture of each prompt, by DDIM without added noise.

        Args:
            prompts: n of them.
            noise: Where the pictures begin, standard normal numbers (n, C, h, w).
            steps: DDIM steps.
            scale: Of guidance; None is what suits the model.
            negative: What guidance leads away from.
        """

    def redraw(
        self,
        picture: Image.Image,
        prompt: str,
        noise: Tensor,
        *,
        strength: float = 0.5,
        steps: int = 20,
        scale: float | None = None,
    ) -> Image.Image:
        """Draw a picture again, from it and some noise (1, C, h, w).

        Args:
            strength: The share of the steps that are taken: 0 keeps the picture, 1 keeps nothing.
        """


def load(model: str = DEMO) -> Studio:
    """Load a model.

    Args:
        model: A checkpoint or a diffusers folder, under the repository or anywhere; with
            ``diffusers:`` before it, a folder that the diffusers library is to draw with.

    Raises:
        UserError: It is not there, or it is no text-to-image model.
    """
    if model.startswith(BY_DIFFUSERS):
        return ByDiffusers(model.removeprefix(BY_DIFFUSERS))
    return ByLdm(model)


class ByLdm:
    """Draws with a checkpoint, by this project's own model and sampler; see ``Studio``."""

    def __init__(self, path: str) -> None:
        choice = find_model(Txt2ImgSettings(ckpt=path))
        self.model = Pipeline.load(choice).model
        self.name, self.scale = choice.name, suitable_scale(choice)
        side = self.model.image_size
        self.shape = (self.model.channels, side, side)

    def draw(self, prompts, noise, *, steps=20, scale=None, negative=""):
        sampler = DDIMSampler(self.model, spacing=SPACING)
        options = self._guided(prompts, scale, negative)
        z, _ = sampler.sample(steps, len(prompts), self.shape, x_T=noise, verbose=False, **options)
        return self.model.decode_latent(z)

    def redraw(self, picture, prompt, noise, *, strength=0.5, steps=20, scale=None):
        sampler = DDIMSampler(self.model, spacing=SPACING)
        sampler.make_schedule(steps)
        taken = round(strength * steps)
        z = self.model.encode_picture(picture)
        if taken:
            # Noised to where the first of these steps begins; see DiscreteSampler.encoding.
            z = sampler.stochastic_encode(z, taken - 1, noise=noise.to(z))
            options = self._guided([prompt], scale, "")
            z = sampler.decode(z, options.pop("conditioning"), taken, **options)
        return self.model.decode_latent(z)[0]

    def _guided(self, prompts, scale, negative) -> dict[str, Any]:
        return {
            "conditioning": self.model.encode_prompt(prompts),
            "unconditional_conditioning": self.model.encode_prompt([negative] * len(prompts)),
            "unconditional_guidance_scale": self.scale if scale is None else scale,
        }


def suitable_scale(choice: ModelChoice) -> float:
    """Return the guidance scale that a model's YAML says suits it, or SD v1's 7.5."""
    return float(choice.sampling.get("scale", 7.5))


class ByDiffusers:
    """Draws with a folder in diffusers' layout, by the diffusers library; see ``Studio``."""

    def __init__(self, path: str) -> None:
        from diffusers import DDIMScheduler

        from ldm.pipelines.pipeline import resolve_device
        from optimizedSD.by_diffusers.drawing import load as load_folder
        from optimizedSD.by_diffusers.folder import DiffusersFolder
        from optimizedSD.by_diffusers.settings import DiffusersSettings

        if not Path(path).is_dir():
            raise UserError(
                f"{path!r} is no folder; expected one in diffusers' layout; make it by "
                f"python scripts/convert.py {DEMO} FOLDER"
            )
        settings = DiffusersSettings(model=path)
        folder = DiffusersFolder.read(path)
        self.pipe = load_folder(folder, settings, resolve_device("auto"))
        self.pipe.scheduler = DDIMScheduler.from_config(
            folder.scheduler, timestep_spacing=SPACING, clip_sample=False, set_alpha_to_one=False
        )
        self.name, self.scale, side = Path(path).name, 7.5, folder.size // folder.factor
        self.shape = (self.pipe.unet.config.in_channels, side, side)

    def draw(self, prompts, noise, *, steps=20, scale=None, negative=""):
        return self._call(
            self.pipe, prompts, steps, scale, latents=noise, negative_prompt=[negative] * len(noise)
        )

    def redraw(self, picture, prompt, noise, *, strength=0.5, steps=20, scale=None):
        from diffusers import StableDiffusionImg2ImgPipeline

        if not round(strength * steps):
            return picture
        pipe = StableDiffusionImg2ImgPipeline(**self.pipe.components, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        # This pipeline draws its own noise: its seed is taken from ours.
        generator = torch.Generator().manual_seed(int(noise.flatten()[0].abs() * 2**20))
        options = {"image": picture, "strength": strength, "generator": generator}
        return self._call(pipe, [prompt], steps, scale, **options)[0]

    def _call(self, pipe, prompts, steps, scale, **options) -> list[Image.Image]:
        scale = self.scale if scale is None else scale
        return pipe(
            [*prompts],
            num_inference_steps=steps,
            guidance_scale=scale,
            output_type="pil",
            **options,
        ).images


Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels."""


def find_thing(picture: Image.Image) -> Box:
    """Return a square around what stands out of a plain background, of its border's colour."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    far = np.abs(pixels - np.median(border, axis=0)).sum(-1) > 120
    rows, columns = far.any(1).nonzero()[0], far.any(0).nonzero()[0]
    if not len(rows):
        return square_around(0, 0, *picture.size, picture.size)
    width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return square_around(columns[0], rows[0], width, height, picture.size)


def square_around(left: int, top: int, width: int, height: int, size: tuple[int, int]) -> Box:
    """Return a square a quarter wider than a rectangle, within a picture of a size (W, H)."""
    side = min(int(1.25 * max(width, height)), *size)
    corner = (left + width // 2 - side // 2, top + height // 2 - side // 2)
    x, y = (int(min(max(at, 0), most - side)) for at, most in zip(corner, size, strict=True))
    return x, y, x + side, y + side


def show(pictures: Sequence[Any], titles: Sequence[Any] = (), columns: int = 8) -> Any:
    """Lay pictures out in rows, each with its title above, and return matplotlib's figure.

    Args:
        pictures: Pillow's, or arrays that ``imshow`` takes.
        titles: As many, or none.
        columns: Pictures in a row, at most.
    """
    import matplotlib.pyplot as plt

    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.5 * columns, 1.7 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.axis("off")
    for number, (ax, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        ax.imshow(picture, interpolation="nearest")
        if titles:
            ax.set_title(str(titles[number]), fontsize=9)
    plt.close(figure)  # the cell shows what it returns, once
    return figure
