"""Train a latent edge predictor: a frozen diffusion model sees noisy pictures, it learns the edges.

arXiv:2211.13752, section 4.1. Importing this imports Lightning.
Shapes: B pictures, H W pixels, C channels of the latents, h w their sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ldm.adapters.sketch.edges import edges_of, latents_of
from ldm.adapters.sketch.features import FeatureTap, noise_level
from ldm.adapters.sketch.files import write_edge_predictor
from ldm.adapters.sketch.predictor import HIDDEN, EdgePredictor, new_edge_predictor
from ldm.models.diffusion.frozen import frozen_diffusion_model
from ldm.models.hub_training import Figures, HubTraining
from ldm.models.training_parts import pictures_from, with_scheduler

FROZEN = "diffusion_model."


class EdgePredictorTraining(HubTraining):
    """Learns the edge maps of pictures from what a frozen diffusion model makes of them.

    Args:
        diffusion_path: Folder of the diffusion model, or its YAML file.
        diffusion_ckpt_path: Its weights; None takes those in its folder.
        blocks: Whose features are looked at; None takes the paper's.
        hidden: Widths of the predictor's layers.
        edge_key: Entry of a batch with edge maps (B, H, W, 3) in [-1, 1], bright on black; None
            makes them of the pictures.
        scheduler_config: ``target`` / ``params`` of a learning-rate multiplier, per step.
        monitor: Logged value that chooses the best checkpoint.
        write_to: File that is written when training ends; None writes none.

    Raises:
        UserError: There is no diffusion model, or no such block.
    """

    def __init__(
        self,
        diffusion_path: str,
        diffusion_ckpt_path: str | None = None,
        blocks: Sequence[str] | None = None,
        hidden: Sequence[int] = HIDDEN,
        edge_key: str | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        monitor: str = "val/loss",
        write_to: str | None = None,
    ) -> None:
        super().__init__()
        self.learning_rate, self.monitor, self.edge_key = 1e-4, monitor, edge_key
        self.scheduler_config, self.write_to = scheduler_config, write_to
        self.diffusion_model, _ = frozen_diffusion_model(diffusion_path, diffusion_ckpt_path)
        self.predictor: EdgePredictor = new_edge_predictor(self.diffusion_model, blocks, hidden)

    def train(self, mode: bool = True) -> EdgePredictorTraining:
        """Set training mode; the diffusion model stays as it is."""
        super().train(mode)
        self.diffusion_model.eval()
        return self

    def forward(self, x: Tensor, t: Tensor, context: Any) -> Tensor:
        """Predict the edges' latents (B,C,h,w) of noisy latents (B,C,h,w) at steps t (B,)."""
        with torch.no_grad(), FeatureTap(self.diffusion_model, self.predictor.blocks) as tap:
            self.diffusion_model.apply_model(x, t, context)
        level = noise_level(self.diffusion_model, t).float()
        return self.predictor([each.float() for each in tap.features], level, x.shape[-2:])

    def shared_step(self, batch: Mapping[str, Any], t: Tensor | None = None) -> Tensor:
        """Return the mean squared error of a batch at steps t (B,), or drawn ones."""
        model = self.diffusion_model
        with torch.no_grad():
            x, context = model.get_input(batch, model.first_stage_key, force_c_encode=True)[:2]
            edges = latents_of(model, self.edges(batch).to(x.device)).float()
        if t is None:
            t = torch.randint(model.num_timesteps, (len(x),), device=x.device)
        return functional.mse_loss(self(model.q_sample(x, t), t, context), edges)

    def edges(self, batch: Mapping[str, Any]) -> Tensor:
        """Return a batch's edge maps (B, 3, H, W)."""
        if self.edge_key is not None:
            return pictures_from(batch, self.edge_key)
        return edges_of(pictures_from(batch, self.diffusion_model.first_stage_key))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return the loss to minimise, and log it."""
        loss = self.shared_step(batch)
        self.log_figures({"train/loss": loss}, batch, on_step=True, on_epoch=True)
        self.log_position(batch)
        return loss

    @torch.no_grad()
    def validation_figures(self, batch: Mapping[str, Any]) -> Figures:
        """Return what to log of a validation batch."""
        return {"val/loss": self.shared_step(batch)}

    def configure_optimizers(self) -> Any:
        """Return Adam for the predictor, and the learning-rate schedule if one is configured."""
        optimizer = torch.optim.Adam(self.predictor.parameters(), lr=self.learning_rate)
        return with_scheduler(optimizer, self.scheduler_config)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the diffusion model out: its weights are in its own file."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {n: v for n, v in state.items() if not n.startswith(FROZEN)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put back what ``on_save_checkpoint`` left out."""
        super().on_load_checkpoint(checkpoint)
        own = {n: v for n, v in self.state_dict().items() if n.startswith(FROZEN)}
        checkpoint["state_dict"] = own | checkpoint["state_dict"]

    def on_train_end(self) -> None:
        """Write the predictor, by one process."""
        if self.write_to is not None and self.global_rank == 0:
            write_edge_predictor(self.predictor, Path(self.write_to))
