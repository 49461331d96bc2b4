"""What docs/porting.md says of today's libraries is so in those that are installed."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "porting.md").read_text(encoding="utf-8")

GONE = """
    pytorch_lightning.utilities.distributed:rank_zero_only
    pytorch_lightning:Trainer.add_argparse_args
    pytorch_lightning:Trainer.from_argparse_args
    pytorch_lightning.plugins:DDPPlugin
    pytorch_lightning.overrides.data_parallel:LightningDistributedDataParallel
    pytorch_lightning.loggers:TestTubeLogger
    pytorch_lightning:LightningModule.training_epoch_end
    pytorch_lightning:LightningModule.validation_epoch_end
    pytorch_lightning:Callback.on_epoch_end
    pytorch_lightning:Callback.on_batch_end
    pytorch_lightning:Callback.on_pretrain_routine_start
    pytorch_lightning:Callback.on_keyboard_interrupt
    pytorch_lightning:Trainer.root_gpu
    pytorch_lightning:Trainer.num_gpus
    pytorch_lightning:Trainer.training_type_plugin
    pytorch_lightning:Trainer.running_sanity_check
    pytorch_lightning:Trainer.train_loop
    pytorch_lightning.callbacks:GPUStatsMonitor
    pytorch_lightning:metrics
    torch._six:string_classes
    PIL.Image:LINEAR
    PIL.Image:CUBIC
    PIL.Image:ANTIALIAS
    numpy:float
    numpy:int
    numpy:object
    numpy:float_
"""
THERE = """
    pytorch_lightning.utilities:rank_zero_only
    pytorch_lightning.strategies:DDPStrategy
    pytorch_lightning.callbacks:TQDMProgressBar
    pytorch_lightning.callbacks:DeviceStatsMonitor
    pytorch_lightning.loggers:CSVLogger
    pytorch_lightning.loggers:TensorBoardLogger
    pytorch_lightning:LightningModule.on_train_epoch_end
    pytorch_lightning:LightningModule.on_validation_epoch_end
    pytorch_lightning:Callback.on_train_batch_end
    pytorch_lightning:Callback.on_fit_start
    pytorch_lightning:Callback.on_exception
    pytorch_lightning:Trainer.num_devices
    pytorch_lightning:Trainer.strategy
    pytorch_lightning:Trainer.sanity_checking
    torch:inf
    torch:autocast
    torch.amp:GradScaler
    ldm.checkpoint.io:read_checkpoint
    transformers:CLIPImageProcessor
    PIL.Image:BILINEAR
    PIL.Image:BICUBIC
    PIL.Image:LANCZOS
    numpy:float64
    kornia.geometry.transform:resize
    kornia.enhance:normalize
"""
OPTIONS_GONE = """gpus distributed_backend resume_from_checkpoint progress_bar_refresh_rate
    weights_summary checkpoint_callback terminate_on_nan amp_backend auto_select_gpus
    flush_logs_every_n_steps"""
OPTIONS_THERE = """accelerator devices strategy enable_model_summary enable_checkpointing max_steps
    precision callbacks"""


def is_there(address: str) -> bool:
    module, _, name = address.partition(":")
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("address", GONE.split())
def test_what_the_page_replaces_is_gone(address):
    assert address.split(".")[-1].split(":")[-1] in PAGE
    assert not is_there(address)


@pytest.mark.parametrize("address", THERE.split())
def test_what_the_page_gives_instead_is_there(address):
    assert address.split(".")[-1].split(":")[-1] in PAGE
    assert is_there(address)


def test_the_trainers_options_are_as_the_page_says():
    from pytorch_lightning import Trainer

    known = set(inspect.signature(Trainer.__init__).parameters)
    gone, there = set(OPTIONS_GONE.split()), set(OPTIONS_THERE.split())
    assert all(option in PAGE for option in gone | there)
    assert not gone & known and there <= known
    assert "ckpt_path" in inspect.signature(Trainer.fit).parameters


@pytest.mark.parametrize(
    ("owner", "hook", "arguments"),
    [
        ("Callback", "on_train_batch_end", "trainer pl_module outputs batch batch_idx"),
        (
            "Callback",
            "on_validation_batch_end",
            "trainer pl_module outputs batch batch_idx dataloader_idx",
        ),
        ("LightningModule", "on_train_batch_start", "batch batch_idx"),
    ],
)
def test_hooks_take_what_the_page_says(owner, hook, arguments):
    method = getattr(getattr(importlib.import_module("pytorch_lightning"), owner), hook)
    assert list(inspect.signature(method).parameters)[1:] == arguments.split()


def test_our_text_encoder_has_the_attributes_that_forks_patch():
    from ldm.modules.encoders.clip_text import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text_model = CLIPTextModel(CLIPTextConfig(**sizes, num_hidden_layers=1)).text_model
    names = {"embeddings", "encoder", "final_layer_norm"}
    assert names <= {name for name, _ in text_model.named_children()}
