"""What a diffusers folder, a file's header or a recipe names is not imported, opened or obeyed.

Each case is drawn from as programs do, in the guarded process of ``guard``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from trust.guard import Result, faults, guarded

pytest.importorskip("diffusers")
with contextlib.suppress(ImportError):  # a library loads it where it is; it looks for fonts once
    import matplotlib.font_manager  # noqa: F401

INDEX, UNET, VAE, TEXT = (
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
)
SCHEDULER, TOKENIZER = "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"
EVIL = "open('WITNESS', 'w')\nclass Evil: pass\n"
REMOTE = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil", "AutoTokenizer": ["evil.Evil"] * 2}
# Entries of a folder's files. What both readers refuse, what only the libraries' reader has to, and
# what neither needs to care for, as nothing reads it.
REFUSED = {
    "a pipeline of one's own": (INDEX, {"_class_name": ["evil", "Evil"]}),
    "a pipeline's file": (INDEX, {"_class_name": "evil"}),
    "a function as the pipeline": (INDEX, {"_class_name": "os.system"}),
    "another pipeline": (INDEX, {"_class_name": "DiffusionPipeline"}),
    "blocks of code": (UNET, {"down_block_types": ["os.system", "evil.Evil"]}),
    "a long pipeline": (INDEX, {"_class_name": "x" * 1_000_000}),
    "many steps": (SCHEDULER, {"num_train_timesteps": 10**9}),
    "a wide network": (UNET, {"block_out_channels": [10**12, 10**12]}),
    "many layers": (UNET, {"layers_per_block": 10**7}),
    "a large picture": (UNET, {"sample_size": 10**7}),
}
BY_LIBRARY = {
    "code for a network": (TEXT, {"auto_map": REMOTE}),
    "code for the tokenizer": (TOKENIZER, {"auto_map": REMOTE}),
    "code for the UNet": (UNET, {"auto_map": REMOTE}),
    "a kernel": (TEXT, {"attn_implementation": "somebody/kernel"}),
    "a kernel, privately": (TEXT, {"_attn_implementation": "somebody/kernel"}),
    "a quantizer": (UNET, {"quantization_config": {"quant_method": "bitsandbytes"}}),
    "a quantizer of texts": (TEXT, {"quantization_config": {"quant_method": "gptq"}}),
    "a function as scheduler": (SCHEDULER, {"_class_name": "os.system"}),
    "a pipeline as scheduler": (SCHEDULER, {"_class_name": "DiffusionPipeline"}),
    "a scheduler of nobody's": (SCHEDULER, {"_class_name": "EvilScheduler"}),
}
IGNORED = {
    "another library's network": (INDEX, {"unet": ["evil", "Evil"]}),
    "a function as network": (INDEX, {"unet": ["os", "system"]}),
    "another scheduler": (INDEX, {"scheduler": ["os", "system"]}),
    "a module that acts": (INDEX, {"tokenizer": ["antigravity", "geohash"]}),
    "one part more": (INDEX, {"evil": ["evil", "Evil"]}),
    "another class": (UNET, {"_class_name": "evil.Evil"}),
    "another text encoder": (TEXT, {"architectures": ["evil.Evil"], "model_type": "evil"}),
}
BOMBS = {
    "brackets": "[" * 1_000_000,
    "mappings": '{"a":' * 100_000,
    "closed brackets": '{"x": ' + "[" * 900 + "]" * 900 + "}",
    "many bytes": '{"a": "' + "x" * 10_000_000 + '"}',
    "digits": '{"sample_size": ' + "9" * 100_000 + "}",
    "a list": "[1]",
    "no JSON": "\0\1\2",
    "nothing": "",
}
# Entries of a header and of a recipe, in words that programs of other makers have.
HEADER = {
    "modelspec.architecture": "os.system",
    "modelspec.implementation": "evil.Evil",
    "config": "model: {target: os.system, params: {command: touch WITNESS}}",
    "target": "os.system",
    "global_step": "9" * 5_000,
    "modelspec.thumbnail": "data:image/png;base64," + "A" * 100_000,
    "__class__": "os.system",
}
RECIPE = (
    "a ${oc.env:HOME} cat <lora:../../evil:1>\n"
    "Negative prompt: x\n"
    "Steps: 20, Sampler: DDIM, CFG scale: 7, Seed: 1, Size: 64x64, Model: /etc/passwd, "
    "Config: evil.yaml, Ckpt: evil.ckpt, Checkpoint: evil.ckpt, Trust config: True, "
    "trust_config: True, Outdir: /tmp/evil, VAE: evil.pt, Device: cuda:9; touch WITNESS, "
    "Watermark: os.system, Init image: /etc/passwd, Script: evil.py, Hashes: {}, Version: v1"
)


def changed(folder: Path, file: str, entries: dict[str, Any]) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def cases(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield a case for each entry and each reader, and for the header and the recipe."""
    import os

    import torch
    from tiny_diffusers import write_tiny_diffusers

    from ldm.checkpoint.load import load_model
    from ldm.pipelines.models import choose_model
    from ldm.settings.generation import Txt2ImgSettings
    from optimizedSD.by_diffusers.drawing import load
    from optimizedSD.by_diffusers.folder import DiffusersFolder
    from optimizedSD.by_diffusers.settings import DiffusersSettings

    os.chdir(folder)
    honest = write_tiny_diffusers(folder)

    def with_file(file: str, change: dict[str, Any] | str) -> Path:
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(honest, copy)
        for place in ("", "unet", "text_encoder", "tokenizer", "scheduler"):
            (copy / place / "evil.py").write_text(EVIL)
        if isinstance(change, str):
            (copy / file).write_text(change)
        else:
            changed(copy, file, change)
        return copy

    def ours(path: Path) -> str:
        choice = choose_model(Txt2ImgSettings(ckpt=str(path)))
        return type(load_model(choice.config, path)[0]).__name__

    def library(path: Path) -> str:
        settings = DiffusersSettings(model=str(path), seed=1)
        pipe = load(DiffusersFolder.read(str(path)), settings, torch.device("cpu"))
        return type(pipe).__name__

    ours(honest), library(honest)
    for name, read in {"ours": ours, "library": library}.items():
        for case, made in folders():
            yield f"{name}: {case}", lambda r=read, m=made: r(with_file(*m))
    yield "header", lambda: _with_header(folder, HEADER)
    yield "recipe", lambda: _recorded(folder)


def folders() -> Iterator[tuple[str, tuple[str, dict[str, Any] | str]]]:
    """Yield cases: a file of the folder, and the entries that change in it or its whole text."""
    yield "honest", (INDEX, {})
    for case, (file, entries) in (REFUSED | BY_LIBRARY | IGNORED).items():
        yield f"{case} in {file}", (file, entries)
    for case, text in BOMBS.items():
        yield from ((f"{case} as {file}", (file, text)) for file in (INDEX, UNET))


def _with_header(folder: Path, header: dict[str, str]) -> str:
    import tiny_model
    from safetensors.torch import load_file, save_file

    from ldm.checkpoint.load import load_model
    from ldm.pipelines.models import choose_model
    from ldm.settings.generation import Txt2ImgSettings

    (folder / "header").mkdir()
    ckpt = tiny_model.write_tiny_model(folder / "header")
    save_file(load_file(ckpt), ckpt, header)
    choice = choose_model(Txt2ImgSettings(ckpt=str(ckpt)))
    return type(load_model(choice.config, ckpt)[0]).__name__


def _recorded(folder: Path) -> list[str]:
    import numpy as np

    from ldm.images.io import save_picture
    from ldm.pipelines.infotext import read_picture
    from ldm.settings.generation import Txt2ImgSettings

    path = save_picture(np.zeros((8, 8, 3), np.uint8), folder / "picture.png", metadata=RECIPE)
    return sorted(read_picture(str(path), Txt2ImgSettings).values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("folders")


@pytest.fixture(scope="module")
def results(folder) -> dict[str, Result]:
    return guarded(__file__, folder)


def of(results: dict[str, Result], group: dict, reader: str) -> dict[str, Result]:
    names = {f"{reader}: {name} in {file}": name for name, (file, _) in group.items()}
    return {name: results[name] for name in names}


def test_nothing_is_imported_opened_or_started(results, folder):
    assert not faults(results)
    assert not list(folder.rglob("WITNESS"))


@pytest.mark.parametrize("reader", ["ours", "library"])
def test_honest_folders_load_and_others_are_refused_or_the_same(results, reader):
    made = {"ours": "LatentSpaceDiffusion", "library": "StableDiffusionPipeline"}[reader]
    assert results[f"{reader}: honest"].value == made
    for name, each in of(results, IGNORED, reader).items():
        assert each.value == made, (name, each.text)
    bombs = [f"{reader}: {case} as {file}" for case in BOMBS for file in (INDEX, UNET)]
    assert all(results[name].error == "UserError" for name in bombs)


@pytest.mark.parametrize("reader", ["ours", "library"])
def test_what_no_network_of_ours_is_like_is_refused(results, reader):
    for name, each in of(results, REFUSED, reader).items():
        assert each.error == "UserError", name
        if name in ("many steps", "a wide network", "many layers", "a large picture"):
            assert "number beyond" in each.text, name


def test_entries_by_which_a_library_would_load_code_are_refused_by_name(results):
    for name, each in of(results, BY_LIBRARY, "library").items():
        assert each.error == "UserError", name
    text = results[f"library: code for a network in {TEXT}"].text
    assert f"{TEXT} has auto_map" in text


def test_a_header_is_text(results):
    assert results["header"].value == "LatentSpaceDiffusion"


def test_a_recipe_sets_what_is_drawn_and_no_file(results):
    named = set(results["recipe"].value)
    assert {"prompt", "seed", "ddim_steps"} <= named
    assert not named & {"ckpt", "config", "trust_config", "outdir", "device", "init_img", "format"}
