"""The optimizedSD fork's three models: thin views of ``ldm``'s, for code that builds them.

    UNet: model1 (first half), model2 (second half), the schedule
    FirstStage: first_stage_model        CondStage: cond_stage_model

A v1 checkpoint becomes theirs by ``ldm.checkpoint.diffusers.keymaps.split_unet``. The programs in
this folder do not use them: they run ``LatentDiffusion`` under a plan of devices (``ldm.offload``).

Shapes: B batch, C latent channels, h w latent sides, H W pixels, L D text tokens and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ldm.building import build_from
from ldm.errors import UserError
from ldm.models.diffusion.forward_process import ForwardProcess
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.models.diffusion.pixel_diffusion import PixelDiffusion
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.models.diffusion.wrapper import DiffusionWrapper
from ldm.offload.rows import in_rows
from ldm.process.prediction import check_parameterization
from ldm.rng import PerImageNoise


class DiffusionWrapperOut(DiffusionWrapper):
    """The second half behind a conditioning key: only tokens enter here."""

    def forward(
        self,
        h: Tensor,
        emb: Tensor,
        dtype: torch.dtype,
        hs: Sequence[Tensor],
        c_crossattn: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Predict from what the first half returned; see ``UNetModelDecode``."""
        crosses = self.conditioning_key in ("crossattn", "hybrid")
        context = torch.cat(list(c_crossattn), dim=1) if crosses else None
        return self.diffusion_model(h, emb, dtype, hs, context)


class UNet(ForwardProcess):
    """A UNet in two halves with its noise schedule: what a sampler needs of a model.

    Args:
        unetConfigEncode: ``target`` / ``params`` of the first half.
        unetConfigDecode: The same of the second.
        timesteps: T, the number of training steps.
        beta_schedule: Name for ``make_beta_schedule``.
        linear_start: First beta.
        linear_end: Last beta.
        cosine_s: Offset of the cosine schedule.
        conditioning_key: Where conditioning enters, see ``DiffusionWrapper``.
        parameterization: What the network predicts: eps, x0 or v.
        unet_bs: Rows of a batch computed at a time; None for all.

    Attributes:
        cdevice: Where a half goes for its turn; None computes where its weights are.
        turbo: Both halves stay on ``cdevice`` until ``sample`` returns.
    """

    def __init__(
        self,
        unetConfigEncode: Mapping[str, Any],  # noqa: N803 - the fork's name
        unetConfigDecode: Mapping[str, Any],  # noqa: N803 - the fork's name
        timesteps: int = 1000,
        beta_schedule: str = "linear",
        linear_start: float = 1e-4,
        linear_end: float = 2e-2,
        cosine_s: float = 8e-3,
        conditioning_key: str | None = "crossattn",
        parameterization: str = "eps",
        unet_bs: int | None = 1,
    ):
        super().__init__()
        self.parameterization = check_parameterization(parameterization)
        self.register_schedule(None, beta_schedule, timesteps, linear_start, linear_end, cosine_s)
        self.model1 = DiffusionWrapper(unetConfigEncode, conditioning_key)
        self.model2 = DiffusionWrapperOut(unetConfigDecode, conditioning_key)
        self.unet_bs, self.turbo = unet_bs, False
        self.cdevice: str | torch.device | None = None

    @property
    def device(self) -> torch.device:
        """Where samples are computed."""
        return super().device if self.cdevice is None else torch.device(self.cdevice)

    @property
    def model(self) -> _Halves:
        """Both halves, called as the wrapper of a whole UNet."""
        return _Halves(self)

    apply_model = PixelDiffusion.apply_model
    _predict = PixelDiffusion._predict

    @torch.no_grad()
    def sample(
        self,
        S: int,  # noqa: N803 - the fork's name
        conditioning: Tensor,
        *,
        shape: Sequence[int],
        seed: int = 1234,
        sampler: str = "plms",
        **options: Any,
    ) -> Tensor:
        """Sample from noise.

        Args:
            S: Steps.
            conditioning: Conditioning of B rows.
            shape: (B, C, h, w).
            seed: Of the first picture; those after it count up.
            sampler: Its name, see ``ldm.models.diffusion.sampler_registry``.
            **options: Further keywords of ``Sampler.sample``.

        Returns:
            Latents (B, C, h, w).

        Raises:
            UserError: An unknown sampler, or ``x0`` without a mask.
            TypeError: An unknown keyword.
        """
        if options.get("x0") is not None and options.get("mask") is None:
            raise UserError(
                "x0 given without a mask; this view samples from noise; to start from a picture "
                "run optimizedSD/optimized_img2img.py"
            )
        noise = PerImageNoise(range(seed, seed + shape[0]))
        walker = make_sampler(sampler, self, noise=noise)
        with ExitStack() as stay:
            for half in (self.model1, self.model2) if self.turbo else ():
                stay.enter_context(self.visit(half))
            return walker.sample(S, shape[0], tuple(shape[1:]), conditioning, **options)[0]

    @contextmanager
    def visit(self, half: nn.Module) -> Iterator[None]:
        """Have a half on ``cdevice`` inside; it goes back to where it was, on errors too."""
        home = _place(half)
        target = home if self.cdevice is None else torch.device(self.cdevice)
        try:
            if target != home:
                half.to(target)
            yield
        finally:
            if target != home:
                half.to(home)


class _Halves:
    """Runs a view's halves one after the other, each on its device for all rows."""

    def __init__(self, unet: UNet):
        self.unet = unet
        self.conditioning_key = unet.model1.conditioning_key

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Sequence[Tensor] | None = None,
        c_crossattn: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Predict; see ``DiffusionWrapper.forward``."""
        unet, rows = self.unet, self.unet.unet_bs
        with unet.visit(unet.model1):
            h, emb, hs = in_rows(unet.model1, rows, x, t, c_concat, c_crossattn)
        with unet.visit(unet.model2):
            return in_rows(unet.model2, rows, h, emb, h.dtype, hs, c_crossattn)


class FirstStage(nn.Module):
    """The autoencoder and the scale of its latents, with the hub's own methods.

    Args:
        first_stage_config: ``target`` / ``params`` of the autoencoder; it is frozen.
        scale_factor: Multiplies latents after encoding.
    """

    def __init__(self, first_stage_config: Mapping[str, Any], scale_factor: float = 1.0):
        super().__init__()
        self.scale_factor = scale_factor
        first_stage = build_from(first_stage_config, where="first_stage_config")
        self.first_stage_model = first_stage.eval().requires_grad_(False)

    encode_first_stage = LatentSpaceDiffusion.encode_first_stage
    get_first_stage_encoding = LatentSpaceDiffusion.get_first_stage_encoding
    decode_first_stage = LatentSpaceDiffusion.decode_first_stage
    _decode = LatentSpaceDiffusion._decode
    _code = LatentSpaceDiffusion._code
    _first_stage_dtype = LatentSpaceDiffusion._first_stage_dtype


class CondStage(nn.Module):
    """The conditioner, with the hub's own method.

    Args:
        cond_stage_config: ``target`` / ``params`` of the conditioner; it is frozen.
        cond_stage_forward: Name of the conditioner's method to call.
    """

    def __init__(self, cond_stage_config: Mapping[str, Any], cond_stage_forward: str | None = None):
        super().__init__()
        self.cond_stage_forward = cond_stage_forward
        conditioner = build_from(cond_stage_config, where="cond_stage_config")
        self.cond_stage_model = conditioner.eval().requires_grad_(False)

    get_learned_conditioning = LatentSpaceDiffusion.get_learned_conditioning


def _place(half: nn.Module) -> torch.device:
    return next(half.parameters()).device
