"""From pictures to features: CLIP's vision network from a folder, the model's own first stage, ...

Shapes: P pictures, F width of the features, L hidden states a picture, S side in pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ldm.checkpoint.io import read_checkpoint
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import at_home, exists
from ldm.safety.concepts import Preprocessing, load_vision, vision_settings

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
CLOUDS = 32
"""Pictures by which the UNet's features are standardised."""
OWN = re.compile(r"(first_stage|unet) ([1-9]\d?)")


class ImageEncoder(Protocol):
    """What an adapter looks at pictures with.

    Attributes:
        name: What a file says of it.
    """

    name: str

    def __call__(self, pictures: Sequence[Image.Image], *, hidden: bool) -> Tensor:
        """Return features (P, F), or the last hidden states but one (P, L, F)."""

    def nothing(self, *, hidden: bool) -> Tensor:
        """Return the features (1, F) or (1, L, F) of no picture."""


class ClipEncoder:
    """CLIP's vision network in float32.

    Args:
        folder: A CLIPVisionModelWithProjection or a whole CLIPModel, as transformers writes them.

    Raises:
        UserError: It is no such folder, or is not whole.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = at_home(folder)
        weights = next((folder / name for name in WEIGHTS if exists(folder / name)), None)
        if weights is None or not exists(folder / "config.json"):
            raise UserError(
                f"image encoder {str(folder)!r} has no config.json with {' or '.join(WEIGHTS)}; "
                "expected the folder of a CLIPVisionModelWithProjection; give one that is on disk"
            )
        tensors = read_checkpoint(weights).tensors
        if not any(name.startswith("vision_model.") for name in tensors):
            tensors = {_classic(name): value for name, value in tensors.items()}
        if "visual_projection.weight" not in tensors:
            raise _not_whole(weights, ["visual_projection.weight"])
        _require_transformers()
        settings = vision_settings(folder / "config.json")
        self.vision = load_vision(settings, tensors, weights, _not_whole)
        self.projection = tensors["visual_projection.weight"].float()  # (F, hidden size)
        described = folder / "preprocessor_config.json"
        self.prepare = Preprocessing.from_file(
            described if exists(described) else None, self.vision.config.image_size
        )
        self.name = f"clip {folder.name}"

    def __call__(self, pictures: Sequence[Image.Image], *, hidden: bool) -> Tensor:
        pixels = torch.cat([self.prepare(np.asarray(each)[None]) for each in pictures])
        return self.features(pixels, hidden=hidden)

    @torch.no_grad()
    def features(self, pixels: Tensor, *, hidden: bool) -> Tensor:
        """Return the features of pictures that are prepared: (P, 3, S, S)."""
        found = self.vision(pixel_values=pixels, output_hidden_states=hidden)
        return found.hidden_states[-2] if hidden else found.pooler_output @ self.projection.T

    def nothing(self, *, hidden: bool) -> Tensor:
        if not hidden:
            return torch.zeros(1, len(self.projection))
        side = self.vision.config.image_size
        return self.features(torch.zeros(1, 3, side, side), hidden=True)


class FirstStageEncoder:
    """The mean latents that a model's own first stage makes of a picture, pooled to a square.

    Args:
        model: The hub.
        side: Of the square; F is the latents' channels times its area.
    """

    def __init__(self, model: Any, side: int) -> None:
        self.model, self.side, self.name = model, side, f"first_stage {side}"
        pixels = int(model.image_size) * 2**model.num_downs
        half = (0.5, 0.5, 0.5)
        self.prepare = Preprocessing(resize=pixels, crop=pixels, mean=half, std=half)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image], *, hidden: bool) -> Tensor:
        pixels = torch.cat([self.prepare(np.asarray(each)[None]) for each in pictures])
        return self.features(pixels.to(self.model.device), hidden=hidden)

    @torch.no_grad()
    def features(self, pixels: Tensor, *, hidden: bool = False) -> Tensor:
        """Return the features of pictures (P, 3, S, S) in [-1, 1]."""
        z = nn.functional.adaptive_avg_pool2d(self._latents(pixels).float(), self.side)
        return z.flatten(2).mT if hidden else z.flatten(1)  # (P, side**2, C) or (P, F)

    def _latents(self, pixels: Tensor) -> Tensor:
        """Return the mean latents (P, C, h, w), scaled as the UNet sees them."""
        found = self.model.encode_first_stage(pixels)
        z = found if isinstance(found, Tensor) else found.mode()
        return self.model.scale_factor * z

    def nothing(self, *, hidden: bool) -> Tensor:
        channels, area = self.model.channels, self.side**2
        return torch.zeros(1, area, channels) if hidden else torch.zeros(1, channels * area)


class UNetEncoder(FirstStageEncoder):
    """What a model's own UNet makes of a picture at the level above its lowest, pooled to a square.

    The UNet sees the picture's latents at the first step, without noise and without a prompt, and
    no adapter that adds to its attention or to its features takes part. Features are told in
    standard deviations from what it makes of clouds of colour: most of them hardly vary.

    Args:
        model: The hub.
        side: Of the square; F is the level's channels times its area.
    """

    def __init__(self, model: Any, side: int) -> None:
        super().__init__(model, side)
        self.name = f"unet {side}"
        self._usual: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def features(self, pixels: Tensor, *, hidden: bool = False) -> Tensor:
        """Return the features of pictures (P, 3, S, S) in [-1, 1]."""
        if self._usual is None:
            usual = self._pooled(clouds(CLOUDS, pixels.shape[-1]).to(pixels))
            self._usual = usual.mean(0), usual.std(0) + 1e-3
        mean, deviation = self._usual
        h = (self._pooled(pixels) - mean) / deviation  # (P, C, side**2)
        return h.mT if hidden else h.flatten(1)  # (P, side**2, C) or (P, F)

    def _pooled(self, pixels: Tensor) -> Tensor:
        z = self._latents(pixels)
        first = torch.zeros(len(z), dtype=torch.long, device=z.device)
        empty = self.model.get_learned_conditioning([""]).expand(len(z), -1, -1)
        unet = self.model.model.diffusion_model
        with bare(unet):
            lowest, _, skips = unet.encode(z, first, empty)
        wider = [each for each in skips if each.shape[-1] > lowest.shape[-1]]
        h = (wider[-1] if wider else lowest).float()  # (P, C, h, w)
        return nn.functional.adaptive_avg_pool2d(h, self.side).flatten(2)

    def nothing(self, *, hidden: bool) -> Tensor:
        unet = self.model.model.diffusion_model
        channels, area = unet.model_channels * unet.channel_mult[-2:][0], self.side**2
        return torch.zeros(1, area, channels) if hidden else torch.zeros(1, channels * area)


def clouds(count: int, side: int) -> Tensor:
    """Return smooth random colours (count, 3, side, side) in [-1, 1], the same at each call."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 2 - 1
    return nn.functional.interpolate(coarse, side, mode="bilinear", align_corners=True)


@contextmanager
def bare(unet: nn.Module) -> Iterator[None]:
    """Take away, inside the block, what adapters put beside a UNet's layers and between its halves.

    Layers' weights, and what a LoRA adds to them, stay.
    """
    put = [
        (layer, name, vars(layer).pop(name))
        for layer in unet.modules()
        for name in ("beside", "between")
        if name in vars(layer)
    ]
    networks, unet.side_networks = unet.side_networks, []
    try:
        yield
    finally:
        unet.side_networks = networks
        for layer, name, own in put:
            setattr(layer, name, own)


class FunctionEncoder:
    """A function of one's own: a list of P pictures -> (P, F) or (P, L, F).

    No picture is zeros where F is the width of one vector, and else the features of a grey one.
    """

    def __init__(self, function: Callable[[Sequence[Image.Image]], Tensor]) -> None:
        self.function = function
        self.name = getattr(function, "name", None) or getattr(
            function, "__name__", type(function).__name__
        )

    def __call__(self, pictures: Sequence[Image.Image], *, hidden: bool) -> Tensor:
        found, rank = self.function(pictures), 3 if hidden else 2
        if not isinstance(found, Tensor) or found.ndim != rank or len(found) != len(pictures):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"image encoder {self.name} returned {what} for {len(pictures)} pictures; expected "
                f"a tensor of {rank} dimensions, the first of them the pictures; correct it"
            )
        return found.detach().float()

    def nothing(self, *, hidden: bool) -> Tensor:
        found = self([Image.new("RGB", (64, 64), (127, 127, 127))], hidden=hidden)
        return found if hidden else torch.zeros_like(found)


def given_encoder(given: Any) -> ImageEncoder:
    """Return what a folder, a function or an encoder looks at pictures with.

    Raises:
        UserError: The folder is no image encoder, or it is none of these.
    """
    if isinstance(given, (str, Path)):
        return ClipEncoder(given)
    if not callable(given):
        raise UserError(
            f"a {type(given).__name__} is given as an IP-Adapter's image encoder; expected a "
            "folder, or a function of a list of pictures; give one"
        )
    return given if hasattr(given, "nothing") else FunctionEncoder(given)


def encoder_of(given: ImageEncoder | None, named: str | None, model: Any) -> ImageEncoder:
    """Return what to look at pictures with.

    Args:
        given: An encoder, or None for what the file says.
        named: What the file says.
        model: The hub, whose first stage may be asked for.

    Raises:
        UserError: Nothing is given, and the file names nothing that is at hand.
    """
    if given is not None:
        return given
    if match := OWN.fullmatch(named or ""):
        kind = {"first_stage": FirstStageEncoder, "unet": UNetEncoder}[match[1]]
        return kind(model, int(match[2]))
    made = f"was trained with {quoted(named)}" if named else "does not say with which"
    raise UserError(
        f"no image encoder is given for an IP-Adapter whose file {made}; expected the local folder "
        "of its CLIP vision model, or a function; give encoder="
    )


def _classic(name: str) -> str:
    """Return a tensor's name as files had it before transformers 5."""
    return name if name.startswith("visual_projection.") else f"vision_model.{name}"


def _require_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"CLIP's vision model needs transformers, which cannot be imported ({error}); "
            "run: pip install transformers, or give a function as encoder="
        ) from error


def _not_whole(path: Path, names: list[str]) -> UserError:
    return UserError(
        f"image encoder {str(path)!r}: {len(names)} tensors are missing, unexpected or of another "
        f"shape than its config.json says (such as {quoted(names[0])}); expected a "
        "CLIPVisionModelWithProjection or a whole CLIPModel; get the folder again"
    )
