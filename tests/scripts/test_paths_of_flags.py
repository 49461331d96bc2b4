"""Whatever path a flag is given, a program ends in one line that says what is wrong with it."""

from __future__ import annotations

import pytest
from PIL import Image
from running import ROOT, load_program

LONG = "x" * 300
DEMO = ROOT / "models/ldm/demo"
DRAW = "--prompt cat --ddim_steps 1"
REPAINT = f"{DRAW} --init-img good.png --mask good.png"
TRAIN = f"--train --max_steps 1 --base {ROOT}/configs/demo/autoencoder_kl_f4.yaml"
# A program and its arguments; the path comes last, or in the place of PATH.
FLAGS = [
    *(("scripts/txt2img.py", f"{DRAW} {flag}") for flag in ("--from-file", "--outdir", "--ckpt")),
    *(("scripts/txt2img.py", flag) for flag in ("--from-image", f"{DRAW} --config")),
    *(("scripts/img2img.py", f"{DRAW} {flag}") for flag in ("--init-img", "--ckpt")),
    ("scripts/img2img.py", f"{DRAW} --init-img good.png --outdir"),
    ("scripts/inpaint.py", f"{DRAW} --indir"),
    ("scripts/inpaint.py", f"{DRAW} --init-img good.png --mask"),
    *(("scripts/inpaint.py", f"{REPAINT} {flag}") for flag in ("--outdir", "--ckpt", "--config")),
    *(("scripts/knn2img.py", f"--prompt cat {flag}") for flag in ("--ckpt", "--config")),
    *(("scripts/sample_diffusion.py", flag) for flag in ("--resume", "--continue")),
    ("scripts/sample_diffusion.py", f"--resume {DEMO}/model.safetensors --config"),
    ("scripts/upscale.py", "--init-img"),
    *(("scripts/upscale.py", f"--init-img good.png {flag}") for flag in ("--outdir", "--ckpt")),
    ("scripts/upscale.py", "--init-img good.png --model"),
    ("scripts/txt2img.py", f"{DRAW} --hires 2 --hires_upscaler"),
    ("scripts/upscale_tile.py", f"{DRAW} --init-img good.png --upscaler"),
    *(("scripts/upscale_tile.py", f"{DRAW} {flag}") for flag in ("--init-img", "--ckpt")),
    ("scripts/upscale_tile.py", f"{DRAW} --init-img good.png --control_tile"),
    ("scripts/hint.py", "--kind canny --out x.png PATH"),
    ("scripts/hint.py", "good.png --kind canny --out PATH/x.png"),
    ("scripts/hint.py", "good.png --kind inpaint --out x.png --mask"),
    ("scripts/hint.py", "good.png --kind depth --out x.png --model"),
    ("scripts/mask.py", "--kind subject --out x.png PATH"),
    ("scripts/mask.py", "good.png --kind subject --out PATH/x.png"),
    ("scripts/mask.py", "good.png --kind subject --out x.png --model"),
    ("scripts/mask.py", "good.png --kind words --words cat --out x.png --model"),
    ("scripts/restore_faces.py", "--model good.png PATH"),
    ("scripts/restore_faces.py", "good.png --model"),
    ("scripts/restore_faces.py", "good.png --model good.png --detector"),
    ("scripts/restore_faces.py", "good.png --model good.png --outdir"),
    ("scripts/convert.py", "PATH out"),
    ("scripts/export_checkpoint.py", "--out x.safetensors --ckpt"),
    ("scripts/precompute_latents.py", "--out latents --base"),
    ("scripts/train_searcher.py", "--database db --images . --clip_ckpt"),
    ("scripts/evaluate.py", "--metrics psnr --real . --fake . --json"),
    ("scripts/evaluate.py", "--metrics psnr --real . --fake"),
    ("scripts/evaluate.py", "--metrics psnr --fake . --real"),
    ("scripts/evaluate.py", "--metrics clip --fake . --captions"),
    ("scripts/evaluate.py", "--metrics lpips --fake . --real . --lpips"),
    ("main.py", "--train --resume"),
    ("main.py", "--train --base"),
    *(("main.py", f"{TRAIN} {flag}") for flag in ("--logdir", "--latents")),
    ("optimizedSD/optimized_txt2img.py", f"{DRAW} --ckpt"),
    ("optimizedSD/diffusers_txt2img.py", f"{DRAW} --model"),
    ("optimizedSD/txt2img_gradio.py", "--outdir"),
    ("optimizedSD/txt2img_gradio.py", "--ckpt"),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "white").save("good.png")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "reason"),
    [(LONG, "too long"), ("circle", "circle of links"), ("file/below", "below file, which is no")],
    ids=["a name of 300 letters", "a link to itself", "a path below a file"],
)
@pytest.mark.parametrize(("program", "arguments"), FLAGS, ids=[" ".join(flag) for flag in FLAGS])
def test_a_path_that_cannot_be_is_one_line_with_the_reason(
    place, capsys, program, arguments, path, reason
):
    del place
    words = arguments if "PATH" in arguments else f"{arguments} PATH"
    assert load_program(program).main(words.replace("PATH", path).split()) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning:" not in line]
    assert len(lines) == 1 and ": error: " in lines[0], lines
    assert reason in lines[0], lines
