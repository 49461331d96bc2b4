"""A device plan for one model: which of its stages are on the device, and when.

    policy      on the device while sampling      while text is encoded or pictures decoded
    resident    everything used so far            everything used so far
    turbo       both halves of the UNet           that stage
    four-part   the half that computes            that stage
    stream      two layers, and resident ones     that stage

Modules, names and checkpoint keys do not change; a plan only swaps the tensors that the modules
refer to, and wraps a few methods. One copy of the weights stays on the host, so leaving the device
costs nothing; the text's table of tokens never leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.models.first_stage import KLFirstStage
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.offload.home import PLANS
from ldm.offload.movers import Mover, mover_for
from ldm.offload.pieces import Piece, Pieces, cut
from ldm.offload.rows import in_rows
from ldm.offload.settings import POLICIES, PlanSettings
from ldm.offload.sizes import StageSizes, measure
from ldm.offload.stages import STAGES, UNET, Ledger, layers_of, tables_of
from ldm.offload.streaming import Streamer
from ldm.wrapping import Wrapping, is_stood_in

__all__ = ["POLICIES", "PlanSettings", "StagePlan"]


class StagePlan:
    """Runs a model's stages on a device in turn.

    Between ``attach`` and ``detach`` the model is used as usual, without gradients and one stage at
    a time. On a device with its own memory the autoencoder works picture by picture; on the CPU it
    takes the whole batch, which gives the same bits as without a plan.

    What stays on the device: ``resident`` keeps every stage from its first use until ``detach``.
    The UNet of ``turbo`` and the resident blocks of ``stream`` leave when the text encoder or the
    autoencoder is needed. An exception (``KeyboardInterrupt`` included) inside a stage frees the
    device, with these three policies too, except that ``resident`` keeps the stages that are
    complete. ``release`` frees the device at any time.

    Args:
        model: In evaluation mode, on the CPU, in the precision of the run.
        settings: How to run it.
        device: Where its stages compute.
        ledger: Records arrivals and departures.
        mover: Moves the weights; by default the one for ``device``.
    """

    def __init__(
        self,
        model: LatentSpaceDiffusion,
        settings: PlanSettings,
        device: torch.device,
        *,
        ledger: Ledger | None = None,
        mover: Mover | None = None,
    ):
        self.model, self.settings, self.device = model, settings, torch.device(device)
        self.ledger = ledger or Ledger()
        self._mover = mover
        self._pieces: Pieces | None = None
        self._wrapping = Wrapping()
        self._streamer: Streamer | None = None
        self._sizes: StageSizes | None = None
        self._rooms: dict[str, Tensor] = {}
        self._current: str | None = None

    def attach(self) -> StagePlan:
        """Start managing the model; its schedule and other small tensors move to the device.

        Raises:
            UserError: The model is in training mode, not on the CPU, has a plan already, or does
                not fit the settings.
        """
        _check_model(self.model)
        _check_settings(self.model, self.settings)
        self._mover = self._mover or mover_for(self.device)
        pieces = cut(self.model)
        self._mover.settle([*pieces, pieces.common])
        self._pieces = pieces
        try:
            if self._mover.moves:
                self._bring(pieces.common, self._mover.room(pieces.common.nbytes))
            self._wrap()
            self._start_streaming()
            PLANS[id(self.model.model.diffusion_model)] = self
        except BaseException:
            self.detach()
            raise
        return self

    def detach(self) -> None:
        """Restore the model as it was: on the CPU, with its own methods."""
        if self._pieces is None:
            return
        self._stop_streaming()
        self._wrapping.undo()
        self.release()
        self._pieces.common.go_home()
        self._pieces = None
        PLANS.pop(id(self.model.model.diffusion_model), None)
        self._mover.trim()

    def change(self, settings: PlanSettings) -> None:
        """Switch to other settings, between batches; everything leaves the device first.

        Raises:
            UserError: The model does not fit the settings.
            RuntimeError: A stage is in use.
        """
        _check_settings(self.model, settings)
        if self._current is not None:
            raise RuntimeError(f"the plan cannot change while {self._current} is in use")
        if self._pieces is not None:
            self._stop_streaming()
            self.release()
            self._mover.trim()
        self.settings = settings
        if self._pieces is not None:
            self._start_streaming()

    @property
    def in_use(self) -> str | None:
        """The stage that is in use."""
        return self._current

    def release(self) -> None:
        """Free the device of everything except the schedule."""
        if self._streamer is not None:
            self._streamer.close()
        for stage in STAGES:
            self._unload(stage)
        self._rooms.clear()

    def _start_streaming(self) -> None:
        if self.settings.policy != "stream":
            return
        layers = layers_of(self.model)
        self._sizes = measure(self.model)
        self._streamer = Streamer(
            [self._pieces.stages[half] for half in UNET],
            {name: layer for half in UNET for name, layer in layers[half].items()},
            resident=self.settings.resident_blocks,
            mover=self._mover,
            ledger=self.ledger,
        )
        self._streamer.attach()

    def _stop_streaming(self) -> None:
        if self._streamer is not None:
            self._streamer.detach()
            self._streamer = None

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Keep a stage on the device inside the ``with`` block, which may be nested.

        With ``stream`` the UNet's layers are brought one by one as they compute.

        Raises:
            UserError: The stage is unknown, or gradients or training mode are on.
            RuntimeError: Not attached, or another stage is in use.
        """
        self._check_use(stage)
        if self._current == stage:
            yield
            return
        self._current = stage
        try:
            self._enter(stage)
            yield
            self._leave(stage)
        except BaseException:
            self._give_up(stage)
            raise
        finally:
            self._current = None

    def _check_use(self, stage: str) -> None:
        if stage not in STAGES:
            raise UserError(f"stage {stage!r} given; expected one of {', '.join(STAGES)}")
        if self._pieces is None:
            raise RuntimeError("the plan has no charge of the model; call attach() first")
        if self._current not in (None, stage):
            raise RuntimeError(
                f"stage {stage} is asked for while {self._current} is in use; stages take turns: "
                f"leave the block of {self._current} first"
            )
        if self.model.training or torch.is_grad_enabled():
            found = "in training mode" if self.model.training else "with gradients"
            raise UserError(
                f"the model is used {found} under a plan of devices, which is for inference; "
                "call model.eval() and work inside torch.no_grad(), or detach the plan"
            )

    def _enter(self, stage: str) -> None:
        beside = self.settings.keeps if stage in self.settings.keeps else ()
        for other in STAGES:
            if other in self.ledger.resident and other not in (stage, *beside):
                self._unload(other)
        if stage not in UNET:
            self._rooms.pop("halves", None)
        if self._streamer is None:
            self._load(stage)
        elif stage in UNET:
            self._streamer.open()
        else:
            self._streamer.close()
            self._load(stage)

    def _leave(self, stage: str) -> None:
        if self._streamer is not None and stage in UNET:
            if stage == "unet_decode":  # resident layers stay for the next step
                self._streamer.rest()
        elif stage not in self.settings.keeps:
            self._unload(stage)

    def _give_up(self, stage: str) -> None:
        if self.settings.policy != "resident":
            self.release()
        elif stage not in self.ledger.resident:
            self._unload(stage)

    def _load(self, stage: str) -> None:
        if stage in self.ledger.resident:
            return
        pieces = self._pieces.stages[stage]
        if self._mover.moves:
            room, start = self._room(stage), 0
            for piece in pieces:
                self._bring(piece, room[start : start + piece.nbytes])
                start += piece.nbytes
        self.ledger.load(stage, sum(piece.nbytes for piece in pieces))

    def _room(self, stage: str) -> Tensor:
        """Return memory for a stage; halves that take turns share one block.

        If two blocks of different size were freed and allocated at every step, the allocator would
        keep both.
        """
        together = UNET if stage in UNET and stage not in self.settings.keeps else (stage,)
        name = stage if together == (stage,) else "halves"
        if name not in self._rooms:
            sizes = (sum(p.nbytes for p in self._pieces.stages[part]) for part in together)
            self._rooms[name] = self._mover.room(max(sizes))
        return self._rooms[name]

    def _bring(self, piece: Piece, room: Tensor) -> None:
        self._mover.fetch(piece, room)
        piece.show(piece.copies(room))

    def _unload(self, stage: str) -> None:
        for piece in self._pieces.stages[stage]:
            piece.go_home()
        self._rooms.pop(stage, None)
        self.ledger.unload(stage)

    def _wrap(self) -> None:
        """Wrap the methods that call the stages."""
        model, unet, put = self.model, self.model.model.diffusion_model, self._wrapping.put
        put(unet, "encode", self._encode_unet)
        put(unet, "decode", self._decode_unet)
        first_stage, conditioner = model.first_stage_model, model.cond_stage_model
        pictures = isinstance(first_stage, KLFirstStage)
        put(first_stage, "encode", self._encode_pictures if pictures else self._first_stage)
        put(first_stage, "decode", self._decode_pictures if pictures else self._first_stage)
        if hasattr(first_stage, "quantize"):
            put(first_stage, "quantize", self._first_stage)
        shared = conditioner is first_stage
        named = model.cond_stage_forward or "encode"
        for name in {"forward", "encode", "encode_ids", named}:
            if hasattr(conditioner, name) and not is_stood_in(conditioner, name):
                put(conditioner, name, self._first_stage if shared else self._text)
        for table in tables_of(model):
            put(table, "forward", self._look_up)
        if model.use_ema:
            put(model, "ema_scope", self._ema_scope)

    def _rows_of_half(self, first: Tensor) -> int | None:
        """Return the rows that a half computes at a time, given a map (B, C, h, w) of the latent.

        If streamed layers split the rows themselves, a half takes all of them.
        """
        rows = self.settings.unet_rows
        if self._streamer is None:
            return rows
        positions, itemsize = first[0, 0].numel(), self.model.model.diffusion_model.dtype.itemsize
        inside = self._sizes.rows_meet_in_layers(len(first), positions, itemsize)
        self._streamer.take_turns(rows, inside=inside)
        return None if inside else rows

    def _encode_unet(
        self,
        own: Callable,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
    ) -> Any:
        with self.on("unet_encode"):
            return in_rows(own, self._rows_of_half(x), x, timesteps, context, y)

    def _decode_unet(
        self, own: Callable, h: Tensor, emb: Tensor, skips: Any, context: Tensor | None = None
    ) -> Tensor:
        with self.on("unet_decode"):
            return in_rows(own, self._rows_of_half(skips[0]), h, emb, skips, context)

    def _text(self, own: Callable, *args: Any, **kwargs: Any) -> Any:
        with self.on("text"):
            return own(*args, **kwargs)

    def _look_up(self, own: Callable, ids: Tensor) -> Tensor:
        """Look rows of a table up where it is, on the host, and bring them."""
        return own(ids.cpu()).to(self.device)

    def _first_stage(self, own: Callable, *args: Any, **kwargs: Any) -> Any:
        with self.on("autoencoder"):
            return own(*args, **kwargs)

    def _encode_pictures(self, own: Callable, x: Tensor) -> DiagonalGaussianDistribution:
        def moments(pictures: Tensor) -> Tensor:
            return (self._tiled("encode", pictures) if tiled else own(pictures)).parameters

        tiled = self.settings.tiled_decode
        with self.on("autoencoder"):
            return DiagonalGaussianDistribution(in_rows(moments, self._pictures_at_once, x))

    def _decode_pictures(self, own: Callable, z: Tensor) -> Tensor:
        decode = partial(self._tiled, "decode") if self.settings.tiled_decode else own
        with self.on("autoencoder"):
            return in_rows(decode, self._pictures_at_once, z)

    @property
    def _pictures_at_once(self) -> int | None:
        return 1 if self._mover.moves else None

    def _tiled(self, direction: str, x: Tensor) -> Any:
        from ldm.models.tiling.tiled import decode_in_tiles, encode_in_tiles

        work = encode_in_tiles if direction == "encode" else decode_in_tiles
        return work(self.model.first_stage_model, x)

    @contextmanager
    def _ema_scope(self, own: Callable, context: str | None = None) -> Iterator[None]:
        """Swap weights and averages on the host, while nothing is on the device."""
        self.release()
        with own(context):
            try:
                yield
            finally:
                self.release()


def _check_model(model: nn.Module) -> None:
    if model.training:
        raise UserError("the model is in training mode; a plan needs inference; call model.eval()")
    if is_stood_in(model.model.diffusion_model, "encode"):
        raise UserError("the model is under a plan of devices already; detach that one first")
    elsewhere = {t.device for t in model.parameters()} - {torch.device("cpu")}
    if elsewhere:
        raise UserError(
            f"the model is on {', '.join(map(str, elsewhere))}; expected the CPU, where a plan "
            "keeps the weights; call model.cpu() first"
        )


def _check_settings(model: LatentSpaceDiffusion, settings: PlanSettings) -> None:
    layers = layers_of(model)
    names = {name for stage in UNET for name in layers[stage]}
    unknown = sorted(settings.resident_blocks - names)
    if unknown:
        raise UserError(
            f"resident_blocks names {unknown[0]!r}; expected layers of the UNet such as "
            f"{next(iter(names))!r}; correct it"
        )
    first_stage = model.first_stage_model
    has_weights = next(first_stage.parameters(), None) is not None
    if settings.tiled_decode and has_weights and not isinstance(first_stage, KLFirstStage):
        raise UserError(
            f"tiled_decode given for a {type(first_stage).__name__}; expected an AutoencoderKL; "
            "leave it out"
        )
