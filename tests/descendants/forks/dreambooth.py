"""A fork of Dreambooth's kind: each step sees a batch of the subject and one of its class."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset

from ldm.models.diffusion.ddpm import LatentDiffusion


class Pairs(Dataset):
    """The subject's items, each beside one of its class."""

    def __init__(self, subject, others):
        self.subject, self.others = subject, others

    def __len__(self):
        return len(self.subject)

    def __getitem__(self, index):
        return self.subject[index], self.others[index % len(self.others)]


class DreamboothLDM(LatentDiffusion):
    """The hub: the loss of the subject and, weighed, that of its class; pictures of the first."""

    def __init__(self, *args, reg_weight=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.reg_weight = reg_weight

    def shared_step(self, batch, **kwargs):
        x, c = self.get_input(batch, self.first_stage_key)
        assert x.shape[1:] == (4, 8, 8)
        return self(x, c)

    def training_step(self, batch, batch_idx):
        subject, others = batch
        loss, loss_dict = self.shared_step(subject)
        prior, _ = self.shared_step(others)
        self.log_dict(loss_dict, prog_bar=True, logger=True, on_step=True, on_epoch=True)
        self.log("global_step", self.global_step, prog_bar=True, on_step=True, on_epoch=False)
        self.log("train/prior", prior, batch_size=len(others["txt"]))
        if self.use_scheduler:
            rate = self.optimizers().param_groups[0]["lr"]
            self.log("lr_abs", rate, prog_bar=True, on_step=True, on_epoch=False)
        return loss + self.reg_weight * prior

    @torch.no_grad()
    def validation_step(self, batch, batch_idx):
        subject, _ = batch
        _, plain = self.shared_step(subject)
        with self.ema_scope():
            _, averaged = self.shared_step(subject)
        averaged = {f"{key}_ema": value for key, value in averaged.items()}
        self.log_dict({**plain, **averaged}, on_step=False, on_epoch=True)

    def log_images(self, batch, **kwargs):
        return super().log_images(batch[0] if isinstance(batch, list) else batch, **kwargs)
