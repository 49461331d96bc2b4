"""The ways of running a model that are compared for memory: our policies and diffusers' offloads.

Each is a ``Side``: the same three calls, a batch of prompts to a context, one step of the UNet, and
latents to pictures. Weights are random, as no figure here depends on them.
Shapes: B rows, L tokens, D context width, h w latent sides, H W pixels.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from benchmarks.sampling import diffusers_config
from ldm.config import build
from ldm.modules.encoders.clip_text import CLIPTextConfig
from ldm.offload.budget import estimate, measure
from ldm.offload.plan import PlanSettings, StagePlan
from ldm.pipelines.run import Execution
from ldm.pipelines.staging import StagedModel, Staging

TOKENS = 77


class Side(Protocol):
    """What is measured.

    Attributes:
        device: Where it computes.
        factor: Pixels along a side of a position of the latent.
    """

    device: torch.device
    factor: int

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts: (B, L, D)."""

    def unet(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """Predict at x (B, 4, h, w), t (B,), context (B, L, D)."""

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents (B, 4, h, w) to pictures (B, 3, H, W)."""


class Ours:
    """This project's model under a plan of devices, as the programs for small devices run it.

    Args:
        config: The model's configuration.
        half: Weights and arithmetic of half precision, else float32.
        device: Where it computes.
        options: ``PlanSettings``.
    """

    def __init__(
        self, config: DictConfig, half: bool, device: torch.device, options: dict[str, Any]
    ) -> None:
        staging = Staging(precision="autocast" if half else "full")
        model = build(config).eval().requires_grad_(False)
        self.staged = StagedModel(model, staging, device)
        self.settings, self.device = PlanSettings(**options), device
        self.model = self.staged.model
        self.factor = model.first_stage_model.downsampling_factor
        self.plan = StagePlan(self.model, self.settings, device).attach()
        self._execution = Execution(device, torch.float16 if half else None)

    def text(self, prompts: Sequence[str]) -> Tensor:
        with self._execution.precision("walk"):
            return self.model.get_learned_conditioning(list(prompts))

    def unet(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        with self._execution.precision("walk"):
            return self.model.apply_model(x, t, context)

    def decode(self, z: Tensor) -> Tensor:
        with self._execution.precision("decode"):
            return self.model.decode_first_stage(z)

    def estimate(self, size: int, batch: int) -> int:
        """Return the bytes that the plan's own formula foresees."""
        return estimate(
            measure(self.model),
            self.settings,
            height=size,
            width=size,
            rows=2 * batch,
            itemsize=self.staged.itemsize,
        )


class Diffusers:
    """diffusers' pipeline of the same networks.

    Args:
        config: Our configuration, said in diffusers' words.
        half: Weights and arithmetic of half precision, else float32.
        device: Where it computes.
        offload: none, model, sequential or group.
    """

    def __init__(self, config: DictConfig, half: bool, device: torch.device, offload: str) -> None:
        self.dtype, self.device = torch.float16 if half else torch.float32, device
        self.scale_factor = config.model.params.scale_factor
        with _quiet():
            self.pipe = diffusers_pipeline(config, self.dtype)
            self._place(offload)
        self.factor = self.pipe.vae_scale_factor

    def _place(self, offload: str) -> None:
        if offload == "none":
            self.pipe.to(self.device)
        elif offload == "model":
            self.pipe.enable_model_cpu_offload(device=self.device)
        elif offload == "sequential":
            self.pipe.enable_sequential_cpu_offload(device=self.device)
        else:
            self.pipe.enable_group_offload(
                onload_device=self.device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                use_stream=self.device.type != "cpu",
            )

    def text(self, prompts: Sequence[str]) -> Tensor:
        # Which tokens they are changes no size: no vocabulary is needed here.
        ids = torch.zeros(len(prompts), TOKENS, dtype=torch.long).to(self.device)
        return self.pipe.text_encoder(ids)[0]

    def unet(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        return self.pipe.unet(x.to(self.dtype), t, context, return_dict=False)[0]

    def decode(self, z: Tensor) -> Tensor:
        scaled = z.to(self.dtype) / self.scale_factor
        return self.pipe.vae.decode(scaled, return_dict=False)[0]


def diffusers_pipeline(config: DictConfig, dtype: torch.dtype) -> Any:
    """Make diffusers' pipeline of the networks that our configuration describes, on the CPU."""
    import diffusers
    import transformers

    params = config.model.params
    parts = {
        "unet": diffusers.UNet2DConditionModel(**diffusers_config(dict(params.unet_config.params))),
        "vae": diffusers.AutoencoderKL(**vae_config(params.first_stage_config.params.ddconfig)),
        "text_encoder": transformers.CLIPTextModel(
            transformers.CLIPTextConfig(**text_config(params))
        ),
    }
    return diffusers.StableDiffusionPipeline(
        **{name: _ready(part, dtype) for name, part in parts.items()},
        tokenizer=None,
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _ready(part: nn.Module, dtype: torch.dtype) -> nn.Module:
    return part.to(dtype).eval().requires_grad_(False)


def vae_config(ddconfig: DictConfig) -> dict[str, Any]:
    """Say an autoencoder's ``ddconfig`` in diffusers' words."""
    widths = [ddconfig.ch * mult for mult in ddconfig.ch_mult]
    return {
        "in_channels": ddconfig.in_channels,
        "out_channels": ddconfig.out_ch,
        "latent_channels": ddconfig.z_channels,
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": ddconfig.num_res_blocks,
        "sample_size": ddconfig.resolution,
    }


def text_config(params: DictConfig) -> dict[str, Any]:
    """Say the sizes of our CLIP text encoder in the words that both sides use."""
    given = params.cond_stage_config.get("params") or {}
    sizes = asdict(CLIPTextConfig(**dict(given.get("text_config") or {})))
    return {name: size for name, size in sizes.items() if name != "embedding_std"}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep diffusers' advice out of the table: it warns of offloads that work as they should."""
    from diffusers.utils import logging as diffusers_logging

    before = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        diffusers_logging.set_verbosity(before)
