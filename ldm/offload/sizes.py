"""Measure a model: the bytes of its stages' weights, its activations, and its work in FLOPs.

Activations are those of the layer that holds the most at once. Elements are counted per row of a
batch, and per position of the latent for the UNet, per pixel for the autoencoder.

Shapes: C channels, h w latent sides, N = h*w positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn

from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.models.first_stage import KLFirstStage
from ldm.modules.attention import SpatialTransformer
from ldm.modules.diffusionmodules import model as vae
from ldm.modules.diffusionmodules.coder_layers import coder_layers
from ldm.modules.diffusionmodules.openaimodel import (
    AttentionBlock,
    Downsample,
    ResBlock,
    TimestepEmbedSequential,
    Upsample,
)
from ldm.offload.pieces import cut
from ldm.offload.stages import UNET, layers_of
from ldm.offload.streaming import SLOTS


@dataclass(frozen=True)
class LayerSize:
    """A layer of the UNet.

    Attributes:
        name: Such as ``input_blocks.1.0``.
        nbytes: Bytes of its weights.
        share: Positions that it works on, as a fraction of the latent's.
        weights: Elements of its kernels and matrices, each used at every position.
        attention: Width of its self-attentions, in which every position meets every other, summed.
    """

    name: str
    nbytes: int
    share: float
    weights: int = 0
    attention: int = 0

    def flops(self, positions: int) -> float:
        """Return the work for one row with this many latent positions, in FLOPs (2 per MAC)."""
        own = positions * self.share
        return 2 * own * self.weights + 4 * own**2 * self.attention


@dataclass(frozen=True)
class Activations:
    """Elements held at the same time.

    Attributes:
        plain: Those in the precision of the run.
        norms: Those in float32 under autocast, else in the precision of the run.
    """

    plain: float = 0.0
    norms: float = 0.0

    def bytes(self, itemsize: int, autocast: bool) -> float:
        """Return the bytes of these elements."""
        return self.plain * itemsize + self.norms * (max(4, itemsize) if autocast else itemsize)


def _weight(activations: Activations) -> float:
    """Return the sort key of activations: their size under autocast."""
    return activations.plain + 2 * activations.norms


@dataclass(frozen=True)
class StageSizes:
    """The sizes that ``measure`` finds.

    Attributes:
        stages: Bytes of weights by stage.
        common: Bytes that are always on the device.
        layers: The UNet's layers, in the order in which they compute.
        factor: Pixels per latent position along a side.
        held: Elements per row that the UNet keeps between its halves.
        work: Peak elements, in addition to ``held``, for a row that is being computed.
        between: Peak elements per row between one layer and the next.
        decoder: Peak elements of the autoencoder's decoder.
        encoder: The same for its encoder.
        middle: The autoencoder's width at its lowest resolution, 0 without weights.
        text: Peak elements of the text encoder for one whole row.
    """

    stages: Mapping[str, int]
    common: int
    layers: tuple[LayerSize, ...]
    factor: int
    held: float
    work: Activations
    between: float
    decoder: Activations = field(default_factory=Activations)
    encoder: Activations = field(default_factory=Activations)
    middle: int = 0
    text: float = 0.0

    @property
    def unet(self) -> int:
        """Bytes of the UNet's weights."""
        return sum(self.stages[half] for half in UNET)

    def rows_meet_in_layers(self, rows: int, positions: int, itemsize: int) -> bool:
        """Return whether a streamed UNet splits rows inside each layer, or else in each half.

        Inside layers, each layer is brought once per call, but the maps between two layers are
        those of all rows. If these maps outgrow what streaming saves over swapping the halves, each
        layer is brought once per part of the rows instead; with maps that large the computation
        takes long enough to hide the copies.

        Args:
            rows: Rows of the batch.
            positions: Positions of a row's latent.
            itemsize: Bytes per element while computing.
        """
        slots = SLOTS * max(layer.nbytes for layer in self.layers)
        saved = max(self.stages[half] for half in UNET) - slots
        return rows * positions * self.between * itemsize <= saved


def measure(model: LatentSpaceDiffusion) -> StageSizes:
    """Measure a model in the precision of its run; it may be on the meta device.

    Raises:
        UserError: The UNet has no halves that can run separately.
    """
    pieces = cut(model)
    nbytes = {piece.name: piece.nbytes for piece in pieces}
    walk = _walk_unet(model.model.diffusion_model)
    shares = {id(layer): share for layer, share in walk.shares}
    layers = layers_of(model)
    named = [item for half in UNET for item in layers[half].items()]
    first_stage = model.first_stage_model
    has_kl = isinstance(first_stage, KLFirstStage)
    return StageSizes(
        stages={stage: sum(p.nbytes for p in group) for stage, group in pieces.stages.items()},
        common=pieces.common.nbytes,
        layers=tuple(_layer(name, m, nbytes[name], shares.get(id(m), 0)) for name, m in named),
        factor=first_stage.downsampling_factor if has_kl else 1,
        held=walk.held,
        work=walk.work,
        between=walk.between,
        decoder=_half_peak(first_stage.decoder) if has_kl else Activations(),
        encoder=_half_peak(first_stage.encoder) if has_kl else Activations(),
        middle=first_stage.decoder.conv_in.out_channels if has_kl else 0,
        text=_text_peak(layers["text"].get("text")),
    )


def _layer(name: str, layer: nn.Module, nbytes: int, share: float) -> LayerSize:
    """Measure a layer; what is computed once per row (time, context) is too little to count."""
    once = ("emb_layers", "attn2.to_k", "attn2.to_v")
    weights = sum(
        tensor.numel()
        for key, tensor in layer.named_parameters()
        if tensor.ndim > 1 and not any(part in key for part in once)
    )
    attention = sum(_attention_width(module) for module in layer.modules())
    return LayerSize(name, nbytes, share, weights if share else 0, attention)


def _attention_width(module: nn.Module) -> int:
    if isinstance(module, SpatialTransformer):
        return sum(block.attn1.to_q.out_features for block in module.transformer_blocks)
    return module.proj_out.in_channels if isinstance(module, AttentionBlock) else 0


@dataclass
class _Walk:
    """Walks through the UNet in the order of computation, and records what is held.

    Attributes:
        channels: Channels of the current map.
        share: Its positions, as a fraction of the latent's.
        skips: Channels of the maps kept for the second half.
        shares: Each layer and the share that it works at.
    """

    channels: int
    share: float = 1.0
    held: float = 0.0
    between: float = 0.0
    work: Activations = field(default_factory=Activations)
    skips: list[int] = field(default_factory=list)
    shares: list[tuple[nn.Module, float]] = field(default_factory=list)

    def run(self, block: nn.Module, joined: int = 0) -> None:
        """Run a block of layers on the map, concatenated with ``joined`` channels of a skip.

        The previous map and the joined one are kept until the block is done.
        """
        # In the first half the incoming map is a skip, and counted as such.
        waiting = (2 * self.channels + joined) * self.share if joined else 0.0
        self.channels += joined
        given = 0.0
        for layer in block if isinstance(block, TimestepEmbedSequential) else [block]:
            inside = _inside(layer, self.channels, self.share)
            work = Activations(waiting + inside.plain, inside.norms)
            self.work = max(self.work, work, key=_weight)
            self._step(layer)
            taken = self.channels * self.share
            self.between = max(self.between, waiting + given + taken)
            given = taken

    def _step(self, layer: nn.Module) -> None:
        self.channels = _channels_after(layer, self.channels)
        # The kernels of a layer that resamples work on the output's positions.
        self.share *= _growth(layer)
        self.shares.append((layer, self.share))


def _walk_unet(unet: nn.Module) -> _Walk:
    walk = _Walk(unet.in_channels)
    for block in unet.input_blocks:
        walk.run(block)
        walk.skips.append(walk.channels)
        walk.held += walk.channels * walk.share
    walk.run(unet.middle_block)
    for block in unet.output_blocks:
        walk.run(block, joined=walk.skips.pop())
    walk.shares.append((unet.out, walk.share))
    return walk


def _growth(layer: nn.Module) -> float:
    """Return the factor by which a layer multiplies the positions of a map."""
    resample = getattr(layer, "h_upd", layer)
    if isinstance(resample, (Upsample, Downsample)):
        return 4.0 if isinstance(resample, Upsample) else 0.25
    return 1.0


def _channels_after(layer: nn.Module, channels: int) -> int:
    return getattr(layer, "out_channels", channels)


def _inside(layer: nn.Module, channels: int, share: float) -> Activations:
    """Return what a layer of the UNet holds at once, its input and output included."""
    at = share * max(1.0, _growth(layer))
    if isinstance(layer, SpatialTransformer):
        # The map, its tokens, and what the feed-forward part makes of them: both halves of its
        # projection, the gate's activation, their product.
        wide = max(block.ff.net[0].proj.out_features for block in layer.transformer_blocks)
        return Activations(at * (3 * channels + 2 * wide), at * channels)
    if isinstance(layer, AttentionBlock):
        return Activations(at * 9 * channels, at * channels)
    if isinstance(layer, ResBlock):
        out = layer.out_channels
        wide = max(channels + 2 * channels, channels + 3 * out)
        return Activations(at * wide, 0.0)
    return Activations(at * (channels + 2 * _channels_after(layer, channels)), 0.0)


def _half_peak(half: nn.Module) -> Activations:
    """Return the peak of one half of the autoencoder, per pixel of the picture."""
    growing = isinstance(half, vae.Decoder)
    peak = Activations()
    share = 0.25 ** (len(half.up) - 1) if growing else 1.0
    for layer in coder_layers(half):
        if isinstance(layer, vae.Upsample):
            share *= 4
        for found in _vae_inside(layer, share):
            peak = max(peak, found, key=_weight)
        if isinstance(layer, vae.Downsample):
            share /= 4
    return peak


def _vae_inside(layer: nn.Module, share: float) -> Iterator[Activations]:
    """Yield what a layer of the autoencoder holds at each of its steps."""
    if isinstance(layer, vae.ResnetBlock):
        # The norms of large maps, which make the peak, take no more under autocast: ``lean_maps``.
        before, after = layer.conv1.in_channels, layer.conv1.out_channels
        yield Activations(share * 3 * before)
        yield Activations(share * (before + 3 * after))
    elif isinstance(layer, vae.AttnBlock):
        yield Activations(share * 7 * layer.q.in_channels, share * layer.q.in_channels)
    elif isinstance(layer, (vae.Upsample, vae.Downsample)) and getattr(layer, "conv", None):
        yield Activations(share * 2.25 * layer.conv.in_channels)


def _text_peak(encoder: nn.Module | None) -> float:
    """Return a text encoder's elements for a row: a few times its tokens at their widest."""
    if encoder is None:
        return 0.0
    widths = [m.out_features for m in encoder.modules() if isinstance(m, nn.Linear)]
    return 4.0 * getattr(encoder, "max_length", 1) * max(widths, default=0)
