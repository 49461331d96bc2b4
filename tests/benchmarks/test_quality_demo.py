"""The demo's quality program, run whole on a tiny untrained model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from emoji_font import needs_font
from omegaconf import OmegaConf
from PIL import Image
from running import help_imports_torch
from safetensors.torch import save_file

from benchmarks import demo_measures as measures
from benchmarks import quality_demo
from ldm.util import instantiate_from_config

FIRST_STAGE = {
    "target": "ldm.models.autoencoder.AutoencoderKL",
    "params": {
        "embed_dim": 4,
        "lossconfig": {"target": "torch.nn.Identity"},
        "ddconfig": {
            "double_z": True,
            "z_channels": 4,
            "resolution": 64,
            "in_channels": 3,
            "out_ch": 3,
            "ch": 32,
            "ch_mult": [1, 1, 1],
            "num_res_blocks": 1,
            "attn_resolutions": [],
            "dropout": 0.0,
        },
    },
}
MODEL = {
    "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
    "params": {
        "linear_start": 0.00085,
        "linear_end": 0.0120,
        "timesteps": 1000,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 16,
        "channels": 4,
        "conditioning_key": "crossattn",
        "use_ema": False,
        "unet_config": {
            "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
            "params": {
                "image_size": 16,
                "in_channels": 4,
                "out_channels": 4,
                "model_channels": 32,
                "attention_resolutions": [2],
                "num_res_blocks": 1,
                "channel_mult": [1, 1],
                "num_heads": 2,
                "use_spatial_transformer": True,
                "context_dim": 16,
            },
        },
        "first_stage_config": FIRST_STAGE,
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {
                "text_config": {
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                }
            },
        },
    },
}


def _write_model(folder: Path, model_config: dict) -> list[str]:
    """Save an untrained model; return the flags that name it."""
    torch.manual_seed(0)
    model = instantiate_from_config(OmegaConf.create(model_config))
    OmegaConf.save({"model": model_config}, folder / "config.yaml")
    save_file(dict(model.state_dict()), folder / "model.safetensors")
    return [
        *("--config", str(folder / "config.yaml")),
        *("--ckpt", str(folder / "model.safetensors")),
        *("--outdir", str(folder / "out")),
    ]


@needs_font
def test_the_program_reports_every_row_and_keeps_sheets(tmp_path, capsys):
    flags = _write_model(tmp_path, MODEL)
    small = ["--n", "4", "--n_ja", "2", "--steps", "2", "--psnr_n", "4", "--batch_size", "2"]
    assert quality_demo.main([*flags, *small]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    rows = ["oracle on ground truth", "oracle, wrong prompts"]
    rows += [
        f"{language}, {how}" for language in ("en", "ja") for how in ("no guidance", "scale 3")
    ]
    assert list(report["scores"]) == rows
    assert report["scores"]["oracle on ground truth"]["both"] == 1
    assert report["scores"]["en, no guidance"]["both"] == 0
    assert 0 < report["psnr"]["mean"] < 20  # untrained
    assert "autoencoder PSNR on 4 held-out scenes of 64x64" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "en-scale-3.png") as sheet:
        assert sheet.size == (4 * 66 + 2, 66 + 2)
    assert len((tmp_path / "out" / "ja-scale-3.txt").read_text(encoding="utf-8").split("\n")) == 3


@needs_font
def test_a_first_stage_can_be_measured_alone_but_not_draw(tmp_path, capsys):
    flags = [*_write_model(tmp_path, FIRST_STAGE), "--psnr_n", "2"]
    assert quality_demo.main([*flags, "--ae_only"]) == 0
    assert "of 64x64" in capsys.readouterr().out
    assert quality_demo.main(flags) == 2
    assert "add --ae_only" in capsys.readouterr().err


@needs_font
def test_pictures_do_not_depend_on_the_batch(tmp_path):
    torch.manual_seed(0)
    model = instantiate_from_config(OmegaConf.create(MODEL)).eval()
    prompts = ["a photo of a cat", "a photo of a dog", "a car"]
    alone, together = (
        measures.draw(model, prompts, 2.0, measures.Sampling("ddim", 2, batch_size, seed=5))
        for batch_size in (1, 3)
    )
    assert alone.shape == (3, 3, 64, 64)
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=0)


class _OffBy(torch.nn.Module):
    """A first stage whose every value comes back nearer to gray by a known amount."""

    def __init__(self, amount: float):
        super().__init__()
        self.amount = torch.nn.Parameter(torch.tensor(amount))

    def encode(self, x):
        return SimpleNamespace(mode=lambda: x)

    def decode(self, z):
        return z - self.amount * torch.where(z > 0, 1.0, -1.0)


@needs_font
def test_psnr_is_that_of_a_known_error():
    # 0.02 of the range -1..1 is 0.01 of 0..1: 40 dB.
    psnr, shown = measures.autoencoder_psnr(_OffBy(0.02), 64, count=3, batch_size=2, seed=4)
    assert psnr == pytest.approx([40.0] * 3, abs=0.01)
    assert shown.shape == (4, 3, 64, 64)


@pytest.mark.parametrize(
    ("flags", "part"),
    [(["--ckpt", "none.safetensors"], "there is no file"), (["--steps", "0"], "--steps 0")],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(flags, part, capsys, tmp_path):
    assert quality_demo.main([*flags, "--outdir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_imports_no_torch():
    assert not help_imports_torch("benchmarks/quality_demo.py")
