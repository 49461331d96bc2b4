"""DreamBooth: the class's pictures are drawn once, and its loss is part of each step's."""

from __future__ import annotations

import shutil

import pytest
import torch
from omegaconf import OmegaConf

from ldm.config import build
from ldm.data.class_pictures import ClassPictures
from ldm.errors import UserError

SHIFT = {"target": "shifting_adapter.Shift"}


def config(runs, classes: str, count: int = 3, adapter: dict | None = SHIFT) -> dict:
    config = runs.config(adapter)
    if adapter is None:
        described = OmegaConf.to_container(OmegaConf.load(runs.folder / "config.yaml"))["model"]
        config["model"] |= {
            "target": "ldm.models.diffusion.dreambooth.DreamBooth",
            "params": described["params"] | {"ckpt_path": str(runs.base), "monitor": None},
        }
    config["data"]["params"]["train"] = {
        "target": "ldm.data.subject.SubjectWithClass",
        "params": {
            "root": str(runs.folder / "subject"),
            "size": 16,
            "prompt": "a photo of sks dog",
            "class_root": str(runs.folder / classes),
            "class_prompt": "a photo of a dog",
            "class_count": count,
            "class_steps": 2,
        },
    }
    return config


@pytest.fixture(scope="module")
def trained(runs):
    assert runs.start("dreambooth", config(runs, "dogs", adapter=None)) == 0
    return runs


def test_a_whole_model_is_trained_beside_pictures_that_it_drew(trained):
    drawn = sorted(path.name for path in (trained.folder / "dogs").iterdir())
    assert drawn == [f"drawn-{n:05}.png" for n in range(3)]
    state, before = trained.checkpoint("dreambooth")["state_dict"], trained.weights()
    moved = {name for name in before if not torch.equal(state[name], before[name])}
    assert moved
    assert all(name.startswith("model.diffusion_model.") for name in moved)


def test_a_picture_depends_on_its_number_alone(trained):
    few = trained.folder / "few"
    few.mkdir()
    for name in ("drawn-00000.png", "drawn-00002.png"):
        shutil.copy(trained.folder / "dogs" / name, few / name)
    assert trained.start("again", config(trained, "few")) == 0
    whole, again = (trained.folder / f / "drawn-00001.png" for f in ("dogs", "few"))
    assert whole.read_bytes() == again.read_bytes()
    assert whole.read_bytes() != (few / "drawn-00002.png").read_bytes()


def test_a_resumed_run_is_the_long_one_and_draws_nothing_anew(trained, capsys):
    assert trained.start("whole", config(trained, "dogs"), "--max_steps", "3") == 0
    assert trained.start("halves", config(trained, "dogs"), "--max_steps", "2") == 0
    assert trained.go_on("halves", "--max_steps", "3") == 0
    one, other = trained.checkpoint("whole"), trained.checkpoint("halves")
    torch.testing.assert_close(one["state_dict"], other["state_dict"], rtol=0, atol=0)
    (trained.folder / "dogs" / "drawn-00001.png").rename(trained.folder / "away.png")
    assert trained.go_on("halves", "--max_steps", "4") == 2
    assert "lacks 1 of 3 pictures" in capsys.readouterr().err
    (trained.folder / "away.png").rename(trained.folder / "dogs" / "drawn-00001.png")


def test_own_pictures_of_the_class_are_filled_up(trained):
    own = trained.folder / "own"
    shutil.copytree(trained.folder / "subject", own)
    assert ClassPictures(own, "a dog", 16, count=5).missing() == [0, 1]
    assert ClassPictures(own, "a dog", 16, count=3).missing() == []


def test_the_loss_is_the_subjects_plus_the_weighted_one_of_its_class(trained):
    hub = build(OmegaConf.create(trained.config(SHIFT, prior_weight=0.5)))
    batch = {"jpg": torch.rand(2, 16, 16, 3), "txt": ["a", "b"]}
    prior = {"jpg": torch.rand(2, 16, 16, 3), "txt": ["c", "d"]}
    torch.manual_seed(0)
    both, figures = hub.shared_step({**batch, "prior": prior})
    torch.manual_seed(0)
    one, _ = hub.shared_step(batch)
    other, _ = hub.shared_step(prior)
    torch.testing.assert_close(both, one + 0.5 * other)
    assert figures["train/loss_prior"] == other
    assert figures["train/loss"] == both


def test_a_class_beside_an_adapter_that_looks_at_the_batch_is_refused(trained):
    hub = build(OmegaConf.create(trained.config({"target": "shifting_adapter.SeeingShift"})))
    batch = {"jpg": torch.rand(1, 16, 16, 3), "txt": ["a"]}
    hub.shared_step(batch)
    assert hub.adapter.seen == [(["jpg", "txt"], None)]
    with pytest.raises(UserError, match="leave class_root out"):
        hub.shared_step({**batch, "prior": batch})


def test_items_without_a_class_have_no_prior(trained):
    params = config(trained, "dogs")["data"]["params"]["train"]["params"]
    without = {k: v for k, v in params.items() if not k.startswith("class")}
    target = {"target": "ldm.data.subject.SubjectWithClass"}
    plain = build(OmegaConf.create({"data": {**target, "params": without}}), "data")
    assert set(plain[0]) == {"jpg", "txt"}
    assert len(plain) == 3
    with pytest.raises(UserError, match="without class_prompt"):
        build(
            OmegaConf.create({"data": {**target, "params": params | {"class_prompt": ""}}}), "data"
        )
