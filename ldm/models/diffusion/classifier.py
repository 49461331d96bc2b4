"""A classifier of noisy latents, for guidance: arXiv:2105.05233, section 4.

Shapes: B batch, C latent channels, h w latent sides, H W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ldm.building import accepted_parameters
from ldm.checkpoint.load import load_component
from ldm.errors import UserError
from ldm.lazy import lazy_exports
from ldm.models.diffusion.frozen import frozen_diffusion_model
from ldm.models.hub_training import Figures, HubTraining
from ldm.models.training_parts import pictures_from, with_scheduler
from ldm.modules.diffusionmodules.openaimodel import EncoderUNetModel, UNetModel
from ldm.process.classifier_guidance import ClassifierGuidance, class_log_probability
from ldm.types import Guider
from ldm.util import log_txt_as_img

# What CompVis's file defines or imports besides, and forks import from here.
ELSEWHERE = {
    "default": "ldm.util",
    "disabled_train": "ldm.models.diffusion.ddpm",
    "instantiate_from_config": "ldm.util",
    "ismap": "ldm.util",
    "rearrange": "einops",
}
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)

NETWORKS = {"class_label": EncoderUNetModel, "segmentation": UNetModel}
"""What judges: the UNet's first half with a head for pictures, a whole UNet for their parts."""
CONDITIONAL = ("use_spatial_transformer", "transformer_depth", "context_dim", "use_linear")
CONDITIONAL += ("use_linear_in_transformer", "num_classes", "n_embed")
"""Parameters of the diffusion model's UNet that a network without conditioning does not have."""


class NoisyLatentImageClassifier(HubTraining):
    """Tell the class of pictures from their latents at any step of a diffusion model.

    The diffusion model is a frozen part: its first stage encodes, its schedule adds the noise. The
    classifier's own network, ``model``, has the widths of the diffusion model's UNet.

    Args:
        diffusion_path: Folder of the diffusion model: a training run's, or one of the model zoo;
            or its YAML file.
        num_classes: K.
        ckpt_path: Checkpoint of a classifier to start from.
        pool: How a map becomes a row of logits, see ``EncoderUNetModel``.
        label_key: Entry of a batch with the classes: ``class_label`` (B,) whole numbers, or
            ``segmentation`` (B, H, W, K) of zeros and ones. None takes the diffusion model's
            ``cond_stage_key``.
        diffusion_ckpt_path: Weights of the diffusion model; None takes those in its folder.
        scheduler_config: ``target`` / ``params`` of a learning-rate multiplier, per step.
        weight_decay: Of AdamW.
        log_steps: Steps at which ``log_images`` shows what is told.
        monitor: Logged value that chooses the best checkpoint.

    Raises:
        UserError: No diffusion model there, a ``label_key`` of another kind, or a ``pool`` that
            does not fit the UNet's configuration.
    """

    def __init__(
        self,
        diffusion_path: str,
        num_classes: int,
        ckpt_path: str | None = None,
        pool: str = "attention",
        label_key: str | None = None,
        diffusion_ckpt_path: str | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        weight_decay: float = 1e-2,
        log_steps: int = 10,
        monitor: str = "val/loss",
    ):
        super().__init__()
        self.num_classes, self.log_steps, self.monitor = num_classes, log_steps, monitor
        self.scheduler_config, self.weight_decay = scheduler_config, weight_decay
        self.learning_rate = 1e-4
        self.diffusion_model, unet = frozen_diffusion_model(diffusion_path, diffusion_ckpt_path)
        self.label_key = label_key or getattr(self.diffusion_model, "cond_stage_key", None)
        if self.label_key not in NETWORKS:
            raise UserError(
                f"label_key {self.label_key!r} given; expected {' or '.join(NETWORKS)}; set "
                "model.params.label_key"
            )
        self.model = self._make_network(unet, pool)
        if ckpt_path is not None:
            load_component(self.model, ckpt_path, prefix="model.")

    def _make_network(self, unet: Mapping[str, Any], pool: str) -> nn.Module:
        """Build the network by the parameters of the diffusion model's UNet."""
        network = NETWORKS[self.label_key]
        known = accepted_parameters(network) - set(CONDITIONAL)
        params = {name: value for name, value in unet.items() if name in known}
        # Latents come without what is concatenated to them for the UNet.
        params.update(in_channels=unet["out_channels"], out_channels=self.num_classes)
        return network(**params, pool=pool) if "pool" in known else network(**params)

    def train(self, mode: bool = True) -> NoisyLatentImageClassifier:
        """Set training mode; the diffusion model stays as it is."""
        super().train(mode)
        self.diffusion_model.eval()
        return self

    def forward(self, x_noisy: Tensor, t: Tensor) -> Tensor:
        """Return logits (B, K), or (B, K, h, w), of noisy latents (B,C,h,w) at steps t (B,)."""
        return self.model(x_noisy, t)

    def guidance(
        self, labels: Tensor, scale: float = 1.0, inner: Guider | None = None
    ) -> ClassifierGuidance:
        """Return the guider that leads any sampler of the diffusion model to classes.

        Args:
            labels: The classes (B,), or one for all rows (1,).
            scale: 1 follows the classifier's probabilities, more insists.
            inner: The diffusion model's own guidance beneath it, if any.
        """
        options = {} if inner is None else {"inner": inner}
        return ClassifierGuidance(
            class_log_probability(self, labels),
            self.diffusion_model.alphas_cumprod,
            scale,
            self.diffusion_model.parameterization,
            **options,
        )

    @torch.no_grad()
    def latents_of(self, batch: Mapping[str, Any]) -> Tensor:
        """Return what the diffusion model diffuses of a batch (B,C,h,w)."""
        model = self.diffusion_model
        taken = model.get_input(batch, model.first_stage_key)
        return taken[0] if isinstance(taken, list) else taken

    def get_x_noisy(self, x: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Noise latents (B,C,h,w) to steps t (B,)."""
        return self.diffusion_model.q_sample(x, t, noise)

    def get_conditioning(self, batch: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
        """Return a batch's classes: (B,), or (B, h, w) at the latents' ``size`` (h, w).

        Raises:
            UserError: The batch has none, or a class that is not among the K.
        """
        if self.label_key not in batch:
            raise UserError(
                f"label_key {self.label_key!r} is not in the data, which has "
                f"{', '.join(sorted(batch))}; correct model.params.label_key or the data set"
            )
        if self.label_key == "class_label":
            targets = torch.as_tensor(batch[self.label_key]).long()
        else:
            maps = pictures_from(batch, self.label_key)
            targets = functional.interpolate(maps, size=size, mode="nearest").argmax(dim=1)
        outside = targets[(targets < 0) | (targets >= self.num_classes)]
        if len(outside):
            raise UserError(
                f"class {int(outside[0])} is in the data; expected 0 to {self.num_classes - 1}; "
                "correct model.params.num_classes"
            )
        return targets

    def shared_step(
        self, batch: Mapping[str, Any], t: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch at steps t (B,), or drawn ones, and what to log.

        The loss is the cross-entropy in nats; ``acc@k`` is the share of rows (or places) whose
        class is among the k likeliest.
        """
        x = self.latents_of(batch)
        targets = self.get_conditioning(batch, x.shape[-2:]).to(x.device)
        if t is None:
            steps = self.diffusion_model.num_timesteps
            t = torch.randint(steps, (x.shape[0],), device=x.device)
        logits = self(self.get_x_noisy(x, t), t).float()
        loss = functional.cross_entropy(logits, targets)
        figures = {f"acc@{k}": top_k_share(logits, targets, k) for k in (1, 5)}
        return loss, {"loss": loss.detach(), **figures}

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return the loss to minimise, and log it."""
        loss, figures = self.shared_step(batch)
        named = {f"train/{name}": value for name, value in figures.items()}
        self.log_figures(named, batch, on_step=True, on_epoch=True)
        self.log_position(batch)
        return loss

    @torch.no_grad()
    def validation_figures(self, batch: Mapping[str, Any]) -> Figures:
        """Return what to log of a validation batch."""
        return {f"val/{name}": value for name, value in self.shared_step(batch)[1].items()}

    def on_train_batch_start(
        self,
        batch: Mapping[str, Any],  # noqa: ARG002 - Lightning's
        batch_idx: int,
    ) -> None:
        """Leave the UNet on the host: nothing is predicted while the classifier learns."""
        if batch_idx == 0:
            self.diffusion_model.model.to("cpu")

    def configure_optimizers(self) -> Any:
        """Return AdamW for the network, and the learning-rate schedule if one is configured."""
        parameters = self.model.parameters()
        optimizer = torch.optim.AdamW(
            parameters, lr=self.learning_rate, weight_decay=self.weight_decay
        )
        return with_scheduler(optimizer, self.scheduler_config)

    @torch.no_grad()
    def log_images(
        self,
        batch: Mapping[str, Any],
        N: int = 8,  # noqa: N803 - the logging interface
        **_: Any,
    ) -> dict[str, Tensor]:
        """Return pictures (n, 3, H, W) in [-1, 1] at some steps, and what they are told as."""
        x = self.latents_of(batch)[:N]
        targets = self.get_conditioning(batch, x.shape[-2:])[:N]
        decode = getattr(self.diffusion_model, "decode_first_stage", lambda z: z)
        pictures = decode(x)
        shown = {"inputs": pictures, "labels": self._show(targets, pictures.shape[-2:])}
        noise = torch.randn_like(x)
        interval = max(1, self.diffusion_model.num_timesteps // self.log_steps)
        for time in range(0, interval * self.log_steps, interval):
            t = torch.full((len(x),), time, device=x.device)
            noisy = self.get_x_noisy(x, t, noise)
            told = self(noisy, t).argmax(dim=1)
            shown[f"inputs@t{time}"] = decode(noisy)
            shown[f"predictions@t{time}"] = self._show(told, pictures.shape[-2:])
        return shown

    def _show(self, classes: Tensor, size: tuple[int, int]) -> Tensor:
        """Draw classes (n,) as numbers, or maps of them (n, h, w) as shades: (n, 3, H, W)."""
        if classes.ndim == 1:
            height, width = size
            numbers = [str(int(number)) for number in classes]
            return log_txt_as_img((width, height), numbers, size=max(10, height // 4))
        shades = 2.0 * classes[:, None].float() / max(self.num_classes - 1, 1) - 1.0
        return functional.interpolate(shades, size=size).expand(-1, 3, -1, -1)


def top_k_share(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """Return the share of targets (B, ...) that are among the k largest logits (B, K, ...)."""
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == targets[:, None]).any(dim=1).float().mean()
