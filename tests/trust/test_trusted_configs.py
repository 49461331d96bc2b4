"""What may be in a configuration that comes with a model, and what a user may let it name."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import tiny_model
import torch
from family_models import write_family_model
from omegaconf import OmegaConf
from running import ROOT, load_program
from torch import nn

from ldm.building import STANDS_FOR, import_object
from ldm.checkpoint import found_config
from ldm.checkpoint.found_config import PATHS, load_model_config
from ldm.config import load_config
from ldm.errors import UserError
from ldm.pipelines.models import choose_model
from ldm.pipelines.pipeline import Pipeline
from ldm.programs.inpainting import InpaintProgramSettings
from ldm.retrieval.settings import RetrievalSettings
from ldm.settings.checkpoints import ConvertSettings
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.inpaint import LowMemoryInpaintSettings
from ldm.settings.low_memory import LowMemoryImg2ImgSettings, LowMemoryTxt2ImgSettings
from ldm.settings.option import flag_of
from ldm.settings.samples import SampleProgramSettings
from ldm.settings.upscale import UpscaleProgramSettings

FORK = """
from ldm.modules.diffusionmodules.openaimodel import UNetModel

class OwnUNet(UNetModel):
    pass
"""
PROGRAMS = (
    Txt2ImgSettings,
    Img2ImgSettings,
    InpaintProgramSettings,
    LowMemoryTxt2ImgSettings,
    LowMemoryImg2ImgSettings,
    LowMemoryInpaintSettings,
    RetrievalSettings,
    SampleProgramSettings,
    UpscaleProgramSettings,
    ConvertSettings,
)
SHIPPED = [
    path
    for folder in ("configs", "models")
    for path in sorted((ROOT / folder).rglob("*.yaml"))
    if "model" in load_config(path)
    and "base_config" not in load_config(path).model.params  # of an adapter: no checkpoint's own
]
# As CompVis's model zoo has them beside its checkpoints, shortened.
CIN256 = """
model:
  base_learning_rate: 1.0e-06
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.0015
    linear_end: 0.0195
    num_timesteps_cond: 1
    timesteps: 1000
    first_stage_key: image
    cond_stage_key: class_label
    image_size: 32
    channels: 4
    scheduler_config:
      target: ldm.lr_scheduler.LambdaLinearScheduler
      params: {warm_up_steps: [10000], cycle_lengths: [10000000000000], f_start: [1.e-6]}
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params: {image_size: 32, in_channels: 4, out_channels: 4, model_channels: 256}
    first_stage_config:
      target: ldm.models.autoencoder.VQModelInterface
      params:
        embed_dim: 4
        n_embed: 16384
        ckpt_path: /export/home/somebody/logs/vq-f8/checkpoints/last.ckpt
        ddconfig: {z_channels: 4, resolution: 256, ch: 128, ch_mult: [1, 2, 2, 4]}
        lossconfig:
          target: taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator
          params: {disc_start: 250001, perceptual_weights: /export/home/somebody/vgg.pth}
    cond_stage_config:
      target: ldm.modules.encoders.modules.ClassEmbedder
      params: {embed_dim: 512, key: class_label}
data:
  target: main.DataModuleFromConfig
  params:
    train: {target: taming.data.faceshq.CelebAHQTrain, params: {size: 256}}
    validation: {target: my_own.Data, config: {size: 256}}
lightning:
  trainer: {benchmark: true}
  callbacks: {image_logger: {target: main.ImageLogger, params: {batch_frequency: 5000}}}
"""


@pytest.fixture(scope="module")
def fork(tmp_path_factory) -> Path:
    """A model's folder whose YAML names a class of a fork's, which is installed."""
    folder = tmp_path_factory.mktemp("fork")
    ckpt = tiny_model.write_tiny_model(folder)
    config = copy.deepcopy(tiny_model.CONFIG)
    config["model"]["params"]["unet_config"]["target"] = "own_fork.OwnUNet"
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    (folder / "own_fork.py").write_text(FORK)
    return ckpt


@pytest.fixture
def installed(fork, monkeypatch):
    monkeypatch.syspath_prepend(fork.parent)
    yield
    sys.modules.pop("own_fork", None)


def own_class(choice) -> str:
    model = Pipeline.load(choice, device="cpu").model
    return type(model.model.diffusion_model).__name__


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_yaml_that_ships_may_lie_beside_a_checkpoint(path):
    merged = load_model_config(path, given=False)
    assert merged.model == load_config(path).model


def test_a_yaml_of_an_adapters_run_leads_to_no_other_one(tmp_path):
    """Nobody would look at what that one names."""
    evil = {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": {}}}
    evil["model"]["params"]["unet_config"] = {"target": "os.system", "params": {"command": "true"}}
    OmegaConf.save(OmegaConf.create(evil), tmp_path / "evil.yaml")
    config = load_config(ROOT / "configs/adapters/demo-lora.yaml")
    config.model.params.base_config = str(tmp_path / "evil.yaml")
    OmegaConf.save(config, tmp_path / "config.yaml")
    with pytest.raises(UserError, match="base_config .* leads to another configuration"):
        load_model_config(tmp_path / "config.yaml", given=False)


def test_a_yaml_of_the_model_zoo_may_lie_beside_a_checkpoint(tmp_path):
    (tmp_path / "config.yaml").write_text(CIN256)
    config = load_model_config(tmp_path / "config.yaml", given=False)
    params = config.model.params
    assert params.cond_stage_config.target.endswith("ClassEmbedder")
    assert "CelebA" not in OmegaConf.to_yaml(config), "nothing could build it by accident"


def test_what_published_yamls_name_needs_no_import_to_be_known(monkeypatch):
    monkeypatch.setattr(found_config, "import_object", lambda name: pytest.fail(name))
    for path in (ROOT / "configs/stable-diffusion").glob("*.yaml"):
        load_model_config(path, given=False)


@pytest.mark.parametrize("name", sorted(found_config.KNOWN | set(STANDS_FOR)))
def test_each_known_name_is_that_of_a_network_or_a_schedule(name):
    found = import_object(name)
    assert issubclass(found, nn.Module) or found.__module__ == "ldm.lr_scheduler"


def test_every_parameter_of_a_network_that_is_a_path_is_on_the_list():
    """A new one that reads a file has to be thought about."""
    import importlib
    import inspect
    import pkgutil

    import ldm.models
    import ldm.modules

    names = set()
    for package in (ldm.models, ldm.modules):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            loaded = importlib.import_module(module.name)
            for cls in vars(loaded).values():
                if isinstance(cls, type) and issubclass(cls, nn.Module):
                    for each in inspect.signature(cls.__init__).parameters.values():
                        if "Path" in str(each.annotation) or "path" in each.name:
                            names.add(each.name)
    assert names - {"ckpt_path"} <= set(PATHS)


def test_a_forks_class_is_refused_in_a_file_that_nobody_gave(fork, installed):
    with pytest.raises(UserError, match=r"own_fork\.OwnUNet \(model\.params\.unet_config\.target"):
        choose_model(Txt2ImgSettings(ckpt=str(fork)))
    assert "own_fork" not in sys.modules
    with pytest.raises(UserError, match="names code"):
        Pipeline.load(fork, device="cpu")


@pytest.mark.parametrize("how", ["config", "trust_config"])
def test_a_forks_class_draws_when_its_yaml_is_given_or_trusted(fork, installed, how, caplog):
    value = str(fork.parent / "config.yaml") if how == "config" else True
    choice = choose_model(Txt2ImgSettings(ckpt=str(fork), **{how: value}))
    assert own_class(choice) == "OwnUNet"
    (record,) = [each for each in caplog.records if "names code" in each.message]
    assert "own_fork.OwnUNet (model.params.unet_config.target)" in record.message


def test_a_fork_in_ldms_own_folders_needs_no_trust(fork, tmp_path, monkeypatch):
    import ldm.modules

    (tmp_path / "own_blocks.py").write_text(FORK)
    monkeypatch.setattr(ldm.modules, "__path__", [*ldm.modules.__path__, str(tmp_path)])
    config = OmegaConf.load(fork.parent / "config.yaml")
    config.model.params.unet_config.target = "ldm.modules.own_blocks.OwnUNet"
    OmegaConf.save(config, tmp_path / "tiny.yaml")
    (tmp_path / "tiny.safetensors").write_bytes(fork.read_bytes())
    assert own_class(choose_model(Txt2ImgSettings(ckpt=str(tmp_path / "tiny.safetensors"))))
    sys.modules.pop("ldm.modules.own_blocks", None)


@pytest.mark.parametrize("schema", PROGRAMS, ids=lambda schema: schema.__name__)
def test_every_program_that_finds_a_yaml_takes_the_flag_which_is_off(schema):
    assert flag_of(schema, "trust_config") == "--trust_config"
    assert schema.__dataclass_fields__["trust_config"].default is False


def run(script: str, *arguments, capsys) -> tuple[int, str]:
    code = load_program(script).main([str(each) for each in arguments])
    return code, capsys.readouterr().err


def test_programs_end_with_one_line_or_run_with_one(fork, installed, tmp_path, capsys):
    calls = {
        "scripts/txt2img.py": ("--ckpt", fork, "--outdir", tmp_path / "a", "--device", "cpu"),
        "scripts/sample_diffusion.py": (
            "-r",
            fork,
            "-n",
            1,
            "-c",
            1,
            "--prompt",
            "x",
            "-l",
            tmp_path,
        ),
        "scripts/convert.py": (fork, tmp_path / "c"),
    }
    few = ("--ddim_steps", 1, "--n_samples", 1, "--n_iter", 1, "--prompt", "x")
    calls["scripts/txt2img.py"] += few
    for script, arguments in calls.items():
        code, err = run(script, *arguments, capsys=capsys)
        assert code == 2 and len(err.splitlines()) == 1 and "own_fork.OwnUNet" in err, err
        code, err = run(script, *arguments, "--trust_config", capsys=capsys)
        told = [line for line in err.splitlines() if "names code that is no" in line]
        assert code == 0 and len(told) == 1 and told[0].startswith("warning: "), err


def test_a_classifiers_own_yaml_is_trusted_by_the_flag_alone(tmp_path, capsys):
    folder = write_family_model(tmp_path / "zoo", "class")
    judge = tmp_path / "judge"
    judge.mkdir()
    (judge / "model.ckpt").write_bytes(b"weights")
    (judge / "config.yaml").write_text("model: {target: os.system, params: {command: touch x}}")
    drawn = ("-r", folder, "-n", 1, "-c", 1, "--class_label", 0, "--classifier", judge)
    code, err = run("scripts/sample_diffusion.py", *drawn, capsys=capsys)
    assert code == 2 and "os.system" in err and "--trust_config" in err
    assert "give it by" not in err, "--config is the model's"


@pytest.mark.parametrize("named", ["config", "overrides"])
def test_what_the_record_of_a_continued_run_names_is_not_given(tmp_path, capsys, named):
    folder = write_family_model(tmp_path / "church", "unconditional")
    assert run("scripts/sample_diffusion.py", "-r", folder, "-n", 1, "-c", 1, capsys=capsys)[0] == 0
    (samples,) = folder.glob("samples/*/*")
    record = OmegaConf.load(samples / "sampling_config.yaml")
    evil = tmp_path / "evil.yaml"
    evil.write_text("model: {target: os.system, params: {command: touch x}}")
    record[named] = str(evil) if named == "config" else ["model.target=os.system"]
    OmegaConf.save(record, samples / "sampling_config.yaml")
    continued = ("--continue", samples, "-n", 2)
    code, err = run("scripts/sample_diffusion.py", *continued, capsys=capsys)
    assert code == 2 and "names code that is no network of ldm's: os.system (model.target)" in err


def test_a_change_on_the_command_line_may_name_anything(fork, installed, tmp_path):
    config = fork.parent / "config.yaml"
    plain = OmegaConf.load(config)
    plain.model.params.unet_config.target = "ldm.modules.diffusionmodules.openaimodel.UNetModel"
    OmegaConf.save(plain, tmp_path / "config.yaml")
    change = "model.params.unet_config.target=own_fork.OwnUNet"
    changed = load_model_config(tmp_path / "config.yaml", overrides=[change], given=False)
    assert changed.model.params.unet_config.target == "own_fork.OwnUNet"


def test_references_follow_a_change_on_the_command_line(tmp_path):
    (tmp_path / "c.yaml").write_text("model: {params: {a: 1, b: '${model.params.a}', c: [1, 2]}}")
    config = load_model_config(tmp_path / "c.yaml", overrides=["model.params.a=5"], given=False)
    assert config.model.params.b == 5


def test_a_path_in_the_models_folder_or_the_usual_ones_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "zoo"
    here.mkdir()
    part = "cond_stage_config: {target: torch.nn.Identity, params: {tokenizer_path: PATH}}"
    for path in (here / "vocab.txt", "zoo/vocab.txt", "models/bert", ROOT / "models/bert"):
        text = f"model: {{params: {{{part.replace('PATH', str(path))}}}}}"
        (here / "config.yaml").write_text(text)
        assert load_model_config(here / "config.yaml", given=False)


def test_a_link_out_of_the_models_folder_is_no_way_out(tmp_path):
    (tmp_path / "out").symlink_to("/etc")
    part = f"{{target: torch.nn.Identity, params: {{tokenizer_path: {tmp_path}/out/passwd}}}}"
    (tmp_path / "config.yaml").write_text(f"model: {{params: {{cond_stage_config: {part}}}}}")
    with pytest.raises(UserError, match="is a path outside the model's folder"):
        load_model_config(tmp_path / "config.yaml", given=False)


def test_a_models_budget_counts_weights_in_memory_before_they_are_filled(monkeypatch):
    from ldm.checkpoint import claims

    monkeypatch.setattr(claims, "MODEL_BYTES", 500)
    filled = []
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: filled.append(self))
    with torch.device("meta"), claims.within_budget():
        nn.Linear(1000, 1000)
    with pytest.raises(UserError, match="more than"), claims.within_budget():
        nn.Linear(10, 10)
        nn.Linear(10, 10)
    assert len(filled) == 2, "the third takes no memory"
    assert nn.Linear(100, 100) is not None
