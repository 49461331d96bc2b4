"""All programs begin and end one way: help, flags from a schema, errors of one line, exit codes."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest
from running import ROOT, load_program

from ldm.settings.command_line import OptionParser

DRAWING = (
    "--prompt --negative_prompt --from-file --from-image --outdir --skip_grid --skip_save --format "
    "--sampler --plms --dpm_solver --ddim_steps --spacing --ddim_eta --scale --n_iter --n_samples "
    "--n_rows --fixed_code --C --f --seed --seed_mode --config --ckpt --use_ema --device "
    "--precision --safety_checker "
)
TRAINER = (
    "--accelerator --devices --num_nodes --strategy --precision --max_steps --max_epochs "
    "--min_steps --min_epochs --accumulate_grad_batches --gradient_clip_val "
    "--gradient_clip_algorithm --val_check_interval --check_val_every_n_epoch "
    "--limit_train_batches --limit_val_batches --limit_test_batches --num_sanity_val_steps "
    "--overfit_batches --log_every_n_steps --fast_dev_run --deterministic --benchmark "
    "--detect_anomaly --profiler --sync_batchnorm --reload_dataloaders_every_n_epochs "
    "--enable_model_summary --enable_progress_bar --gpus"
)
LOW_MEMORY = f"{DRAWING} --plain_prompt --H --W --vram_budget --turbo --unet_bs"
PAGE = (
    "--config --ckpt --use_ema --device --precision --vram_budget --turbo --unet_bs --outdir "
    "--port --host --share"
)
# What command lines of users hold: a flag may be added here, and none may go.
FLAGS = {
    "scripts/txt2img.py": f"{DRAWING} --H --W --laion400m",
    "scripts/img2img.py": f"{DRAWING} --init-img --strength",
    "scripts/inpaint.py": f"{DRAWING} --init-img --mask --indir --strength --steps",
    "scripts/knn2img.py": f"{DRAWING} --H --W --use_neighbors --knn --database --searcher "
    "--n_repeat --clip_type --clip_ckpt",
    "scripts/sample_diffusion.py": "-r --resume --config -n --n_samples --batch_size -l --logdir "
    "-c --custom_steps -e --eta -v --vanilla_sample --sampler --spacing --class_label --prompt "
    "--scale --classifier --classifier_scale --seed --use_ema --precision --device --continue",
    "scripts/sweep.py": f"{DRAWING} --H --W --laion400m --init-img --strength --x --y --z "
    "--together --label_size",
    "scripts/feedback.py": "--db --thumb --stars --note --person --csv --folder --min_stars",
    "scripts/upscale.py": "--init-img --outdir --ckpt --config --steps --eta --n_samples --tile "
    "--seed --use_ema --device",
    "scripts/upscale_tile.py": f"{DRAWING} --init-img --strength --factor --tile --overlap "
    "--control_tile --control_tile_scale",
    "scripts/batch.py": "--out --engine --workers --threads --batch_size --format --shard_size "
    "--first --skip_bad --redraw --verify --merge --metrics_port --ray_address --prompt --sampler "
    "--ddim_steps --scale --seed --n_iter --n_samples --W --H --strength --ckpt --config --device "
    "--precision --kernels",
    "scripts/hint.py": "--kind --out --low --high --sigma --threshold --width --factor --seed "
    "--grain --colours --relief --mask --model --device",
    "scripts/restore_faces.py": "--model --fidelity --detector --outdir --device",
    "scripts/mask.py": "--kind --words --model --threshold --box --colour --at --tolerance "
    "--largest --invert --grow --feather --out --device",
    "scripts/convert.py": "--config --half --use_ema --overwrite --meta",
    "scripts/download_models.py": "--list --dest",
    "scripts/evaluate.py": "--fake --real --metrics --inception --clip_ckpt --clip_type --captions "
    "--lpips --save_stats --json --batch_size --kid_subsets --kid_size --seed --device",
    "scripts/export_checkpoint.py": "--ckpt --out --use_ema --dtype --half --meta --overwrite",
    "scripts/precompute_latents.py": "-b --base --out --ckpt --split --no_text --half --batch_size "
    "--shard_size --num_workers --device --seed --part",
    "scripts/launch_training.py": "--dry_run --task",
    "scripts/train_searcher.py": "-d --database -t --target_path -k --knn --index --images "
    "--clip_type --clip_ckpt --batch_size --device",
    "optimizedSD/optimized_txt2img.py": f"{LOW_MEMORY} --laion400m",
    "optimizedSD/optimized_img2img.py": f"{LOW_MEMORY} --init-img --strength",
    "optimizedSD/txt2img_gradio.py": PAGE,
    "optimizedSD/img2img_gradio.py": PAGE,
    "optimizedSD/swap_gradio.py": PAGE,
    "optimizedSD/inpaint_gradio.py": f"{PAGE} --config_path --ckpt_path",
    "optimizedSD/diffusers_txt2img.py": "--prompt --negative_prompt --from-file --sampler --plms "
    "--dpm_solver --ddim_steps --scale --n_iter --n_samples --H --W --seed --model --device "
    "--precision --offload --outdir --skip_grid --skip_save --format",
    "main.py": "-n --name -r --resume -b --base -t --train --no-test -p --project -d --debug -s "
    "--seed -f --postfix -l --logdir --scale_lr --channels_last --latents --max_time "
    f"--checkpoint_every --progress_every --gradient_compression --async_checkpoints {TRAINER}",
}
WATERMARK = "scripts/tests/test_watermark.py"
every_program = pytest.mark.parametrize("path", [*FLAGS, WATERMARK])

ALL_HELP = """
import contextlib, io, json, runpy, sys
heavy = {"torch", "numpy", "PIL", "omegaconf", "safetensors", "pytorch_lightning", "cv2", "faiss"}
for program in json.loads(sys.argv[1]):
    sys.argv, shown, code = [program, "--help"], io.StringIO(), "not left"
    with contextlib.redirect_stdout(shown):
        try:
            runpy.run_path(program, run_name="__main__")
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, shown.getvalue(), sorted(heavy & sys.modules.keys())]))
"""


@pytest.fixture(scope="module")
def helps(tmp_path_factory):
    """What each program answers to --help: exit code, text, heavy packages; one process for all."""
    done = subprocess.run(
        [sys.executable, "-c", ALL_HELP, json.dumps([str(ROOT / path) for path in FLAGS])],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(FLAGS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.fixture
def stopped_at(monkeypatch):
    """Interrupt a program as it reads its command line; return exit code and parser."""

    def stop(path):
        seen = []

        def interrupt(parser, *_):
            seen.append(parser)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_known_args", interrupt)
            code = load_program(path).main([])
        return code, seen[0]

    return stop


def name_of(path):
    return path if path == "main.py" else path.rpartition("/")[2].removesuffix(".py")


@pytest.mark.parametrize("path", FLAGS)
def test_help_names_every_flag_and_imports_neither_torch_nor_numpy(path, helps):
    code, text, heavy = helps[path]
    assert code == 0 and text.startswith(f"usage: {name_of(path)} ")
    assert [flag for flag in FLAGS[path].split() if flag not in text] == []
    assert heavy == []


@every_program
def test_ctrl_c_is_one_line_and_exit_code_130_or_the_end_of_a_page(path, stopped_at, capsys):
    code, _ = stopped_at(path)
    shown = capsys.readouterr()
    if path.endswith("_gradio.py"):  # Ctrl-C is how a page ends
        assert (code, shown.out, shown.err) == (0, "", "")
        return
    assert code == 130 and shown.out == ""
    assert shown.err.startswith(f"{name_of(path)}: stopped: ") and shown.err.count("\n") == 1


@every_program
def test_every_flag_is_an_option_of_a_schema(path, stopped_at):
    _, parser = stopped_at(path)
    assert isinstance(parser, OptionParser)
    named = {flag for each in parser.options for flag in (each.flag, *each.synonyms)}
    named |= {flag for each in parser.options for flag, _ in each.aliases}
    assert parser._option_string_actions.keys() - {"-h", "--help"} == named - {""}
    dests = {action.dest for action in parser._actions} - {"help"}
    assert dests == {each.name for each in parser.options}
    assert set(FLAGS.get(path, "").split()) <= named


@every_program
def test_an_unknown_flag_is_one_line_that_names_the_nearest(path, stopped_at, capsys):
    _, parser = stopped_at(path)
    capsys.readouterr()
    flag = max(parser._option_string_actions, key=len)
    assert load_program(path).main([f"{flag[:-1]}x"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    start = f"{name_of(path)}: error: unknown argument '{flag[:-1]}x'"
    assert shown.err.startswith(start) and f"did you mean {flag}?" in shown.err


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("scripts/batch.py", "--out was not given; expected the name of a folder; add --out"),
        ("scripts/convert.py", "SRC was not given; expected a checkpoint file or a diffusers"),
        ("scripts/evaluate.py", "--fake was not given; expected the name of a folder; add --fake"),
        ("scripts/export_checkpoint.py", "--ckpt was not given"),
        ("scripts/precompute_latents.py", "--base was not given"),
        ("scripts/launch_training.py", "FILE was not given; expected the name of a YAML file"),
        ("scripts/upscale_tile.py", "no --init-img was given; expected the picture to start from"),
        ("scripts/hint.py", "FILE was not given; expected the name of a file"),
        ("scripts/mask.py", "--kind was not given; expected words, subject, background or colour"),
        ("scripts/restore_faces.py", "FILE was not given; expected the name of a file"),
        ("scripts/upscale.py", "--init-img was not given; expected the name of a file"),
        (WATERMARK, "FILE was not given"),
    ],
)
def test_what_has_to_be_given_is_asked_for_in_one_line(path, missing, capsys):
    assert load_program(path).main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert f"error: {missing}" in shown.err


def test_flags_are_made_of_options_in_one_place():
    folders = ("ldm", "scripts", "optimizedSD")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    by_hand = [p for p in [*sources, ROOT / "main.py"] if "add_argument(" in p.read_text("utf-8")]
    assert [p.relative_to(ROOT).as_posix() for p in by_hand] == ["ldm/settings/command_line.py"]
