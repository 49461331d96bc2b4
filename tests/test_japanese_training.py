"""The two stages of a Japanese text encoder train one after the other, made small by overrides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from quick_training import QUICK as EVERYWHERE
from running import ROOT, load_program
from safetensors.torch import save_file

import main
from ldm.config import build, load_config

pytest.importorskip("sentencepiece", reason="needs pip install -e '.[japanese]'")

from small_sentencepiece import write_tokenizer  # noqa: E402

STAGES = [ROOT / f"configs/stable-diffusion/v1-japanese-stage{n}.yaml" for n in (1, 2)]
FINETUNE = ROOT / "configs/stable-diffusion/v1-finetune.yaml"
CAPTIONS = {"train": ["赤い猫の写真", "青い犬の写真"], "validation": ["白い背景", "夕日の海"]}
P = "model.params"
UNET, TEXT = f"{P}.unet_config.params", f"{P}.cond_stage_config.params"
SMALL = [
    f"{UNET}.model_channels=32",
    f"{UNET}.num_res_blocks=1",
    f"{UNET}.channel_mult=[1,1]",
    f"{UNET}.attention_resolutions=[2]",
    f"{UNET}.context_dim=32",
    f"{P}.first_stage_config.params.ddconfig.ch=32",
    f"{P}.first_stage_config.params.ddconfig.ch_mult=[1,1,1]",
    f"{TEXT}.text_config.hidden_size=32",
    f"{TEXT}.text_config.intermediate_size=32",
    f"{TEXT}.text_config.num_hidden_layers=1",
    f"{TEXT}.text_config.num_attention_heads=2",
]
QUICK = [
    f"{P}.scheduler_config.params.warm_up_steps=[1]",
    *EVERYWHERE,
]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with captioned pictures, a tokenizer and a small Stable Diffusion v1."""
    folder = tmp_path_factory.mktemp("japanese")
    for split, captions in CAPTIONS.items():
        (folder / split).mkdir()
        for number, caption in enumerate(captions):
            Image.new("RGB", (20, 24), (200 - 90 * number, 60, 90)).save(
                folder / split / f"{number}.png"
            )
            (folder / split / f"{number}.txt").write_text(caption, encoding="utf-8")
    write_tokenizer(folder / "tokenizer")
    torch.manual_seed(0)
    english = [*SMALL, f"{P}.ckpt_path=null", f"{P}.use_ema=false"]
    model = build(load_config(FINETUNE, overrides=english))
    for parameter in model.parameters():
        if not parameter.any():  # a new UNet ends in zeros, and no gradient gets past them
            torch.nn.init.normal_(parameter, std=0.02)
    save_file(model.state_dict(), folder / "v1.safetensors")
    return folder


def train(work: Path, config: Path, start: Path, tokenizer: str = "tokenizer") -> int:
    own = [f"{P}.ckpt_path={start}", f"{TEXT}.tokenizer_path={work / tokenizer}"]
    own += [f"{TEXT}.text_config.vocab_size=150"]
    for split in CAPTIONS:
        own += [f"data.params.{split}.params.root={work / split}"]
        own += [f"data.params.{split}.params.size=16"]
    run = ["-b", str(config), "-t", "-n", config.stem, "-l", str(work)]
    return main.main([*run, *SMALL, *QUICK, *own])


@pytest.fixture(scope="module")
def stages(work) -> list[Path]:
    """The checkpoints before stage 1, after it and after stage 2."""
    found = [work / "v1.safetensors"]
    for config in STAGES:
        assert train(work, config, found[-1]) == 0
        found += work.glob(f"*_{config.stem}/checkpoints/last.ckpt")
    return found


def weights(path: Path) -> dict[str, torch.Tensor]:
    from ldm.checkpoint.io import read_checkpoint

    return dict(read_checkpoint(path).tensors)


def moved(before: Path, after: Path) -> set[str]:
    """Return the parts of which a weight changed."""
    a, b = weights(before), weights(after)
    same = [name for name in a if name in b and a[name].shape == b[name].shape]
    return {name.split(".")[0] for name in same if not torch.equal(a[name], b[name])}


def test_stage_1_moves_the_text_encoder_and_nothing_else(stages):
    v1, first, _ = stages
    assert moved(v1, first) == {"cond_stage_model"}
    assert len([name for name in weights(first) if name.startswith("model.diffusion_")]) > 100


def test_stage_1_begins_with_no_weight_of_the_english_encoder(stages):
    table = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
    v1, first = (weights(path)[table] for path in stages[:2])
    assert not torch.allclose(v1, first, atol=1e-3)


def test_stage_1_learns_at_every_layer_of_the_encoder(work, stages):
    """The gradient comes through the whole frozen UNet."""
    optimizer = torch.load(stages[1], weights_only=True)["optimizer_states"][0]["state"]
    names = [n for n in weights(stages[1]) if n.startswith("cond_stage_model.")]
    assert len(optimizer) == len(names)
    assert all(state["exp_avg_sq"].any() for state in optimizer.values())


def test_stage_2_goes_on_from_stage_1_and_moves_both(stages):
    _, first, second = stages
    assert moved(first, second) == {"cond_stage_model", "model"}
    table = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    assert torch.allclose(weights(first)[table], weights(second)[table], atol=1e-3)
    assert any(name.startswith("model_ema.") for name in weights(second))


def test_a_run_of_stage_2_draws_from_a_japanese_prompt(stages, tmp_path):
    draw = load_program("scripts/txt2img.py")
    (config,) = stages[2].parents[1].glob("configs/*-project.yaml")
    options = ["--prompt", "赤い猫", "--ddim_steps", "2", "--n_samples", "1", "--n_iter", "1"]
    options += ["--ckpt", str(stages[2]), "--config", str(config), "--use_ema", "--device", "cpu"]
    assert draw.main([*options, "--H", "16", "--W", "16", "--outdir", str(tmp_path)]) == 0
    assert (tmp_path / "samples/00000.png").is_file()


def test_a_run_without_its_tokenizer_ends_in_one_line(work, capsys):
    assert train(work, STAGES[0], work / "v1.safetensors", tokenizer="nowhere") == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "nowhere' does not exist" in last and "tokenizer_path" in last
