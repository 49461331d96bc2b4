"""Pictures to look at while a diffusion model trains, under the reference's names.

Shapes: n pictures, C channels, h w sides of what is diffused, H W pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ldm.models.diffusion.batch_conditioning import CLASS_KEYS
from ldm.models.diffusion.empty_conditioning import empty_input
from ldm.models.diffusion.preview_rows import rows_of_states
from ldm.models.diffusion.sampler_arguments import named_by, split_known
from ldm.models.first_stage import IdentityFirstStage, KLFirstStage
from ldm.types import Conditioning
from ldm.util import isimage, ismap, log_txt_as_img

logger = logging.getLogger(__name__)

Pictures = dict[str, Tensor]


class PreviewPixels:
    """Previews of a hub without first stage, mixed into ``PixelDiffusion``."""

    @torch.no_grad()
    def log_images(
        self,
        batch: Mapping[str, Any],
        N: int = 8,  # noqa: N803 - the reference's name
        n_row: int = 2,
        sample: bool = True,
        return_keys: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Pictures:
        """Return pictures in [-1, 1]: (n,C,H,W), those named ``..._row`` one grid (C,H',W').

        Args:
            batch: As for training.
            N: Pictures of each kind, at most.
            n_row: Pictures that are shown noised further and further.
            sample: Also draw samples with the averaged weights, by ancestral sampling: T steps.
            return_keys: Return only these, if any of them is there.
            **kwargs: Accepted and ignored, with a warning.

        Returns:
            ``inputs``, ``diffusion_row``, ``samples``, ``denoise_row``.
        """
        _warn_unused(self, kwargs, PreviewPixels.log_images)
        x = self.get_input(batch, self.first_stage_key).to(self.device)[:N]
        log = {"inputs": x, "diffusion_row": self._get_rows_from_list(_noised(self, x[:n_row]))}
        if sample:
            with self.ema_scope("Plotting"):
                samples, states = self.sample(batch_size=len(x), return_intermediates=True)
            log |= {"samples": samples, "denoise_row": self._get_rows_from_list(states)}
        return _chosen(log, return_keys)

    def _get_rows_from_list(self, samples: Tensor | Sequence[Tensor]) -> Tensor:
        """Lay out n states of B samples (n,B,C,H,W): a line for each sample, (C,H',W')."""
        return rows_of_states(samples)


class PreviewLatents:
    """Previews of a hub with first stage and conditioner, mixed into ``LatentSpaceDiffusion``."""

    @torch.no_grad()
    def log_images(
        self,
        batch: Mapping[str, Any],
        N: int = 8,  # noqa: N803 - the reference's name
        n_row: int = 4,
        sample: bool = True,
        ddim_steps: int | None = 200,
        ddim_eta: float = 1.0,
        return_keys: Sequence[str] | None = None,
        quantize_denoised: bool = True,
        inpaint: bool = True,
        plot_denoise_rows: bool = False,
        plot_progressive_rows: bool = True,
        plot_diffusion_rows: bool = True,
        unconditional_guidance_scale: float = 1.0,
        unconditional_guidance_label: Any = None,
        use_ema_scope: bool = True,
        **kwargs: Any,
    ) -> Pictures:
        """Return pictures in [-1, 1]: (n,C,H,W), those named ``..._row`` one grid (C,H',W').

        The defaults are the reference's, and take minutes; training passes ``light_settings``.

        Args:
            batch: As for training.
            N: Pictures of each kind, at most.
            n_row: Pictures that are shown noised further and further.
            sample: Also draw samples.
            ddim_steps: Steps of DDIM; None draws by ancestral sampling, T steps.
            ddim_eta: Noise added per step of DDIM, 0 to 1.
            return_keys: Return only these, if any of them is there.
            quantize_denoised: Also samples whose estimates are snapped to the codebook, where the
                first stage has one.
            inpaint: Also the middle of the pictures drawn anew, and their surroundings.
            plot_denoise_rows: Also the samples' states along the way.
            plot_progressive_rows: Also the estimates of x0 in ancestral sampling, T steps.
            plot_diffusion_rows: Also the pictures noised further and further.
            unconditional_guidance_scale: Above 1, also samples with this guidance.
            unconditional_guidance_label: See ``get_unconditional_conditioning``.
            use_ema_scope: Draw with the averaged weights.
            **kwargs: Accepted and ignored, with a warning.

        Returns:
            ``inputs``, ``reconstruction``, ``conditioning`` or ``original_conditioning``,
            ``diffusion_row``, ``samples``, ``denoise_row``, ``samples_x0_quantized``,
            ``samples_inpainting``, ``mask`` (n,1,h,w), which is 1 where a latent is kept and 0
            where it is drawn, ``samples_outpainting``, ``samples_cfg_scale_<scale>``,
            ``progressive_row``.

        Raises:
            UserError: Guidance, and the conditioning has no empty form.
        """
        _warn_unused(self, kwargs, PreviewLatents.log_images)
        z, c, x, reconstruction, original = self.get_input(
            batch,
            self.first_stage_key,
            return_first_stage_outputs=True,
            force_c_encode=True,
            return_original_cond=True,
            bs=N,
        )
        # Latents that were computed beforehand come without their pictures.
        log = {"inputs": x} if self.first_stage_key in batch else {}
        log["reconstruction"] = reconstruction
        log |= self._shown_conditioning(batch, c, x, original)
        if plot_diffusion_rows:
            states = [self.decode_first_stage(noised) for noised in _noised(self, z[:n_row])]
            log["diffusion_row"] = rows_of_states(states)
        draw = _Draw(self, z, c, ddim_steps, ddim_eta, use_ema_scope)
        if sample:
            log |= draw.samples(plot_denoise_rows)
            if quantize_denoised and self._has_codebook():
                log["samples_x0_quantized"] = draw(quantize_denoised=True)
        if unconditional_guidance_scale > 1.0:
            scale, label = unconditional_guidance_scale, unconditional_guidance_label
            log[f"samples_cfg_scale_{scale:.2f}"] = draw.guided(scale, label)
        if sample and inpaint:
            log |= draw.painted()
        if plot_progressive_rows:
            log["progressive_row"] = draw.progressive()
        return {**_chosen(log, return_keys), **self.more_images(batch, len(z))}

    def more_images(self, batch: Mapping[str, Any], count: int) -> Pictures:  # noqa: ARG002
        """Return further pictures of the batch's first rows: none here; for subclasses."""
        return {}

    def _has_codebook(self) -> bool:
        return not isinstance(self.first_stage_model, KLFirstStage | IdentityFirstStage)

    def _shown_conditioning(
        self, batch: Mapping[str, Any], c: Conditioning, x: Tensor, original: Any
    ) -> Pictures:
        """Draw the conditioning as far as it can be seen: texts, names of classes, pictures."""
        if self.model.conditioning_key is None:
            return {}
        if isinstance(c, Tensor) and hasattr(self.cond_stage_model, "decode"):
            return {"conditioning": self.cond_stage_model.decode(c)}
        entry = batch.get("human_label") if self.cond_stage_key in CLASS_KEYS else None
        entry = batch.get(self.cond_stage_key) if entry is None else entry
        if isinstance(entry, Tensor) and entry.ndim == 1:
            entry = entry.tolist()
        if isinstance(entry, Sequence):
            texts = [str(text) for text in entry[: len(x)]]
            return {"conditioning": log_txt_as_img((x.shape[3], x.shape[2]), texts)}
        shown = {"conditioning": original} if isimage(original) else {}
        return shown | ({"original_conditioning": self.to_rgb(original)} if ismap(original) else {})

    @torch.no_grad()
    def to_rgb(self, x: Tensor) -> Tensor:
        """Show a map (n,C,h,w) in colours drawn at the first call: (n,3,h,w) in [-1, 1]."""
        x = x.float()
        if not hasattr(self, "colorize"):
            self.colorize = torch.randn(3, x.shape[1], 1, 1).to(x)
        x = torch.nn.functional.conv2d(x, weight=self.colorize.to(x))
        return 2.0 * (x - x.min()) / (x.max() - x.min()) - 1.0

    def _get_denoise_row_from_list(
        self,
        samples: Sequence[Tensor],
        desc: str = "",  # noqa: ARG002 - kept for CompVis
        force_no_decoder_quantization: bool = False,
    ) -> Tensor:
        """Decode n states of B latents, a list of (B,C,h,w), to B lines of n pictures (3,H',W')."""
        options = {"force_not_quantize": force_no_decoder_quantization}
        decoded = [self.decode_first_stage(z.to(self.device), **options) for z in samples]
        return rows_of_states(decoded)


class _Draw:
    """Samples of one batch's conditioning, decoded.

    Args:
        model: A hub.
        z: Its latents of the batch (n,C,h,w).
        cond: Their conditioning.
        steps: Of DDIM, or None.
        eta: Of DDIM.
        averaged: Draw with the averaged weights.
    """

    def __init__(
        self,
        model: Any,
        z: Tensor,
        cond: Conditioning,
        steps: int | None,
        eta: float,
        averaged: bool,
    ):
        self.model, self.z, self.cond = model, z, cond
        self.scope = model.ema_scope if averaged else nullcontext
        ddim = steps is not None
        self.options = {"ddim": ddim, "ddim_steps": steps, "eta": eta}
        # Only where it differs from what sample_log takes by itself, which forks override.
        usual = (model.channels, model.image_size, model.image_size)
        if tuple(z.shape[1:]) != usual:
            self.options["shape"] = tuple(z.shape)[1 if ddim else 0 :]

    def _latents(self, **options: Any) -> tuple[Tensor, Any]:
        with self.scope("Plotting"):
            return self.model.sample_log(
                cond=self.cond, batch_size=len(self.z), **self.options, **options
            )

    def __call__(self, **options: Any) -> Tensor:
        return self.model.decode_first_stage(self._latents(**options)[0])

    def samples(self, with_rows: bool) -> Pictures:
        latents, states = self._latents()
        shown = {"samples": self.model.decode_first_stage(latents)}
        if with_rows:
            states = states["pred_x0"] if isinstance(states, Mapping) else states
            shown["denoise_row"] = self.model._get_denoise_row_from_list(states)
        return shown

    def painted(self) -> Pictures:
        """Draw the middle anew with the rest kept, and the other way round."""
        h, w = self.z.shape[2:]
        keep = torch.ones(len(self.z), 1, h, w, device=self.z.device)
        keep[:, :, h // 4 : 3 * h // 4, w // 4 : 3 * w // 4] = 0.0
        return {
            "samples_inpainting": self(x0=self.z, mask=keep),
            "mask": keep,
            "samples_outpainting": self(x0=self.z, mask=1.0 - keep),
        }

    def guided(self, scale: float, label: Any) -> Tensor:
        given = () if label is None else (label,)  # ControlNet's takes the number alone
        empty = self.model.get_unconditional_conditioning(len(self.z), *given)
        if isinstance(self.cond, Mapping):
            empty = {**self.cond, "c_crossattn": [empty]}  # maps are the same on both sides
        options = {"unconditional_guidance_scale": scale, "unconditional_conditioning": empty}
        return self(**options)

    def progressive(self) -> Tensor:
        shape, count = tuple(self.z.shape[1:]), len(self.z)
        with self.scope("Plotting Progressives"):
            estimates = self.model.progressive_denoising(self.cond, shape=shape, batch_size=count)[
                1
            ]
        return self.model._get_denoise_row_from_list(estimates, desc="Progressive Generation")


def light_settings(model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what training passes to ``log_images``, so that a preview takes seconds.

    A model with a ``log_images`` of its own gets nothing: its defaults are its author's. Guidance
    is asked for only where the batch's conditioning is texts or classes, which have an empty form.
    """
    own = getattr(type(model), "log_images", None)
    if own is not PreviewLatents.log_images:
        return {}
    settings = {
        "ddim_steps": 25,
        "ddim_eta": 0.0,
        "quantize_denoised": False,
        "inpaint": False,
        "plot_progressive_rows": False,
        "plot_diffusion_rows": False,
    }
    # Without dropout the last class is a class like any other.
    trained = model.cond_stage_key not in CLASS_KEYS or model.cond_dropout > 0
    if trained and _has_empty_form(model, batch) and empty_input(model, 1) is not None:
        settings["unconditional_guidance_scale"] = 3.0
    return settings


def _has_empty_form(model: Any, batch: Mapping[str, Any]) -> bool:
    entry = batch.get(model.cond_stage_key)
    texts = isinstance(entry, list | tuple) and all(isinstance(text, str) for text in entry)
    encoded = f"{model.cond_stage_key}_embedding" in batch  # texts that were encoded before
    return model.cond_stage_key in CLASS_KEYS or texts or (entry is None and encoded)


def _noised(model: Any, x: Tensor) -> list[Tensor]:
    """Noise x (n,C,h,w) to the steps at multiples of ``log_every_t`` and to the last one."""
    last = model.num_timesteps - 1
    steps = sorted({*range(0, last + 1, model.log_every_t), last})
    times = (torch.full((len(x),), step, device=model.device) for step in steps)
    return [model.q_sample(x_start=x, t=t, noise=torch.randn_like(x)) for t in times]


def _chosen(log: Pictures, keys: Sequence[str] | None) -> Pictures:
    """Return the pictures of ``keys``; all of them where none of these is there."""
    chosen = {key: log[key] for key in keys or () if key in log}
    return chosen or log


def _warn_unused(model: Any, keywords: Mapping[str, Any], function: Callable) -> None:
    """Warn once of keywords that have no effect; the reference's ImageLogger gives the split."""
    warned = vars(model).setdefault("_warned_of", {"split"})
    split_known(keywords, named_by(function), "log_images", warned)
