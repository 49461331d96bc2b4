"""Advice helps where it is printed: a flag that a message names is one of the program's own."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys

import pytest
from running import ROOT

from ldm.checkpoint.folders import find_model_files
from ldm.errors import UserError

FLAG = r"(?<![\w-])--[A-Za-z][\w-]*"
# Flags of other tools, which messages quote: hf, pip, docker, torchrun, Ray, SLURM's.
OTHER_TOOLS = {"--local-dir", "--force-reinstall", "--shm-size", "--help", "--nproc_per_node"}
OTHER_TOOLS |= {"--head", "--job-name", "--nodes", "--ntasks-per-node", "--cpus-per-task"}
OTHER_TOOLS |= {"--gpus-per-node", "--time", "--signal", "--requeue", "--open-mode"}
OTHER_TOOLS |= {"--kill-on-bad-exit"}
# Rooms and files of one program, or of a few; what is said there is printed by no other.
PRINTED_BY = {
    "ldm/evaluation": ("evaluate",),
    "ldm/checkpoint/download": ("download_models", "txt2img"),
    "ldm/checkpoint/diffusers/convert.py": ("convert",),
    "ldm/checkpoint/export.py": ("export_checkpoint",),
    "ldm/retrieval": ("train_searcher", "knn2img"),
    "ldm/pipelines/samples.py": ("sample_diffusion",),
    "ldm/pipelines/upscale.py": ("upscale",),
    "ldm/programs/sampling.py": ("sample_diffusion",),
    "ldm/programs/upscaling.py": ("upscale",),
    "ldm/pipelines/networks.py": ("txt2img", "upscale", "upscale_tile"),
    "ldm/programs/sample_folder.py": ("sample_diffusion",),
    "ldm/programs/pairs.py": ("inpaint",),
    "ldm/programs/masking.py": ("mask",),
    "ldm/masking": ("mask",),
    "ldm/settings/masks.py": ("mask", "inpaint"),
    "ldm/training/precompute.py": ("precompute_latents",),
    "ldm/training/slurm.py": ("launch_training",),
    "ldm/training": ("main.py", "precompute_latents"),
    "optimizedSD/by_diffusers": ("diffusers_txt2img", "optimized_txt2img"),
    "scripts/evaluate.py": ("evaluate",),
    "scripts/upscale.py": ("upscale",),
    "scripts/train_searcher.py": ("train_searcher",),
    "scripts/convert.py": ("convert",),
}
PARSERS = """
import argparse, contextlib, importlib.util, io, json, sys
def show(path):
    spec = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["program"] = module
    spec.loader.exec_module(module)
    seen = []
    def stop(parser, *_):
        seen.append(parser)
        raise KeyboardInterrupt
    argparse.ArgumentParser.parse_known_args = stop
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        module.main([])
    return [seen[0].prog, sorted(seen[0]._option_string_actions)]
print(json.dumps(dict(map(show, sys.argv[1:]))))
"""
PROGRAMS = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "main.py", *ROOT.glob("scripts/*.py"), *ROOT.glob("optimizedSD/*.py")]
    if "(main())\n" in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def flags_of(tmp_path_factory):
    """The flags of every program, by its name; one process for all."""
    done = subprocess.run(
        [sys.executable, "-c", PARSERS, *(str(ROOT / path) for path in PROGRAMS)],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
        check=True,
    )
    return {name: set(flags) for name, flags in json.loads(done.stdout).items()}


def said(path) -> set[str]:
    """Return the flags that a file's strings name; docstrings are not printed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body[0] for node in ast.walk(tree) if isinstance(node, holders) and node.body]
    docs = {id(first.value) for first in bodies if isinstance(first, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]
    return {flag for text in texts for flag in re.findall(FLAG, text)} - OTHER_TOOLS


def speakers(path) -> tuple[str, ...]:
    """Return the programs that print a file's messages; empty means any."""
    name = str(path.relative_to(ROOT))
    matches = [room for room in PRINTED_BY if name == room or name.startswith(f"{room}/")]
    return PRINTED_BY[max(matches, key=len)] if matches else ()


def sources():
    for folder in ("ldm", "scripts", "optimizedSD"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            # Former names; CSS variables.
            if path.name not in ("arguments.py", "layout.py", "edit_layout.py"):
                yield path


def test_every_flag_in_a_message_is_one_of_a_program_that_prints_it(flags_of):
    assert len(flags_of) == len(PROGRAMS)
    wrong = {}
    for path in sources():
        names = speakers(path) or tuple(flags_of)
        known = set().union(*(flags_of[name] for name in names))
        if strangers := said(path) - known:
            wrong[str(path.relative_to(ROOT))] = strangers
    assert not wrong


def test_the_search_for_flags_in_messages_finds_some(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('"""--doc"""\nx = f"{y}; add --one, or a--two; use --three-four=5"\n')
    assert said(path) == {"--one", "--three-four"}


@pytest.mark.parametrize(
    ("flag", "has_config"), [("--resume", True), ("--ckpt", True), ("--classifier", False)]
)
def test_a_configuration_is_asked_for_by_its_flag_only_where_that_is_the_models(
    flag, has_config, tmp_path
):
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(UserError) as caught:
        find_model_files(tmp_path / "model.ckpt", flag)
    assert ("add --config" in str(caught.value)) is has_config
