"""An IP-Adapter, and what it does: cross-attention to a picture's tokens beside the text.

arXiv:2308.06721, Eq. 5: each layer's result is Attention(Q, K, V) + scale * Attention(Q, K', V').
Shapes: P pictures of a walk, T tokens, D width of the context, heads, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ldm.adapters.handle import Handle, Scale, require_unet, within
from ldm.adapters.ip_adapter.encoders import ImageEncoder, encoder_of, given_encoder
from ldm.adapters.ip_adapter.projections import (
    Resampler,
    TokenPerceptron,
    TokenProjection,
)
from ldm.adapters.pictures import Picture, opened
from ldm.adapters.report import Report, base_of_width, wrong_base
from ldm.errors import UserError
from ldm.modules.attention import CrossAttention
from ldm.modules.attention_processors import sdpa

KIND = "IP-Adapter"
Pictures = Picture | Sequence[Picture] | Sequence[Sequence[Picture]]
"""One picture; several, which are looked at together; or for each sample of a batch a list."""


class IPAdapter(nn.Module):
    """An IP-Adapter: its ``state_dict`` is the published files' layout.

    Args:
        image_proj: Makes tokens of features.
        layers: Number in the file to the (keys', values') shapes (inner, D) of a layer.
        report: What is known of it.
        encoder: What it looks at pictures with; None for what ``encoder_name`` says.
        encoder_name: What it was trained with.
    """

    def __init__(
        self,
        image_proj: TokenProjection | Resampler | TokenPerceptron,
        layers: dict[str, tuple[int, int]],
        report: Report,
        encoder: ImageEncoder | None = None,
        encoder_name: str | None = None,
    ) -> None:
        super().__init__()
        self.report, self.encoder, self.encoder_name = report, encoder, encoder_name
        self.image_proj = image_proj
        self.ip_adapter = nn.ModuleDict(
            {
                number: nn.ModuleDict(
                    {
                        "to_k_ip": nn.Linear(width, inner, bias=False),
                        "to_v_ip": nn.Linear(width, inner, bias=False),
                    }
                )
                for number, (inner, width) in layers.items()
            }
        )

    def attach(
        self,
        model: nn.Module,
        images: Pictures | None = None,
        scale: Scale = 1.0,
        start: float = 0.0,
        end: float = 1.0,
    ) -> IPHandle:
        """Let a model draw what pictures show.

        Args:
            model: The hub.
            images: The pictures; None if the handle is told later (``show``, ``feed``).
            scale: Weight of the pictures; the text's is 1.
            start: Fraction of the walk at which it begins.
            end: Fraction at which it ends.

        Raises:
            UserError: It is made for other models, or there is no image encoder.
        """
        handle = IPHandle(self, model, scale, (start, end))
        try:
            if images is not None:
                handle.show(images)
        except BaseException:
            handle.detach()
            raise
        return handle


class IPHandle(Handle):
    """An IP-Adapter on a model.

    Attributes:
        window: Fractions of the walk between which it acts.
    """

    def __init__(
        self, adapter: IPAdapter, model: nn.Module, scale: Scale, window: tuple[float, float]
    ) -> None:
        layers = _fitting(adapter, model)
        super().__init__(model, scale)
        self.adapter, self.window = adapter, window
        self._encoder: ImageEncoder | None = None
        self._tokens: Tensor | None = None  # (1 + P, T, D), the first for unconditional rows
        self._beside = []
        for layer, weights in layers:
            attend = _PictureAttention(self, layer.scale, weights)
            layer.beside = [*layer.beside, attend]
            self._beside.append((layer, attend))

    @property
    def encoder(self) -> ImageEncoder:
        """What it looks at pictures with."""
        if self._encoder is None:
            given, named = self.adapter.encoder, self.adapter.encoder_name
            self._encoder = encoder_of(given, named, self.model)
        return self._encoder

    def show(self, images: Pictures) -> None:
        """Draw by other pictures from now on."""
        groups = _by_sample(images)
        hidden = self.adapter.image_proj.hidden
        pictures = opened([picture for group in groups for picture in group])
        features = self.encoder(pictures, hidden=hidden)
        self.feed(features, self.encoder.nothing(hidden=hidden), each=len(groups[0]))

    def feed(self, features: Tensor, nothing: Tensor | None = None, each: int = 1) -> None:
        """Draw by features from now on; in training, before each call of the model.

        Stay attached until the backward pass is over: blocks may compute a second time then.

        Args:
            features: Of each sample in turn (P * each, F) or (P * each, L, F).
            nothing: What unconditional rows see, (1, F) or (1, L, F); None is zeros.
            each: Pictures a sample.

        Raises:
            UserError: They are of another width than the adapter's.
        """
        width = self.adapter.image_proj.width
        if features.shape[-1] != width:
            raise UserError(
                f"{self.adapter.report.path.name}: the image encoder makes features of width "
                f"{features.shape[-1]}; expected {width}; give the encoder that it was made with"
            )
        nothing = torch.zeros_like(features[:1]) if nothing is None else nothing
        own = self.adapter.image_proj(torch.cat([nothing.to(features), features]).to(self._like()))
        empty = own[:1].repeat(1, each, 1)  # (1, each T, D)
        seen = rearrange(own[1:], "(p each) t d -> p (each t) d", each=each)
        self._tokens = torch.cat([empty, seen])
        for _, attend in self._beside:
            attend.forget()

    def tokens(self) -> Tensor | None:
        """Return the tokens (1 + P, T, D) that are looked at in this step; None for none."""
        if self._tokens is None or not within(*self.window, self.follower.moment):
            return None
        return self._tokens

    def rows(self, count: int) -> list[int]:
        """Return which of the tokens' rows each row of the present call sees.

        Raises:
            UserError: There are more samples than lists of pictures.
        """
        samples = len(self._tokens) - 1
        rows = self.follower.rows(count)
        if samples > 1 and max(row.picture for row in rows) >= samples:
            raise UserError(
                f"pictures are given for {samples} samples, and {count} rows are drawn; expected "
                "one list of pictures for each sample; give as many, or one for all"
            )
        shown = [row.picture if samples > 1 else 0 for row in rows]
        return [
            0 if row.part == "uncond" else 1 + own for row, own in zip(rows, shown, strict=True)
        ]

    def _like(self) -> Tensor:
        return next(self.adapter.image_proj.parameters())

    def _release(self) -> None:
        for layer, attend in self._beside:
            layer.beside = [each for each in layer.beside if each is not attend]
            if not layer.beside:
                del layer.beside  # the class's own shows again


class _PictureAttention:
    """One layer's attention to the tokens of pictures.

    Args:
        handle: Knows the tokens and the step.
        scale: Of the layer's scores.
        weights: ``to_k_ip`` and ``to_v_ip``.
    """

    def __init__(self, handle: IPHandle, scale: float, weights: nn.ModuleDict) -> None:
        self.handle, self.scale, self.weights = handle, scale, weights
        self._held: tuple[Tensor, Tensor] | None = None

    def forget(self) -> None:
        """Compute keys and values anew."""
        self._held = None

    def __call__(self, q: Tensor) -> Tensor | None:
        tokens = self.handle.tokens()
        strength = 0.0 if tokens is None else self.handle.strength()
        if strength == 0.0:
            return None
        k, v = self._keys_and_values(tokens, q)
        rows = torch.tensor(self.handle.rows(len(q)), device=q.device)
        return strength * sdpa(q, k[rows], v[rows], mask=None, scale=self.scale)

    def _keys_and_values(self, tokens: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1 + P, heads, T, d) each, of q's type and on its device."""
        held = self._held
        if held is None or held[0].device != q.device or held[0].dtype != q.dtype:
            held = tuple(
                rearrange(self.weights[name](tokens), "p t (heads d) -> p heads t d", d=q.shape[-1])
                .to(q)
                .contiguous()
                for name in ("to_k_ip", "to_v_ip")
            )
        learns = any(each.requires_grad for each in (tokens, *self.weights.parameters()))
        self._held = None if learns else held  # what learns changes between calls
        return held


def attn2_in_file_order(model: nn.Module) -> list[CrossAttention]:
    """Return a model's cross-attentions as files number them: down, up, and the middle last."""
    unet = require_unet(model)
    return [
        layer
        for half in (unet.input_blocks, unet.output_blocks, unet.middle_block)
        for name, layer in half.named_modules()
        if name.endswith("attn2") and isinstance(layer, CrossAttention)
    ]


def new_ip_adapter(
    model: nn.Module,
    tokens: int = 4,
    width: int | None = None,
    encoder: Any = "first_stage 8",
    *,
    by_text: bool = False,
    local: bool = False,
) -> IPAdapter:
    """Make an IP-Adapter that has learned nothing yet; its weights can learn.

    Args:
        model: The hub; keys begin as its own.
        tokens: T.
        width: F; None asks the encoder.
        encoder: ``first_stage N`` for the model's own latents, ``unet N`` for what its UNet makes
            of them, pooled to N x N, or a function of a list of pictures.
        by_text: Whether values, too, begin as the model's own; else as zeros, so that nothing is
            changed yet.
        local: Whether each of the encoder's local features becomes a token, as in full-face files;
            ``tokens`` does not count then.
    """
    named = encoder if isinstance(encoder, str) else None
    looking = encoder_of(None if named else given_encoder(encoder), named, model)
    layers = attn2_in_file_order(model)
    if not layers:
        raise UserError(
            "a model without cross-attention was given for an IP-Adapter; expected one that is "
            "drawn from texts; give another"
        )
    context_dim = layers[0].to_k.in_features
    width = looking.nothing(hidden=local).shape[-1] if width is None else width
    form = "full-face" if local else f"base ({tokens} tokens)"
    report = Report(Path("new"), KIND, form, base_of_width(context_dim))
    report.modules = len(layers)
    numbers = [str(2 * i + 1) for i in range(len(layers))]
    shapes = [tuple(layer.to_k.weight.shape) for layer in layers]
    adapter = IPAdapter(
        TokenPerceptron(width, context_dim)
        if local
        else TokenProjection(width, tokens, context_dim),
        dict(zip(numbers, shapes, strict=True)),
        report,
        encoder=None if named else looking,
        encoder_name=looking.name,
    )
    with torch.no_grad():
        for layer, weights in zip(layers, adapter.ip_adapter.values(), strict=True):
            weights["to_k_ip"].weight.copy_(layer.to_k.weight)
            if by_text:
                weights["to_v_ip"].weight.copy_(layer.to_v.weight)
            else:
                weights["to_v_ip"].weight.zero_()
    return adapter


def _fitting(adapter: IPAdapter, model: nn.Module) -> list[tuple[CrossAttention, nn.ModuleDict]]:
    """Return the model's layers with their weights.

    Raises:
        UserError: They are not the ones that the adapter was made for.
    """
    layers, weights = attn2_in_file_order(model), list(adapter.ip_adapter.values())
    shapes = [tuple(layer.to_k.weight.shape) for layer in layers]
    if shapes == [tuple(each["to_k_ip"].weight.shape) for each in weights]:
        return list(zip(layers, weights, strict=True))
    report = adapter.report
    if not layers or layers[0].to_k.in_features != weights[0]["to_k_ip"].in_features:
        raise wrong_base(report.path, KIND, report.base, model)
    raise wrong_base(report.path, KIND, f"a UNet of {len(weights)} other layers", model)


def _by_sample(images: Pictures) -> list[list[Picture]]:
    """Return for each sample its pictures; one list stands for all samples.

    Raises:
        UserError: There are none, or the samples have different numbers of them.
    """
    several = isinstance(images, (list, tuple))
    nested = several and bool(images) and isinstance(images[0], (list, tuple))
    groups = (
        [list(group) for group in images] if nested else [list(images) if several else [images]]
    )
    counts = {len(group) for group in groups}
    if len(counts) != 1 or 0 in counts:
        raise UserError(
            f"{' and '.join(map(str, sorted(counts)))} pictures are given for an IP-Adapter; "
            "expected at least one, and as many for each sample; give them so"
        )
    return groups
