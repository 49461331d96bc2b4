"""The order of the data: every item once per pass, continued where it was left."""

from __future__ import annotations

import io
import tarfile

import pytest
import small_pictures
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from ldm.data.base import Txt2ImgIterableBaseDataset
from ldm.data.folder import ImageFolder
from ldm.errors import UserError
from ldm.models.hub_training import batch_size_of
from ldm.training.data import (
    DataModuleFromConfig,
    ResumableSampler,
    own_words,
    worker_init_fn,
)

PICTURES = {"target": "training_parts.Pictures", "params": {"length": 5}}


def test_a_pass_holds_every_item_once_and_the_next_pass_is_another_order():
    seen = 0
    sampler = ResumableSampler(20, shuffle=True, position=lambda: seen)
    first = list(sampler)
    seen = 20
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_a_pass_begun_in_the_middle_is_the_rest_of_the_whole_pass():
    whole = list(ResumableSampler(20, shuffle=True, seed=5))
    assert list(ResumableSampler(20, shuffle=True, seed=5, position=lambda: 7)) == whole[7:]


def test_without_shuffling_the_order_is_the_datasets():
    assert list(ResumableSampler(4, shuffle=False)) == [0, 1, 2, 3]


def test_processes_share_a_pass_in_equal_parts():
    parts = [list(ResumableSampler(7, shuffle=True, rank=rank, world=3)) for rank in range(3)]
    assert [len(part) for part in parts] == [3, 3, 3]
    assert set(sum(parts, [])) == set(range(7))


def test_processes_continue_a_pass_together():
    whole = [list(ResumableSampler(8, shuffle=True, rank=rank, world=2)) for rank in range(2)]
    rest = [
        list(ResumableSampler(8, shuffle=True, rank=rank, world=2, position=lambda: 4))
        for rank in range(2)
    ]
    assert rest == [part[2:] for part in whole]


def test_a_set_that_is_not_configured_loads_nothing():
    data = DataModuleFromConfig(2, train=OmegaConf.create(PICTURES), num_workers=0)
    data.setup()
    assert data.has("train")
    assert not data.has("test")
    assert data.test_dataloader() == []
    assert [batch_size_of(batch) for batch in data.train_dataloader()] == [2, 2, 1]


def test_wrapping_makes_a_dataset_of_anything_with_items():
    data = DataModuleFromConfig(2, train=OmegaConf.create(PICTURES), wrap=True, num_workers=0)
    data.setup()
    assert len(data.datasets["train"]) == 5
    assert data.datasets["train"][1]["txt"] == "ramp 1"


def test_an_empty_dataset_is_refused():
    empty = OmegaConf.create({**PICTURES, "params": {"length": 0}})
    with pytest.raises(UserError, match="data.params.train: training_parts.Pictures has no items"):
        DataModuleFromConfig(2, train=empty, num_workers=0).setup()


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(UserError, match="batch_size is 0"):
        DataModuleFromConfig(0, train=OmegaConf.create(PICTURES))


class Stream(Txt2ImgIterableBaseDataset):
    def __iter__(self):
        yield from self.sample_ids


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_share_the_records_of_a_stream():
    stream = Stream(num_records=7, valid_ids=range(7))
    loader = DataLoader(stream, batch_size=None, num_workers=2, worker_init_fn=worker_init_fn)
    assert sorted(loader) == list(range(7))


def test_bad_items_are_counted_once_more_at_the_end(tmp_path, caplog):
    small_pictures.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    folder = {"target": "ldm.data.folder.ImageFolder", "params": {"root": str(tmp_path), "size": 8}}
    data = DataModuleFromConfig(2, train=OmegaConf.create(folder), num_workers=0)
    data.setup()
    assert len(list(data.train_dataloader())) == 1
    data.teardown()
    assert caplog.messages[-1] == f"{tmp_path}: 1 of 2 items were bad; others took their places"


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_shards_are_shared_by_workers_and_batched(tmp_path):
    pytest.importorskip("webdataset")
    content = small_pictures.save(tmp_path / "a.jpg").read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for k in range(6):
            for ending, part in (("jpg", content), ("txt", str(k).encode())):
                info = tarfile.TarInfo(f"{k}.{ending}")
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))
    shards = {"target": "ldm.data.shards.CaptionedShards"}
    shards["params"] = {"shards": str(tmp_path / "a.tar"), "size": 8}
    data = DataModuleFromConfig(3, train=OmegaConf.create(shards), num_workers=2)
    data.setup()
    batches = list(data.train_dataloader())
    assert sorted(text for batch in batches for text in batch["txt"]) == list("012345")


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_what_a_worker_finds_is_told_in_one_line(tmp_path):
    path = small_pictures.save(tmp_path / "a.png")
    folder = ImageFolder(str(tmp_path), 8)
    path.unlink()
    with pytest.raises(UserError) as error:
        list(DataLoader(folder, num_workers=1))
    assert own_words(error.value).startswith(f"{tmp_path}: 1 items in a row cannot be read")
    assert "\n" not in own_words(error.value)
    assert own_words(UserError("told by the main process")) == "told by the main process"
