"""Diffusion of latents by a UNet, between a first stage and a conditioner, as drawing needs it.

``ldm.models.diffusion.ddpm.LatentDiffusion`` is this and training, under Lightning. Drawing builds
this class, because importing Lightning takes seconds.
Shapes: B batch, C latent channels, h w latent sides, H W pixels, L D text tokens and width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ldm.building import place
from ldm.errors import UserError
from ldm.models.diffusion.pixel_diffusion import PixelDiffusion
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.rng import NoiseSource
from ldm.util import instantiate_from_config

if TYPE_CHECKING:  # reading a class imports no Pillow
    from PIL import Image


class LatentSpaceDiffusion(PixelDiffusion):
    """Diffusion in the latents of a first stage, conditioned: arXiv:2112.10752, without training.

    Args:
        first_stage_config: ``target`` / ``params`` of the autoencoder; it stays frozen.
        cond_stage_config: The same for the conditioner, or ``__is_first_stage__`` or
            ``__is_unconditional__``.
        num_timesteps_cond: Steps of a shorter schedule that noises the conditioning, see
            ``make_cond_schedule``; 1 or None for none.
        cond_stage_key: Entry of a batch that holds the conditioning.
        cond_stage_trainable: Train the conditioner too.
        concat_mode: Default conditioning key: concat, else crossattn.
        cond_stage_forward: Name of the conditioner's method to call.
        conditioning_key: Where conditioning enters.
        scale_factor: Multiplies latents after encoding.
        scale_by_std: Set it from the first batch, to unit variance, and store it.
        cond_dropout: Share of training captions replaced by the empty one, for guidance.
        unet_trainable: What of the UNet learns, see ``choose_trainable``.
        ckpt_path: Checkpoint to start from.
        ignore_keys: Prefixes of its keys to leave out.
        load_only_unet: Take only the network's weights from it.
        **kwargs: Parameters of ``PixelDiffusion``.
    """

    def __init__(
        self,
        first_stage_config: Mapping[str, Any],
        cond_stage_config: Mapping[str, Any] | str,
        num_timesteps_cond: int | None = None,
        cond_stage_key: str = "image",
        cond_stage_trainable: bool = False,
        concat_mode: bool = True,
        cond_stage_forward: str | None = None,
        conditioning_key: str | None = None,
        scale_factor: float = 1.0,
        scale_by_std: bool = False,
        cond_dropout: float = 0.0,
        unet_trainable: bool | str = True,
        ckpt_path: str | None = None,
        ignore_keys: Sequence[str] = (),
        load_only_unet: bool = False,
        **kwargs: Any,
    ):
        # Before the base's constructor, which registers the schedule.
        self.num_timesteps_cond = num_timesteps_cond or 1
        if cond_stage_config == "__is_unconditional__":
            conditioning_key = None
        elif conditioning_key is None:
            conditioning_key = "concat" if concat_mode else "crossattn"
        super().__init__(conditioning_key=conditioning_key, **kwargs)
        self.cond_stage_key, self.cond_stage_forward = cond_stage_key, cond_stage_forward
        self.cond_stage_trainable, self.cond_dropout = cond_stage_trainable, cond_dropout
        self.scale_by_std, self.concat_mode = scale_by_std, concat_mode
        self.clip_denoised = False  # latents have no range to be cut to
        self.bbox_tokenizer: Any = None
        if scale_by_std:
            self.register_buffer("scale_factor", torch.tensor(scale_factor, device="cpu"))
        else:
            self.scale_factor = scale_factor
        self.num_downs = _halvings(first_stage_config)  # for forks, as in the reference
        self.instantiate_first_stage(first_stage_config)
        self.instantiate_cond_stage(cond_stage_config)
        choose_trainable(self.model.diffusion_model, unet_trainable)
        # Here and not in DDPM: a checkpoint has the weights of all parts.
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys, load_only_unet)
        self.restarted_from_ckpt = ckpt_path is not None and not load_only_unet

    def register_schedule(self, *args: Any, **kwargs: Any) -> None:
        """Make the schedule's buffers, and the conditioning's shorter schedule if there is one."""
        super().register_schedule(*args, **kwargs)
        self.shorten_cond_schedule = self.num_timesteps_cond > 1
        if self.shorten_cond_schedule:
            self.make_cond_schedule()

    def make_cond_schedule(self) -> None:
        """Set ``cond_ids`` (T,): the step to which conditioning is noised at each training step.

        The first ``num_timesteps_cond`` are spread evenly over the schedule, the rest is its end.

        Raises:
            UserError: More of them than training steps.
        """
        count, steps = self.num_timesteps_cond, self.num_timesteps
        if count > steps:
            raise UserError(
                f"num_timesteps_cond {count} given; expected at most timesteps, {steps}; lower it"
            )
        spread = torch.linspace(0, steps - 1, count, device="cpu").round().long()
        rest = torch.full((steps - count,), steps - 1, device="cpu")
        self.cond_ids = torch.cat([spread, rest])

    def instantiate_first_stage(self, config: Mapping[str, Any]) -> None:
        """Build ``first_stage_model``, frozen."""
        with place("first_stage_config"):
            first_stage = instantiate_from_config(config)
        self.first_stage_model = first_stage.eval().requires_grad_(False)

    def instantiate_cond_stage(self, config: Mapping[str, Any] | str) -> None:
        """Build ``cond_stage_model``, frozen unless it is to learn; None for unconditional models.

        Raises:
            UserError: It is to learn, and is the first stage or nothing.
        """
        if isinstance(config, str) and self.cond_stage_trainable:
            raise UserError(
                f"cond_stage_trainable is true, but cond_stage_config is {config}; expected a"
                " conditioner that can learn; leave cond_stage_trainable out"
            )
        if config == "__is_first_stage__":
            self.cond_stage_model = self.first_stage_model
            return
        with place("cond_stage_config"):
            self.cond_stage_model = instantiate_from_config(config)
        if self.cond_stage_model is not None and not self.cond_stage_trainable:
            self.cond_stage_model.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> LatentSpaceDiffusion:
        """Set training mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        # A subclass's hook may set no first stage, or one that learns.
        if self.first_stage_model is not None and not _learns(self.first_stage_model):
            self.first_stage_model.eval()
        if self.cond_stage_model is not None and not self.cond_stage_trainable:
            self.cond_stage_model.eval()
        return self

    def get_learned_conditioning(self, c: Any) -> Tensor:
        """Encode prompts (list of B texts), or what the conditioner takes: (B, L, D)."""
        if self.cond_stage_forward is not None:
            return getattr(self.cond_stage_model, self.cond_stage_forward)(c)
        encode = getattr(self.cond_stage_model, "encode", self.cond_stage_model)
        encoded = encode(c)
        return encoded.mode() if isinstance(encoded, DiagonalGaussianDistribution) else encoded

    @torch.no_grad()
    def encode_prompt(self, prompts: str | Sequence[str]) -> Tensor:
        """Encode a prompt, or B of them, without gradients: (B, L, D)."""
        return self.get_learned_conditioning([prompts] if isinstance(prompts, str) else [*prompts])

    @torch.no_grad()
    def encode_picture(self, pictures: Image.Image | Sequence[Image.Image]) -> Tensor:
        """Encode a picture, or B of one size, as the diffusion sees them.

        Returns:
            The posterior's mode, scaled: (B, C, h, w). Nothing is random.

        Raises:
            UserError: There is none, their sizes differ, or the first stage has none like it.
        """
        from PIL import Image

        from ldm.images.io import to_tensor

        pictures = [pictures] if isinstance(pictures, Image.Image) else [*pictures]
        sizes = sorted({picture.size for picture in pictures})
        factor = 2**self.num_downs
        if len(sizes) != 1 or any(side % factor for side in sizes[0]):
            given = ", ".join(f"{w}x{h}" for w, h in sizes) or "nothing"
            raise UserError(
                f"pictures of {given} were given; expected one size, with sides that are "
                f"multiples of {factor}; resize or cut them"
            )
        x = torch.cat([to_tensor(picture) for picture in pictures]).to(self.device)
        code = self.encode_first_stage(x)
        mode = code.mode() if isinstance(code, DiagonalGaussianDistribution) else code
        return self.get_first_stage_encoding(mode)

    def decode_latent(self, z: Tensor) -> list[Image.Image]:
        """Decode latents (B, C, h, w) to B pictures that can be shown and saved."""
        from PIL import Image

        from ldm.images.io import to_uint8

        return [Image.fromarray(pixels) for pixels in to_uint8(self.decode_first_stage(z))]

    @torch.no_grad()
    def encode_first_stage(self, x: Tensor) -> DiagonalGaussianDistribution | Tensor:
        """Encode pictures (B, 3, H, W) in [-1, 1], without gradients."""
        x = x.to(self._first_stage_dtype(x))
        return self._code(self.first_stage_model.encode, x, up=False)

    def get_first_stage_encoding(
        self,
        encoder_posterior: DiagonalGaussianDistribution | Tensor,
        noise: NoiseSource | None = None,
    ) -> Tensor:
        """Draw a latent (B, C, h, w) from the posterior, scaled; the numbers are the CPU's."""
        z = encoder_posterior
        if isinstance(z, DiagonalGaussianDistribution):
            # Not as an argument of ``sample``, which has none in the reference.
            numbers = None if noise is None else noise.randn(z.mean.shape, "cpu").to(z.mean)
            z = z.sample() if noise is None else z.mean + z.std * numbers
        return self.scale_factor * z

    @torch.no_grad()
    def decode_first_stage(
        self, z: Tensor, predict_cids: bool = False, force_not_quantize: bool = False
    ) -> Tensor:
        """Decode latents (B, C, h, w) to pictures (B, 3, H, W), about [-1, 1], unclamped.

        Without gradients; ``differentiable_decode_first_stage`` is the same with them.

        Args:
            z: Latents; with ``predict_cids`` scores of the codebook's entries (B, n_embed, h, w),
                or their numbers (B, h, w).
            predict_cids: Decode the best entry at each place.
            force_not_quantize: Leave latents of a codebook's first stage as they are.
        """
        return self._decode(z, predict_cids, force_not_quantize)

    def differentiable_decode_first_stage(
        self, z: Tensor, predict_cids: bool = False, force_not_quantize: bool = False
    ) -> Tensor:
        """Decode as ``decode_first_stage``, so that gradients reach ``z``."""
        return self._decode(z, predict_cids, force_not_quantize)

    def _decode(self, z: Tensor, predict_cids: bool, force_not_quantize: bool) -> Tensor:
        decode = self.first_stage_model.decode
        if predict_cids:
            best = z.argmax(dim=1) if z.ndim == 4 else z.long()  # (B, h, w)
            z = self.first_stage_model.quantize.get_codebook_entry(best, (*best.shape, -1))
        quantizes = "force_not_quantize" in inspect.signature(decode).parameters
        if quantizes and (force_not_quantize or predict_cids):
            decode = partial(decode, force_not_quantize=True)
        z = (1.0 / self.scale_factor * z).to(self._first_stage_dtype(z))
        return self._code(decode, z, up=True)

    def _code(self, function: Callable[[Tensor], Any], x: Tensor, *, up: bool) -> Any:
        """Encode or decode, in patches if ``split_input_params`` says so: ``code_in_patches``."""
        if (split := getattr(self, "split_input_params", None)) is None:
            return function(x)
        from ldm.models.tiling.patches import code_in_patches

        weighting = getattr(self, "get_weighting", None)
        return code_in_patches(function, x, split, up=up, weighting=weighting)

    def _first_stage_dtype(self, x: Tensor) -> torch.dtype:
        return next(self.first_stage_model.parameters(), x).dtype


def _learns(part: nn.Module) -> bool:
    return any(p.requires_grad for p in part.parameters())


_TRAINABLE = {
    "all": lambda name: True,  # noqa: ARG005 - every parameter
    "attn": lambda name: ".attn2." in name,
    "conv_in": lambda name: name.startswith("input_blocks.0."),
    "none": lambda name: False,  # noqa: ARG005 - no parameter
}


def choose_trainable(unet: nn.Module, what: bool | str) -> None:
    """Freeze the parameters of a UNet that are not to learn.

    Args:
        unet: Has the reference's parameter names.
        what: ``all`` or True; ``attn``, the cross-attentions, which hold what words mean;
            ``conv_in``, the first convolution; ``none`` or False, when only the conditioner learns.

    Raises:
        UserError: Any other name.
    """
    what = {True: "all", False: "none"}.get(what, what)
    if what not in _TRAINABLE:
        raise UserError(
            f"unet_trainable {what!r} given; expected one of {', '.join(_TRAINABLE)}, true or false"
        )
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and _TRAINABLE[what](name))


def _halvings(first_stage_config: Any) -> int:
    """Count how often a first stage halves a picture's sides, 0 where its configuration is mute."""
    try:
        return len(first_stage_config["params"]["ddconfig"]["ch_mult"]) - 1
    except (LookupError, TypeError, AttributeError):
        return 0
