"""A configuration that comes with a model runs nothing, reads nothing elsewhere, and ends soon.

Each case is a model's folder whose YAML was written by somebody else. It is drawn from as programs
do, in the guarded process of ``guard``: no process is started, no file opened outside.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from trust.guard import Result, faults, guarded

SECRET = "LDM_TEST_SECRET"
VALUE = "tell-nobody"
TOUCH = {"command": "touch WITNESS"}

# Code by name: none of it is a network of ldm's.
CODE = {
    "os.system": {"target": "os.system", "params": TOUCH},
    "posix.system": {"target": "posix.system", "params": TOUCH},
    "subprocess": {"target": "subprocess.Popen", "params": {"args": ["touch", "WITNESS"]}},
    "check output": {"target": "subprocess.check_output", "params": {"args": ["touch", "WITNESS"]}},
    "rmtree": {"target": "shutil.rmtree", "params": {"path": "FOLDER"}},
    "run path": {"target": "runpy.run_path", "params": {"path_name": "FOLDER/evil.py"}},
    "eval": {"target": "builtins.eval", "params": {}},
    "exec": {"target": "builtins.exec", "params": {}},
    "import": {"target": "builtins.__import__", "params": {"name": "antigravity"}},
    "import module": {"target": "importlib.import_module", "params": {"name": "antigravity"}},
    "a module that acts": {"target": "antigravity.geohash", "params": {}},
    "a file here": {"target": "evil.Network", "params": {}},
    "open": {"target": "io.open", "params": {"file": "FOLDER/WITNESS", "mode": "w"}},
    "touch": {"target": "pathlib.Path.touch", "params": {"self": "WITNESS"}},
    "torch's hub": {"target": "torch.hub.load", "params": {"repo_or_dir": "a/b", "model": "c"}},
    "torch's load": {"target": "torch.load", "params": {"f": "FOLDER/m.ckpt"}},
    "torch's compiler": {"target": "torch.compile", "params": {}},
    "another of torch": {"target": "torch.nn.Linear", "params": {"in_features": 1}},
    "numpy": {"target": "numpy.load", "params": {"file": "FOLDER/m.ckpt", "allow_pickle": True}},
    "another of taming": {"target": "taming.models.vqgan.VQModel", "params": {}},
    "taming, nearly": {"target": "taming.modules.losses.vqperceptual.DummyLoss2", "params": {}},
    "main": {"target": "main.DataModuleFromConfig", "params": {}},
    "a page": {"target": "optimizedSD.web.server.run_page", "params": {}},
    "a program": {"target": "scripts.convert.main", "params": {}},
    # Of ldm, and no network.
    "a function of ldm": {
        "target": "ldm.util.get_obj_from_str",
        "params": {"string": "antigravity.geohash"},
    },
    "its builder": {"target": "ldm.util.instantiate_from_config", "params": {"config": TOUCH}},
    "its import": {"target": "ldm.building.import_object", "params": {"path": "antigravity.x"}},
    "its loader": {"target": "ldm.checkpoint.io.read_checkpoint", "params": {"path": "m.ckpt"}},
    "its remover": {"target": "ldm.paths.remove", "params": {"path": "FOLDER/m.ckpt"}},
    "a pipeline": {"target": "ldm.pipelines.pipeline.Pipeline", "params": {}},
    "a class of files": {"target": "ldm.programs.sample_folder.SampleFolder", "params": {}},
    "a data set": {"target": "ldm.data.folder.ImageFolder", "params": {"root": "/", "size": 8}},
    "a sampler's base": {"target": "ldm.models.diffusion.sampler.Sampler", "params": {}},
    "a thread": {"target": "ldm.util.Thread", "params": {}},
    "not there": {"target": "ldm.modules.encoders.modules.NoSuchEmbedder", "params": {}},
    # Tricks with names.
    "through ldm": {"target": "ldm.x.os.system", "params": TOUCH},
    "through a module's import": {
        "target": "ldm.util.importlib.import_module",
        "params": {"name": "antigravity"},
    },
    "through a lazy name": {
        "target": "ldm.modules.diffusionmodules.util.os.system",
        "params": TOUCH,
    },
    "a lazy module": {"target": "ldm.modules.diffusionmodules.util.os", "params": {}},
    "a class's method": {
        "target": "ldm.models.autoencoder.AutoencoderKL.init_from_ckpt",
        "params": {"path": "m.ckpt"},
    },
    "a class's globals": {"target": "ldm.util.exists.__globals__", "params": {}},
    "relative": {"target": ".os.system", "params": TOUCH},
    "relative to ldm": {"target": "..ldm.util", "params": {}},
    "empty": {"target": "", "params": {}},
    "capitals": {"target": "OS.System", "params": TOUCH},
    "ldm in capitals": {"target": "LDM.Modules.Ema.LitEma", "params": {}},
    "Cyrillic": {"target": "ldm.m\u043edules.ema.LitEma", "params": {}},
    "full width": {"target": "\uff4cdm.modules.ema.LitEma", "params": {}},
    "a space": {"target": " ldm.modules.ema.LitEma", "params": {}},
    "a line": {"target": "ldm.modules.ema.LitEma\nos.system", "params": {}},
    "a NUL": {"target": "os\0.system", "params": TOUCH},
    "nearly the prefix": {"target": "ldmx.modules.ema.LitEma", "params": {}},
    "a path": {"target": "../evil.Network", "params": {}},
    "long": {"target": "a." * 50_000 + "b", "params": {}},
}
# Where a description may stand: all are checked before the first is imported.
PLACES = {
    "model": "model",
    "the conditioner": "model.params.cond_stage_config",
    "the first stage": "model.params.first_stage_config",
    "the UNet": "model.params.unet_config",
    "the first stage's loss": "model.params.first_stage_config.params.lossconfig",
    "the schedule": "model.params.scheduler_config",
    "the optimizer": "model.params.optimizer_config",
    "the loss": "model.params.loss_config",
    "a part of the loss": "model.params.loss_config.params.kind",
    "a parameter": "model.params.unet_config.params.num_heads",
    "an unknown place": "model.params.more.of.it",
}
RESOLVERS = {
    "the environment": f"${{oc.env:{SECRET}}}",
    "the environment as OmegaConf 1 had it": f"${{env:{SECRET}}}",
    "within a text": f"a ${{oc.env:{SECRET}}} b",
    "a default": f"${{oc.env:{SECRET},none}}",
    "decode": "${oc.decode:'{target: os.system}'}",
    "create": "${oc.create:{target: os.system}}",
    "select": "${oc.select:model.target}",
    "keys": "${oc.dict.keys:model.params}",
    "registered by somebody": "${run:touch WITNESS}",
    "nested": f"${{model.${{oc.env:{SECRET}}}}}",
    "a name of pieces": "${model.${model.params.first_stage_key}}",
    "escaped": f"\\${{oc.env:{SECRET}}}",
}


def honest() -> dict[str, Any]:
    import tiny_model

    return copy.deepcopy(tiny_model.CONFIG)


def put(config: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    *path, last = place.split(".")
    node = config
    for key in path:
        node = node.setdefault(key, {}) if isinstance(node.setdefault(key, {}), dict) else node
    node[last] = value
    return config


# The texts, by the name of the case.


def naming_code() -> Iterator[tuple[str, str]]:
    """Yield the YAMLs that name code: every one is refused, naming it."""
    for name, description in CODE.items():
        yield f"{name}: conditioner", dumped(put(honest(), PLACES["the conditioner"], description))
    for name, place in PLACES.items():
        yield f"os.system: {name}", dumped(put(honest(), place, CODE["os.system"]))
    nested = put(honest(), "model.params.conditions", [[1, {"a": [CODE["os.system"]]}]])
    yield "os.system: lists", dumped(nested)
    whole = {**honest(), "evil": CODE["os.system"]}
    yield "by reference", dumped(put(whole, PLACES["the conditioner"], "${evil}"))
    pieces = {**honest(), "a": "os", "b": "system", "c": "${a}.${b}"}
    yield "of pieces", dumped(put(pieces, "model.params.cond_stage_config.target", "${c}"))
    near = put(honest(), "model.params.part", "os.system")
    yield "by a near reference", dumped(put(near, "model.params.x", {"target": "${..part}"}))
    yield "by an alias", dumped(honest()) + "\n  alias: &a {target: os.system}\n  again: *a\n"
    merged = "\n  base: &b {target: os.system}\n  more: {<<: *b, params: {}}\n"
    yield "by a merge", dumped(honest()) + merged


def never_built() -> Iterator[tuple[str, str]]:
    """Yield YAMLs that name code where drawing builds nothing: it is as if it were not there."""
    for section in ("data", "lightning", "evil", "lightning.callbacks.evil", "data.params.train"):
        yield f"os.system: {section}", dumped(put(honest(), section, CODE["os.system"]))
    stray = {**CODE["a file here"], "batch_size": 3, "params": {"batch_size": 1}}
    yield "a key that is looked up in the class", dumped(put(honest(), "data", stray))


def interpolating() -> Iterator[tuple[str, str]]:
    for name, text in RESOLVERS.items():
        yield f"{name}: scale", dumped(put(honest(), "model.params.scale_factor", text))
        yield f"{name}: data", dumped(put(honest(), "data.params.root", text))
    yield "resolver as a target", dumped(put(honest(), "model.target", RESOLVERS["decode"]))


def reaching() -> Iterator[tuple[str, str]]:
    """Yield YAMLs whose parameters lead elsewhere, or to something that acts."""
    text = "ldm.modules.encoders."
    vq = "ldm.models.autoencoder.VQModelInterface"
    first = {**honest()["model"]["params"]["first_stage_config"], "target": vq}
    first["params"] |= {"n_embed": 8, "remap": "/etc/passwd"}
    parts = {
        "a table elsewhere": first,
        "a tokenizer elsewhere": {
            "target": f"{text}bert.BERTEmbedder",
            "params": {"n_embed": 32, "n_layer": 1, "tokenizer_path": "/etc/passwd"},
        },
        "a tokenizer at home": {
            "target": f"{text}bert.BERTEmbedder",
            "params": {"n_embed": 32, "n_layer": 1, "tokenizer_path": "~/vocab.txt"},
        },
        "weights elsewhere": {
            "target": f"{text}clip_projected.FrozenCLIPTextEmbedder",
            "params": {"weights": "/etc/passwd"},
        },
        "TorchScript here": {
            "target": f"{text}clip_projected.FrozenCLIPTextEmbedder",
            "params": {"weights": "FOLDER/m.ckpt"},
        },
        "another machine's": {
            "target": f"{text}bert.BERTEmbedder",
            "params": {"n_embed": 32, "n_layer": 1, "tokenizer_path": "//evil/share/vocab.txt"},
        },
        "VGG elsewhere": {
            "target": "ldm.modules.losses.lpips.LPIPS",
            "params": {"path": "../../etc/passwd"},
        },
        "a model elsewhere": {
            "target": "ldm.models.diffusion.classifier.NoisyLatentImageClassifier",
            "params": {"diffusion_path": "/etc/passwd", "num_classes": 2},
        },
        "a model that names code": {
            "target": "ldm.models.diffusion.classifier.NoisyLatentImageClassifier",
            "params": {"diffusion_path": "FOLDER/evil", "num_classes": 2},
        },
        "a path that is none": {
            "target": f"{text}bert.BERTEmbedder",
            "params": {"n_embed": 32, "n_layer": 1, "tokenizer_path": ["/etc/passwd"]},
        },
    }
    for name, part in parts.items():
        place = PLACES["the first stage" if part is first else "the conditioner"]
        yield name, dumped(put(honest(), place, part))
    for method in ("compile", "init_from_ckpt", "__class__", "load_state_dict", "to"):
        yield f"method {method}", dumped(put(honest(), "model.params.cond_stage_forward", method))


def claiming() -> Iterator[tuple[str, str]]:
    """Yield bombs: small texts that unfold to much."""
    laughs = "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]\n" for n in range(1, 30))
    yield "billion laughs", "a0: &a0 [ha]\n" + laughs
    merges = "".join(f"a{n}: &a{n} {{<<: [{f'*a{n - 1}, ' * 9}]}}\n" for n in range(1, 30))
    yield "billion merges", "a0: &a0 {k: ha}\n" + merges
    yield "an alias of itself", "a: &a [*a]\n"
    yield "a mapping of itself", "a: &a {b: *a}\n"
    yield "brackets", "a: " + "[" * 100_000
    yield "braces", "a: " + "{b: " * 50_000
    yield "closed brackets", "a: " + "[" * 100_000 + "]" * 100_000
    yield "dashes", "a:\n" + "- " * 100_000
    yield "indents", "".join(" " * n + "a:\n" for n in range(600))
    yield "many bytes", "a: " + "x" * 10_000_000
    yield "many values", "a: [" + "1, " * 80_000 + "1]"
    yield "many keys", "".join(f"k{n}: 1\n" for n in range(20_000))
    yield "a duplicate key", "model: {a: 1}\nmodel: {a: 2}\n"
    yield "digits", "a: " + "9" * 200_000
    yield "tagged digits", "a: !!int '" + "9" * 200_000 + "'"
    yield "hexadecimal", "a: 0x" + "f" * 200_000
    yield "base 60", "a: 1" + ":59" * 60_000
    yield "a tag of Python's", "a: !!python/object/apply:os.system [touch WITNESS]\n"
    yield "another tag of Python's", "a: !!python/name:os.system ''\n"
    yield "a new tag", "a: !new {b: 1}\n"
    yield "a chain of references", "".join(f"k{n}: ${{k{n + 1}}}\n" for n in range(3_000))
    doubled = "".join(f"k{n}: ${{k{n + 1}}}${{k{n + 1}}}\n" for n in range(60))
    yield "doubled references", doubled + "k60: ha\n"
    nine = ", ".join(["'${k%d}'"] * 9)
    unfolded = "".join(f"k{n}: [{nine % ((n + 1,) * 9)}]\n" for n in range(30))
    yield "unfolding references", unfolded + "k30: ha\n"
    yield "a circle of references", "a: ${b}\nb: ${a}\n"
    yield "a reference to what it is in", "a: {b: '${a}'}\n"
    yield "no mapping", "- 1\n"
    yield "nothing", ""
    yield "NUL", "a: \0\n"
    yield "escapes", 'a: "\\e[31m"\n\x1b: 1\n'
    yield "a key that is a list", "? [a]\n: b\n"
    yield "two documents", "a: 1\n---\nb: 2\n"


def oversized() -> Iterator[tuple[str, str]]:
    numbers = {
        "model.params.timesteps": (10**9, 10**30, 2**1000),
        "model.params.image_size": (10**5, 10**18),
        "model.params.channels": (10**12,),
        "model.params.unet_config.params.num_res_blocks": (10**9, 10**6),
        "model.params.unet_config.params.model_channels": (10**12,),
        "model.params.unet_config.params.transformer_depth": (10**6,),
        "model.params.unet_config.params.channel_mult": ([1] * 3000,),
        "model.params.first_stage_config.params.ddconfig.ch_mult": ([1] * 3000,),
        "model.params.first_stage_config.params.ddconfig.num_res_blocks": (10**6,),
        "model.params.cond_stage_config.params.text_config.num_hidden_layers": (10**6,),
        "model.params.scale_factor": (float("inf"),),
    }
    for place, values in numbers.items():
        for number, value in enumerate(values):
            yield f"{place} {number}", dumped(put(honest(), place, value))


def dumped(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, allow_unicode=True)


GROUPS = (naming_code, never_built, interpolating, reaching, claiming, oversized)


def cases(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield a case for each text: a model's folder with it is drawn from."""
    import os

    import tiny_model
    from omegaconf import OmegaConf

    from ldm.checkpoint.load import load_model
    from ldm.pipelines.models import choose_model
    from ldm.settings.generation import Txt2ImgSettings

    os.environ[SECRET] = VALUE
    os.chdir(folder)
    OmegaConf.register_new_resolver("run", os.system)
    ckpt = tiny_model.write_tiny_model(folder)
    (folder / "evil.py").write_text("open('WITNESS', 'w')\nclass Network: pass\n")
    (folder / "evil").mkdir()
    evil = dumped(put(honest(), "model", CODE["os.system"]))
    (folder / "evil/config.yaml").write_text(evil)

    def draw(text: str) -> str:
        ckpt.with_suffix(".yaml").write_text(text.replace("FOLDER", str(folder)), encoding="utf-8")
        choice = choose_model(Txt2ImgSettings(ckpt=str(ckpt)))
        model, _ = load_model(choice.config, ckpt)
        return type(model).__name__

    yield "honest", lambda: draw(dumped(honest()))
    for group in GROUPS:
        for name, text in group():
            yield f"{group.__name__}: {name}", lambda text=text: draw(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def results(folder) -> dict[str, Result]:
    return guarded(__file__, folder)


def of(results: dict[str, Result], group: Callable) -> dict[str, Result]:
    return {name: each for name, each in results.items() if name.startswith(f"{group.__name__}:")}


def test_no_file_starts_opens_or_takes_anything(results, folder):
    assert not faults(results)
    assert not (folder / "WITNESS").exists() and (folder / "evil.py").exists()
    assert len(results) > 150


def test_a_file_that_names_code_is_refused_with_its_name_and_the_way(results):
    for name, each in of(results, naming_code).items():
        assert each.error == "UserError", name
        assert "names code that is no network of ldm's" in each.text, name
        assert "tiny.yaml" in each.text, name
        assert "--config" in each.text and "--trust_config" in each.text, name
    refused = results["naming_code: os.system: the conditioner"].text
    assert "os.system (model.params.cond_stage_config.target)" in refused


def test_code_beside_the_model_is_as_if_it_were_not_there(results):
    for name, each in {"honest": results["honest"], **of(results, never_built)}.items():
        assert (each.error, each.value) == ("", "LatentSpaceDiffusion"), name


def test_an_interpolation_that_is_no_reference_is_refused_without_its_value(results):
    for name, each in of(results, interpolating).items():
        assert each.error == "UserError" and "resolvers are off" in each.text, name
        assert VALUE not in each.text and SECRET not in each.text, name
    text = results["interpolating: the environment: scale"].text
    assert "model.params.scale_factor" in text and "resolver oc.env" in text


def test_a_parameter_that_leads_elsewhere_is_refused(results):
    for name, each in of(results, reaching).items():
        assert each.error == "UserError", name
        assert "not given by you" in each.text or "names code" in each.text, name


@pytest.mark.parametrize("group", [claiming, oversized])
def test_a_claim_beyond_every_model_is_refused(results, group):
    for name, each in of(results, group).items():
        assert each.error == "UserError", name
