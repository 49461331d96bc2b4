"""Check a run's pictures against its manifest, and merge runs."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ldm.errors import UserError
from ldm.jobs.ahead import ahead
from ldm.jobs.base import Store
from ldm.jobs.manifest import SHARDS, Manifest, ManifestWriter
from ldm.jobs.output import Output, open_output
from ldm.jobs.records import Record, Records
from ldm.jobs.samples import UNREADABLE, Sample, samples

logger = logging.getLogger(__name__)

_TOGETHER = 64  # pictures of a folder that one thread reads in a row
_SHOWN = 5


class Damage(NamedTuple):
    """A picture that is not there as it was recorded.

    Attributes:
        number: Which picture.
        name: Its file.
        fault: The end of a sentence that begins with the file.
    """

    number: int
    name: str
    fault: str


def verify(store: Store, observer: Callable[[int], object] | None = None) -> list[Damage]:
    """Hash every picture anew, and list those that are missing or damaged.

    If a picture of a shard is damaged, all of that shard are listed: they are to be drawn again, as
    a picture would otherwise be in two shards. ``set_aside`` then removes the shard. A warning says
    how many pictures are still in shards although they were drawn again later, for other settings.

    Args:
        store: The run's place.
        observer: Told how many pictures have been checked.

    Returns:
        In the order of their numbers. Pictures that were never drawn are not among them.

    Raises:
        StoreError: The place cannot be read at all.
    """
    checked, damages = 0, []
    done, last = Manifest(store).both()
    if done.stale:
        logger.warning(
            "%s: shards still hold %d pictures that were drawn again later and do not count; "
            "merging into a new place leaves them out",
            *(store.url, done.stale),
        )
    for group in _in_threads(store, itertools.chain(done.by_place(), _lost(done, last))):
        found = [_damage(sample) for sample in group]
        damages += _whole_shard(group, found)
        checked += len(found)
        if observer is not None:
            observer(checked)
    return sorted(damages)


def check_mendable(damages: Iterable[Damage], is_drawable: Callable[[int], bool]) -> None:
    """Check that nothing is lost with the shards that ``set_aside`` would remove.

    Args:
        damages: What ``verify`` found.
        is_drawable: Says of a number whether that picture can be drawn again.

    Raises:
        UserError: A shard holds others too, or it is whole, perhaps, and the disk is not.
    """
    for each in damages:
        if not each.name.startswith(f"{SHARDS}/"):
            continue
        if each.fault.startswith(UNREADABLE):
            raise UserError(
                f"{each.name} {each.fault}; expected a shard that can be, to tell whether it is "
                "damaged; nothing was removed: mend the disk, or delete the shard to have its "
                "pictures drawn again"
            )
        if not is_drawable(each.number):
            raise UserError(
                f"{each.name} is damaged, and no line of JOBS draws its picture {each.number} "
                "again; expected the lines that the run was begun with; nothing was removed: add "
                "them, or delete the shard"
            )


def set_aside(store: Store, damages: Iterable[Damage]) -> None:
    """Remove shards with damaged pictures, so that the pictures count as not drawn.

    Raises:
        StoreError: One cannot be removed.
    """
    for name in sorted({each.name for each in damages if each.name.startswith(f"{SHARDS}/")}):
        store.remove(name)


def merge(runs: Sequence[Store], into: Store, format: str = "folder") -> list[Damage]:
    """Copy the pictures of several runs into one place, with a manifest of their own.

    Pictures that several runs have are taken once. Anything is copied only if no number stands for
    two different pictures; each is compared with its hash on the way. A merge that was interrupted
    goes on where it stopped. Only what is current is taken: shards are packed anew, without what
    was drawn again later.

    Args:
        runs: Their places.
        into: Where to; a run that is there already counts as one more.
        format: As for ``ldm.jobs.output.open_output``. Shards can be made of shards alone, as a
            folder has no captions.

    Returns:
        The pictures that no run has undamaged, in the order of their numbers.

    Raises:
        UserError: A number stands for different pictures, or shards are wanted of a folder.
        StoreError: A place cannot be read or written.
    """
    places = [into, *runs]
    records = [Manifest(each).done() for each in places]
    _refuse_conflicts(places, records)
    _refuse_without_captions(places[1:], records[1:], format)
    damages: dict[int, Damage] = {}
    with ManifestWriter(into, "merge") as writer:
        output = open_output(format, into, writer)
        try:
            for place in range(1, len(places)):
                wanted = _not_yet(records[place], records[:place], damages)
                for sample in samples(places[place], wanted):
                    _copy(sample, output, damages)
            output.close()
        finally:
            output.abandon()
        _copy_errors(records, writer)
    return sorted(damages.values())


def _not_yet(
    records: Records, earlier: Sequence[Records], damages: Mapping[int, Damage]
) -> Iterator[Record]:
    for record in records.by_place():
        number = record.number
        if number in damages or all(each.sha256(number) is None for each in earlier):
            yield record


def _copy(sample: Sample, output: Output, damages: dict[int, Damage]) -> None:
    record = sample.record
    if damage := _damage(sample):
        damages[record.number] = damage
        return
    job = _Merged(record.number, record.digest, {"prompt": sample.caption})
    output.add(job, sample.data, sample.parameters, seconds=record.seconds)
    damages.pop(record.number, None)


class _Merged(NamedTuple):
    number: int
    digest: str
    values: dict[str, Any]


def _lost(done: Records, last: Records) -> Iterator[Record]:
    """Yield the last records whose shard is gone, and whose picture nobody else has drawn.

    A worker that dies before its shard has a name leaves records that others may come to lack: they
    draw the same pictures, and their records may stand before its own.
    """
    for record in last.by_place():
        if done.digest(record.number) != record.digest:
            yield record


def _in_threads(store: Store, records: Iterator[Record]) -> Iterator[list[Sample]]:
    """Read groups of pictures by threads; their bytes are let go of at once."""

    def read(group: list[Record]) -> list[Sample]:
        return [each._replace(data=b"") for each in samples(store, group)]

    return ahead(read, _groups(records))


def _groups(records: Iterator[Record]) -> Iterator[list[Record]]:
    def shard(record: Record) -> str:
        return record.name if record.in_shard else ""

    for name, group in itertools.groupby(records, key=shard):
        if name:
            yield list(group)
        else:
            while some := list(itertools.islice(group, _TOGETHER)):
                yield some


def _damage(sample: Sample) -> Damage | None:
    record = sample.record
    return Damage(record.number, record.name, sample.fault) if sample.fault else None


def _whole_shard(group: list[Sample], found: list[Damage | None]) -> list[Damage]:
    bad = [each for each in found if each]
    if not bad or not group[0].record.in_shard or len(bad) == len(group):
        return bad
    fault = f"is in a shard whose picture {bad[0].number} {bad[0].fault}"
    return [
        damage or Damage(sample.record.number, sample.record.name, fault)
        for sample, damage in zip(group, found, strict=True)
    ]


def _refuse_conflicts(places: Sequence[Store], runs: Sequence[Records]) -> None:
    clashes = [
        (number, other, place)
        for place, records in enumerate(runs)
        for number in records
        if (mine := records.sha256(number)) is not None
        for other in range(place)
        if (theirs := runs[other].sha256(number)) is not None and theirs != mine
    ]
    if clashes:
        shown = ", ".join(
            f"{number} ({places[a].url} and {places[b].url})"
            for number, a, b in sorted(clashes)[:_SHOWN]
        )
        more = f" and {len(clashes) - _SHOWN:,} more" if len(clashes) > _SHOWN else ""
        raise UserError(
            f"pictures that are not the same in all runs: {shown}{more}; expected runs of the same "
            "jobs, or of other numbers; nothing was merged: keep these runs apart"
        )


def _refuse_without_captions(places: Sequence[Store], runs: Sequence[Records], format: str) -> None:
    if format == "folder":
        return
    for store, records in zip(places, runs, strict=True):
        if any(not record.in_shard for record in records.by_place()):
            raise UserError(
                f"{store.url} has pictures in folders, which have no captions beside them; "
                f"expected shards where {format} is wanted; merge into --format folder"
            )


def _copy_errors(runs: Sequence[Records], writer: ManifestWriter) -> None:
    """Record what no run could draw; the first run is the merged one."""
    for place, records in enumerate(runs[1:], start=1):
        for number in records.failed():
            drawn = any(each.sha256(number) is not None for each in runs)
            if not drawn and all(number not in each for each in runs[:place]):
                writer.append(records[number])
