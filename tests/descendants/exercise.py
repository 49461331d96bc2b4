"""What every miniature fork is put through: it is built, trained, sampled from and looked at.

Shapes: B batch, C latent channels, h w latent sides.
"""

from __future__ import annotations

import copy
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from tiny_model import CONFIG, SIZE
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.util import get_obj_from_str

LATENT = (4, 8, 8)
"""(C, h, w) of the tiny model."""


def hub_config(target: str, **changes: Any) -> dict[str, Any]:
    """Return the tiny model's configuration with a fork's class and parameters; None drops one."""
    params = copy.deepcopy(CONFIG["model"]["params"]) | changes
    return {"target": target, "params": {k: v for k, v in params.items() if v is not None}}


def build_hub(config: dict[str, Any], seed: int = 0, **extra: Any) -> pl.LightningModule:
    """Build a fork's class itself from OmegaConf's nodes, as its own training program does.

    Of its weights that are zero the UNet's last ones become small random numbers: a new UNet
    predicts zero whatever it is given. A fork's own zero convolutions stay.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        params = OmegaConf.create(config["params"])
        model = get_obj_from_str(config["target"])(**params, **extra)
        for name, parameter in model.named_parameters():
            if name.startswith("model.diffusion_model.") and not parameter.any():
                nn.init.normal_(parameter, std=0.02)
    model.learning_rate = 1e-3
    return model


def items(count: int = 4, seed: int = 0, side: int = SIZE, **more: tuple[int, ...]) -> list[dict]:
    """Return pictures ``jpg`` (side, side, 3) in [-1, 1] with captions; ``more`` are further maps.

    Args:
        count: Items.
        seed: Of their numbers.
        side: Of the pictures.
        **more: Shapes of maps in [-1, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = {"jpg": (side, side, 3), **more}
    return [
        {k: torch.rand(tuple(s), generator=generator) * 2 - 1 for k, s in shapes.items()}
        | {"txt": f"a photo of * number {i}"}
        for i in range(count)
    ]


def batch_of(data: list[Any]) -> Any:
    """Collate all the data into one batch."""
    return next(iter(DataLoader(data, batch_size=len(data))))


def fit(model: pl.LightningModule, data: list[Any], steps: int = 2, **settings: Any) -> pl.Trainer:
    """Train as a fork's program does: a Trainer of Lightning's, the model as it is, a loader."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    settings = {"enable_checkpointing": False, "log_every_n_steps": 1, **settings}
    trainer = pl.Trainer(accelerator="cpu", devices=1, max_steps=steps, **quiet, **settings)
    trainer.fit(model, DataLoader(data, batch_size=2))
    return trainer


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Copy a module's weights."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Return the names of the weights that are not what they were."""
    now = module.state_dict()
    return {name for name, tensor in before.items() if not torch.equal(tensor, now[name])}


def drawn(model: Any, cond: Any, *, sampler: type = DDIMSampler, **options: Any) -> Tensor:
    """Draw two latents (2, C, h, w) in four steps from the same noise every time."""
    noise = torch.randn(2, *LATENT, generator=torch.Generator().manual_seed(7))
    options = {"x_T": noise, "eta": 0.0, "verbose": False, **options}
    return sampler(model).sample(4, 2, LATENT, cond, **options)[0]


def assert_pictures(log: dict[str, Tensor], *names: str) -> None:
    """Check that ``log_images`` returned these, finite."""
    assert set(names) <= set(log), sorted(log)
    for name in names:
        assert log[name].isfinite().all(), name
