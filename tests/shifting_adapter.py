"""The least adapter that a hub can train: it shifts the features between the UNet's halves."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from ldm.adapters.handle import Handle
from ldm.checkpoint.write import save_safetensors
from ldm.modules.attention_control.moments import unet_of
from ldm.training.adapters.trainable import Trainable


class ShiftHandle(Handle):
    def __init__(self, model, shift):
        super().__init__(model)
        self._hook = unet_of(model).middle_block.register_forward_hook(
            lambda module, args, out: out + shift.amount[None, :, None, None]  # noqa: ARG005
        )

    def _release(self):
        self._hook.remove()


class Shift(Trainable):
    """One number for each channel, 0 at first."""

    kind = "shift"

    def __init__(self, model, dropout: float = 0.0):
        super().__init__()
        width = unet_of(model).middle_block[-1].out_layers[-1].out_channels
        self.amount = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)

    def attach(self, model):
        return ShiftHandle(model, self)

    def save(self, folder, name, header):
        path = folder / f"{name}.safetensors"
        save_safetensors({"amount": self.amount.detach().cpu()}, path, header)
        return [path]


class SeeingShift(Shift):
    """One that remembers what it was shown."""

    def __init__(self, model):
        super().__init__(model)
        self.seen = []

    def see(self, batch, rows):
        self.seen.append((sorted(batch), rows))


class Recorder(pl.Callback):
    """Write what each process learns, and what DDP sends of it: ``<rank>.pt``."""

    def __init__(self, folder):
        self.folder, self.seen, self.gradients = Path(folder), [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(batch["jpg"].mean().item())

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients.append(pl_module.adapter.amount.grad.clone())

    def on_train_end(self, trainer, pl_module):
        self.folder.mkdir(parents=True, exist_ok=True)
        ddp = trainer.strategy.model
        names = [name for name, _ in pl_module.named_parameters()]
        record = {
            "seen": self.seen,
            "gradients": self.gradients,
            "adapter": dict(pl_module.adapter.state_dict()),
            "sent": [n for n in names if n not in ddp.parameters_to_ignore],
        }
        torch.save(record, self.folder / f"{trainer.global_rank}.pt")
