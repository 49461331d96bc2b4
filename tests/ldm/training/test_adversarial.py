"""Training against a discriminator: the reference's order, counted once, resumed to the bit."""

from __future__ import annotations

import copy
import sys

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader

from ldm.models.two_sided_training import TwoSidedTraining
from ldm.modules.losses.lpips import VARIABLE
from ldm.training.adversarial import take_over

FORK = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
SCHEDULE = {
    "target": "ldm.lr_scheduler.LambdaWarmUpCosineScheduler",
    "params": {"warm_up_steps": 2, "lr_start": 0.1, "lr_max": 1.0, "lr_min": 0.1}
    | {"max_decay_steps": 12},
}
LOSS = {"disc_start": 2, "disc_num_layers": 2, "disc_ndf": 8, "perceptual_weight": 0}
DDCONFIG = {
    "z_channels": 2,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.1,
}
KL = {
    "base_learning_rate": 5.0e-4,
    "target": "ldm.models.autoencoder.AutoencoderKL",
    "params": {
        "monitor": "val/rec_loss",
        "image_key": "jpg",
        "embed_dim": 2,
        "scheduler_config": SCHEDULE,
        "ddconfig": {**DDCONFIG, "double_z": True},
        "lossconfig": {
            "target": "ldm.modules.losses.LPIPSWithDiscriminator",
            "params": {**LOSS, "kl_weight": 1.0e-6, "disc_weight": 0.5},
        },
    },
}
VQ = {
    "base_learning_rate": 5.0e-4,
    "target": "ldm.models.autoencoder.VQModel",
    "params": {
        "monitor": "val_ema/rec_loss",
        "image_key": "jpg",
        "embed_dim": 2,
        "n_embed": 16,
        "use_ema": True,
        "lr_g_factor": 2.0,
        "batch_resize_range": [16, 32],
        "scheduler_config": SCHEDULE,
        "ddconfig": {**DDCONFIG, "double_z": False},
        "lossconfig": {
            "target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
            "params": {**LOSS, "use_actnorm": True, "disc_loss": "vanilla", "n_classes": 16},
        },
    },
}


def use(work, model: dict) -> None:
    config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
    work.write({**config, "model": copy.deepcopy(model)})


def assert_same_run(work, figures: list[str]) -> None:
    a, b = work.checkpoint("whole"), work.checkpoint("halves")
    assert a["global_step"] == b["global_step"]
    assert len(a["optimizer_states"]) == 2
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "training_progress"):
        torch.testing.assert_close(a[part], b[part], rtol=0, atol=0)
    for figure in figures:
        whole = work.figures("whole", figure)
        assert whole and whole == work.figures("halves", figure)


FIGURES = ["train/total_loss", "train/disc_loss", "train/d_weight"]


# A pass over the data is three batches; the discriminator comes in at step 2.
@pytest.mark.parametrize(
    ("model", "stop"), [(KL, 1), (KL, 4), (VQ, 3)], ids=["kl", "kl_later", "vq"]
)
def test_a_resumed_run_is_the_uninterrupted_one(work, model, stop):
    use(work, model)
    more = ("--gradient_clip_val", "0.5")
    assert work.start("whole", "--max_steps", "6", *more) == 0
    assert work.start("halves", "--max_steps", str(stop), *more) == 0
    assert work.go_on("halves", "--max_steps", "6") == 0
    assert work.checkpoint("whole")["global_step"] == 6
    each = [f"{name}_step" if model is VQ else name for name in FIGURES]
    assert_same_run(work, each)


def test_a_resumed_run_is_the_same_while_gradients_are_accumulated(work):
    use(work, KL)
    more = ("--accumulate_grad_batches", "2")
    assert work.start("whole", "--max_steps", "5", *more) == 0
    assert work.start("halves", "--max_steps", "3", *more) == 0
    assert work.go_on("halves", "--max_steps", "5") == 0
    # Three batches a pass: a step after the second, and one for what is left of the pass.
    assert work.checkpoint("whole")["training_progress"]["batches_done"] == 8
    assert_same_run(work, FIGURES)


def test_a_checkpoint_holds_both_sides_and_the_average(work):
    use(work, VQ)
    assert work.start("run", "--max_steps", "3") == 0
    state = work.checkpoint("run")["state_dict"]
    assert int(state["model_ema.num_updates"]) == 3
    assert "loss.discriminator.main.0.weight" in state
    assert not [name for name in state if name.startswith("model_ema.loss")]
    rates = [list(map(float, work.figures("run", f"lr-Adam{n}").values())) for n in ("", "-1")]
    assert rates[0] == pytest.approx([2 * rate for rate in rates[1]])
    assert len(set(rates[0])) == 3, "the schedule is stepped once for each step"


def test_accumulation_scales_the_learning_rate_as_ever(work):
    use(work, {**KL, "params": {**KL["params"], "scheduler_config": None}})
    assert work.start("run", "--max_steps", "1", "--accumulate_grad_batches", "2") == 0
    (rate,) = work.figures("run", "lr-Adam").values()
    assert float(rate) == pytest.approx(2 * 4 * 5.0e-4)


def test_pictures_of_both_kinds_are_logged(work):
    use(work, VQ)
    pictures = "lightning.callbacks.image_logger.params.disabled=false"
    assert work.start("run", "--max_steps", "2", pictures) == 0
    kinds = {path.name.split("_gs")[0] for path in work.run("run").glob("images/train/*.png")}
    assert kinds == {"inputs", "reconstructions", "samples"}


def test_missing_perceptual_weights_end_a_run_before_it_writes_anything(work, capsys, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    use(work, KL)
    given = "model.params.lossconfig.params.perceptual_weight=1.0"
    assert work.start("run", given) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "VGG-16" in error
    assert not list(work.folder.glob("*_run"))


def test_a_loss_that_becomes_nan_is_not_saved(work, capsys):
    use(work, KL)
    assert work.start("run", "--max_steps", "4", "model.base_learning_rate=1.0e30") == 2
    assert "the loss is" in capsys.readouterr().err


@FORK
def test_two_processes_keep_one_model(work):
    use(work, KL)
    recorder = [
        "lightning.callbacks.recorder.target=training_parts.Recorder",
        f"lightning.callbacks.recorder.params.folder={work.folder / 'record'}",
    ]
    devices = ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp_fork"]
    work.start_apart("run", "--max_steps", "4", *recorder, *devices)
    first, second = (torch.load(path) for path in sorted((work.folder / "record").glob("*.pt")))
    assert first["seen"] != second["seen"]
    torch.testing.assert_close(first["gradients"], second["gradients"], rtol=0, atol=0)
    assert len(first["gradients"]) == 8
    assert work.checkpoint("run")["global_step"] == 4


class Duel(TwoSidedTraining):
    """The least model with two sides: each pulls at a number that the other one sees."""

    def __init__(self):
        super().__init__()
        self.maker, self.judge = nn.Linear(3, 3), nn.Linear(3, 1)
        self.updates = 0

    def training_step(self, batch, batch_idx, optimizer_idx):
        made = self.maker(batch)
        if optimizer_idx == 0:
            loss = (made - batch).square().sum() - self.judge(made).mean()
        else:
            loss = (self.judge(made.detach()) - self.judge(batch)).mean()
        return loss

    def configure_optimizers(self):
        parts = (self.maker, self.judge)
        optimizers = [torch.optim.SGD(part.parameters(), lr=0.01, momentum=0.9) for part in parts]
        make = torch.optim.lr_scheduler.StepLR
        schedules = [make(optimizer, step_size=1, gamma=0.5) for optimizer in optimizers]
        return optimizers, [{"scheduler": s, "interval": "step"} for s in schedules]

    def move_averages(self):
        self.updates += 1


def by_hand(model: Duel, batches: list, accumulate: int, clip: float | None) -> None:
    """The reference's order: both sides see each batch; the maker steps before the judge looks."""
    optimizers, schedules = model.configure_optimizers()
    for number, batch in enumerate(batches, start=1):
        steps = number % accumulate == 0 or number == len(batches)
        for side, (optimizer, part) in enumerate(
            zip(optimizers, (model.maker, model.judge), strict=True)
        ):
            loss = model.training_step(batch, number, side) / accumulate
            for p, gradient in zip(
                part.parameters(), torch.autograd.grad(loss, list(part.parameters())), strict=True
            ):
                p.grad = gradient if p.grad is None else p.grad + gradient
            if steps:
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(part.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
        if steps:
            for schedule in schedules:
                schedule["scheduler"].step()


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_it_steps_as_the_reference_does(accumulate, clip, tmp_path):
    torch.manual_seed(0)
    expected = Duel()
    model = copy.deepcopy(expected)
    batches = list(torch.randn(5, 4, 3))
    by_hand(expected, batches, accumulate, clip)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
    )
    take_over(trainer, model)
    trainer.fit(model, DataLoader(batches, batch_size=None))
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-6, atol=1e-7)
    steps = -(-5 // accumulate)
    assert trainer.global_step == model.updates == steps
    assert all(p.requires_grad for p in model.parameters())
