"""``read_control``: a drawing's adapter from a file, whatever kind it is of.

control = read_control("control_v11p_sd15_canny.safetensors", model)
with control.attach(model, Image.open("edges.png"), scale=0.8, end=0.7):
    pictures = ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ldm.adapters.control.drawn import DrawnHandle, Options
from ldm.adapters.control.features import FeatureHandle, read_adapter
from ldm.adapters.control.files import CONTROL_NET, STYLE, Found, check_values, find_control
from ldm.adapters.control.filling import unet_of_layers
from ldm.adapters.control.hints import Hint, Picture
from ldm.adapters.control.lent import Lent
from ldm.adapters.control.modes import BALANCED
from ldm.adapters.control.nets import NetHandle, read_net
from ldm.adapters.control.style import StyleHandle, read_style, style_tokens
from ldm.adapters.handle import Handle, Scale
from ldm.adapters.report import Report
from ldm.errors import UserError
from ldm.modules.diffusionmodules.control_net import HINT_RATE
from ldm.modules.diffusionmodules.t2i_adapter import UNSHUFFLE


def read_control(path: str | Path, model: nn.Module, *, pooled: bool | None = None) -> Control:
    """Read a ControlNet, T2I-Adapter or style adapter for a model.

    Args:
        path: A file, or a folder of diffusers.
        model: The hub that it will be attached to.
        pooled: Whether a ControlNet's outputs are averaged over all positions; None says so of
            files named ``shuffle`` and where diffusers' ``config.json`` does.

    Raises:
        UserError: The file is missing, damaged, unsafe, of no known kind, or for other models.
    """
    found = find_control(path)
    check_values(found)
    if found.kind == CONTROL_NET:
        net, report = read_net(found, model)
        pooled = _pooled(found) if pooled is None else pooled
        return NetControl(Lent(net), report, model, pooled)
    if found.kind == STYLE:
        style, report = read_style(found, model)
        return StyleControl(Lent(style), report, model)
    adapter, report = read_adapter(found, model)
    return FeatureControl(Lent(adapter), report, model)


def _pooled(found: Found) -> bool:
    named = "shuffle" in found.path.stem.lower()
    return bool(found.settings.get("global_pool_conditions", named))


class Control(ABC):
    """What was read.

    Args:
        network: Its network, at home on the host.
        report: What it is.
        model: The hub that it was read for.

    Attributes:
        network: As above.
        report: As above.
    """

    def __init__(self, network: Lent, report: Report, model: nn.Module) -> None:
        self.network, self.report = network, report
        self._made_for = _layers_of(model)

    def check(self, model: nn.Module) -> None:
        """Refuse a model with other layers than the one that it was read for.

        Raises:
            UserError: It has others.
        """
        if _layers_of(model) != self._made_for:
            raise UserError(
                f"{self.report.kind} {self.report.path.name!r} was read for another model than the "
                "one that it is attached to; read it anew: read_control(path, model)"
            )

    @abstractmethod
    def attach(
        self,
        model: nn.Module,
        image: Picture,
        scale: Scale = 1.0,
        start: float = 0.0,
        end: float = 1.0,
        mode: str = BALANCED,
        **options: Any,
    ) -> Handle:
        """Let a model draw by an image, until the handle's ``detach``.

        Args:
            model: The hub.
            image: A picture, or a tensor (1 or B, 3, H, W) in [0, 1].
            scale: How strongly it acts: a number or a function of the step.
            start: From which fraction of the steps on.
            end: Up to which fraction.
            mode: See ``modes``.
            **options: What the kind has besides.

        Raises:
            UserError: An option, or the image, is none that can be used.
        """


class DrawingControl(Control):
    """A network that sees a drawing: a ControlNet or a T2I-Adapter.

    Attributes:
        unshuffle: What the drawing's sides are divided by on its way in.
    """

    unshuffle: int

    def attach(
        self,
        model: nn.Module,
        image: Picture,
        scale: Scale = 1.0,
        start: float = 0.0,
        end: float = 1.0,
        mode: str = BALANCED,
        *,
        scales: Sequence[float] | None = None,
        resize: str = "stretch",
    ) -> DrawnHandle:
        """Attach; see ``Control.attach``.

        Args:
            model: The hub.
            image: The drawing.
            scale: How strongly it acts.
            start: From which fraction of the steps on.
            end: Up to which fraction.
            mode: See ``modes``.
            scales: Weights of a ControlNet's 13 outputs, or of each level's features of a
                T2I-Adapter, shallow first, before the mode's.
            resize: How an image of another size is fitted; see ``hints.fitted``.
        """
        self.check(model)
        hint = Hint(image, resize, rate_of(model), self.unshuffle)
        return self._on(model, hint, scale, Options(start, end, mode, scales))

    @abstractmethod
    def _on(self, model: nn.Module, hint: Hint, scale: Scale, options: Options) -> DrawnHandle:
        """Put the network on a model."""


class NetControl(DrawingControl):
    """A ControlNet.

    Args:
        network: The ControlNet.
        report: What it is.
        model: The hub that it was read for.
        pooled: See ``read_control``.
    """

    unshuffle = HINT_RATE

    def __init__(self, network: Lent, report: Report, model: nn.Module, pooled: bool) -> None:
        super().__init__(network, report, model)
        self.pooled = pooled

    def _on(self, model: nn.Module, hint: Hint, scale: Scale, options: Options) -> NetHandle:
        return NetHandle(model, self.network, hint, scale, options, pooled=self.pooled)


class FeatureControl(DrawingControl):
    """A T2I-Adapter, full or light."""

    unshuffle = UNSHUFFLE

    def _on(self, model: nn.Module, hint: Hint, scale: Scale, options: Options) -> FeatureHandle:
        return FeatureHandle(model, self.network, hint, scale, options)


class StyleControl(Control):
    """A style adapter: it acts on the rows under a prompt, whatever the mode."""

    def attach(
        self,
        model: nn.Module,
        image: Picture,
        scale: Scale = 1.0,
        start: float = 0.0,
        end: float = 1.0,
        mode: str = BALANCED,
        *,
        clip: str | Path | None = None,
    ) -> StyleHandle:
        """Attach; as ``Control.attach``.

        Args:
            model: The hub.
            image: The picture whose style is wanted.
            scale: What its tokens are multiplied by.
            start: From which fraction of the steps on.
            end: Up to which fraction.
            mode: ``balanced``; the others would change nothing, and are refused.
            clip: The folder of CLIP ViT-L/14, which looks at the picture.

        Raises:
            UserError: There is no such folder, or another mode is given.
        """
        self.check(model)
        if mode != BALANCED:
            raise UserError(
                f"control mode {mode!r} given for a style adapter, which acts on the rows under a "
                "prompt alone; expected balanced; leave it out"
            )
        if clip is None:
            raise UserError(
                "a style adapter needs CLIP to look at its picture; expected the folder of "
                "openai/clip-vit-large-patch14; give it as clip"
            )
        tokens = style_tokens(self.network.network, image, clip)
        return StyleHandle(model, tokens, scale, Options(start, end))


def _layers_of(model: nn.Module) -> Any:
    """Return what two UNets have in common where the same control fits both."""
    unet = unet_of_layers(model)
    return unet.model_channels, unet.layout, unet.factory.context_dim


def rate_of(model: nn.Module) -> int:
    """Return the pixels of a picture along one position of its latent."""
    return getattr(getattr(model, "first_stage_model", None), "downsampling_factor", HINT_RATE)
