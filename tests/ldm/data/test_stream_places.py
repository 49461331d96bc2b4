"""A stream that goes on from noted places yields what the one that was not stopped would have."""

from __future__ import annotations

import pytest
import torch
from tar_shards import write_shards
from torch.utils.data import DataLoader

from ldm.data.shards import CaptionedShards
from ldm.data.stream_places import PLACE, StreamPlaces

pytest.importorskip("webdataset")
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

WORKERS = 2


class Reading:
    """A process's loader of two workers, and what its batches hold.

    Args:
        folder: The shards.
        rank: Number of the process, of two.
        saved: Places to go on from.
    """

    def __init__(self, folder, rank, saved=None, workers=WORKERS, **settings):
        settings = {"shuffle": 4, "repeat": True, "random_crop": True, "flip_p": 0.5, **settings}
        stream = CaptionedShards(str(folder), 8, seed=3, **settings)
        self.places = StreamPlaces(max(1, workers), repeats=settings["repeat"])
        if saved is not None:
            self.places.restore(saved.tolist())
        stream.take_place(rank, 2)
        stream.follow(self.places)
        self.loader = DataLoader(stream, batch_size=2, num_workers=workers)
        self.batches = iter(self.loader)

    def take(self, count):
        taken = []
        for _ in range(count):
            batch = next(self.batches)
            self.places.note(batch[PLACE])
            taken.append((batch["txt"], batch["jpg"], batch[PLACE]))
        return taken


# Shards of 22 samples for four readers: some read two of five, or all read both of two.
@pytest.mark.parametrize("sizes", [[5, 4, 5, 4, 4], [12, 10]], ids=["more_shards", "fewer_shards"])
def test_two_processes_of_two_workers_go_on_with_the_very_next_samples(tmp_path, sizes):
    write_shards(tmp_path, sizes, bad=(3, 8, 14))
    for rank in (0, 1):
        whole = Reading(tmp_path, rank).take(12)
        taken, saved = [], None
        for count in (1, 4, 7):  # stops on either worker's turn, in the first pass and behind it
            reading = Reading(tmp_path, rank, saved)
            taken += reading.take(count)
            saved = reading.places.saved(epoch_ended=False)
        assert [texts for texts, *_ in taken] == [texts for texts, *_ in whole]
        for (_, found, place), (_, expected, same) in zip(taken, whole, strict=True):
            assert torch.equal(found, expected)
            assert place == same
        assert int(saved[:-1, 0].max()) > 0


def test_a_process_without_workers_reads_for_itself(tmp_path):
    write_shards(tmp_path, [6, 5])
    whole = Reading(tmp_path, 0, workers=0).take(7)
    first = Reading(tmp_path, 0, workers=0)
    taken = first.take(4)
    saved = first.places.saved(epoch_ended=False)
    taken += Reading(tmp_path, 0, saved, workers=0).take(3)
    assert [texts for texts, *_ in taken] == [texts for texts, *_ in whole]


def test_what_workers_have_read_ahead_is_not_passed_over_when_an_epoch_begins(tmp_path):
    """An epoch of so many batches ends in the middle of a pass: the next one goes on there."""
    write_shards(tmp_path, [6, 6, 6, 6])
    reading = Reading(tmp_path, 0)
    seen = []
    for _ in range(3):
        reading.batches = iter(reading.loader)
        seen += [text for texts, *_ in reading.take(2) for text in texts]
    assert len(set(seen)) == len(seen) == 12


def test_a_stream_of_single_passes_goes_on_in_its_pass_and_then_begins_another(tmp_path):
    write_shards(tmp_path, [5, 5, 5, 5])
    whole, taken = Reading(tmp_path, 0, repeat=False, workers=0), []
    one_pass = whole.take(5)
    assert next(whole.batches, None) is None
    whole.batches = iter(whole.loader)
    both = one_pass + whole.take(5)
    saved = None
    for count, ended in ((3, False), (2, True), (5, True)):
        reading = Reading(tmp_path, 0, saved, repeat=False, workers=0)
        taken += reading.take(count)
        saved = reading.places.saved(epoch_ended=ended)
    assert [texts for texts, *_ in taken] == [texts for texts, *_ in both]
    assert both[0][0] != both[5][0]


def test_sharing_is_told(tmp_path, caplog):
    caplog.set_level("INFO", logger="ldm")
    write_shards(tmp_path, [2, 2, 2, 2, 2])
    Reading(tmp_path, 0)
    assert "5 shards for 4 readers: each reads 1 to 2 of them in a pass" in caplog.text
    Reading(tmp_path, 0, workers=4)
    assert "5 shards for 8 readers: each reads all of them and takes every 8th" in caplog.text


def test_samples_say_where_they_are_from(tmp_path):
    write_shards(tmp_path, [2])
    item = next(iter(CaptionedShards(str(tmp_path), 8, shuffle=0)))
    assert item["file_path_"] == f"{tmp_path / 'part-00.tar'}: 00"
    assert item[PLACE] == "0/0/1"
