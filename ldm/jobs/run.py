"""A run: what it is to draw and where to, and what of that is left to do.

    plan -> survey (every line read and checked) -> remaining (the jobs that are left, one by one)

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.jobs.files import BadLines, FileState, Lost, read_jobs
from ldm.jobs.job import Job
from ldm.jobs.lines import LineReader
from ldm.jobs.manifest import Manifest
from ldm.jobs.records import Record, Records
from ldm.jobs.store import Store, open_store
from ldm.paths import at_home, exists
from ldm.pipelines.models import ModelChoice, find_model
from ldm.settings.adapters import read_control, read_lora
from ldm.settings.batch import BatchSettings

_LOOK_EVERY = 1024  # jobs between two looks at whether the file is still the same
_NAMED = 10  # numbers of pictures in a message


@dataclass(frozen=True)
class RunPlan:
    """All that a worker needs to know of a run. It can be pickled.

    Attributes:
        settings: The program's, checked.
        named: Those of them that the user gave: they hold for lines that do not say otherwise.
        state: The file of jobs when it was checked; None was not.
    """

    settings: BatchSettings
    named: frozenset[str] = frozenset()
    state: FileState | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The settings that the user gave, by field name."""
        return {name: getattr(self.settings, name) for name in sorted(self.named)}

    @cached_property
    def choice(self) -> ModelChoice:
        """The model.

        Raises:
            UserError: There is none, or it is of no kind that draws.
        """
        return find_model(self.settings)

    @cached_property
    def reader(self) -> LineReader:
        """What makes jobs of the file's lines."""
        return LineReader(self.choice, self.given, Path(self.settings.jobs).parent)

    @cached_property
    def store(self) -> Store:
        """Where the run's files go."""
        return open_store(self.settings.out)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what each process finds anew: the model's hash is computed by a thread."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass
class Survey:
    """What a look at all lines found.

    Attributes:
        state: The file when they were read.
        pictures: How many it asks for, those of bad lines included.
        remaining: How many are still to be drawn.
        failed: How many of these an earlier run tried in vain.
        changed: How many of these are finished and would now be drawn otherwise.
        first_changed: The numbers of the first of these.
        bad: Lines that cannot be drawn.
        lost: The pictures of these lines, with the reason.
        beyond: How many finished pictures belong to no line.
    """

    state: FileState
    pictures: int = 0
    remaining: int = 0
    failed: int = 0
    changed: int = 0
    first_changed: list[int] = field(default_factory=list)
    bad: BadLines = field(default_factory=BadLines)
    lost: list[Lost] = field(default_factory=list)
    beyond: int = 0

    @property
    def there(self) -> int:
        """How many pictures are finished, as they would be drawn now."""
        return self.pictures - self.remaining - sum(each.count for each in self.lost)

    def count(self, job: Job, done: Records, failed: frozenset[int]) -> None:
        """Count a job."""
        self.pictures += 1
        if not _is_left(job, done, failed):
            return
        self.remaining += 1
        if job.number in failed:
            self.failed += 1
        elif job.number in done:
            self.changed += 1
            if len(self.first_changed) < _NAMED:
                self.first_changed.append(job.number)


def survey(plan: RunPlan, done: Records) -> Survey:
    """Read and check every line, and compare it with what is done.

    Args:
        plan: The run.
        done: Its manifest's records.

    Raises:
        UserError: The file cannot be read, or has no jobs.
    """
    path, failed = plan.settings.jobs, frozenset(done.failed())
    found, first = Survey(FileState.of(path)), plan.settings.first
    for each in read_jobs(path, plan.reader, first):
        if isinstance(each, Lost):
            found.bad.add(each.bad)
            found.lost.append(each)
            found.pictures += each.count
        else:
            found.count(each, done, failed)
    if not found.pictures:
        raise UserError(f"JOBS {path} holds no jobs; expected one on each line; add some")
    if not found.state.is_still(path):
        raise _changed_meanwhile(path)
    found.beyond = sum(not 0 <= number - first < found.pictures for number in done)
    return found


def check(plan: RunPlan, found: Survey) -> None:
    """Check that what was found may be drawn as it is.

    Raises:
        UserError: There are bad lines, or pictures that would be replaced, and no flag allows it.
    """
    settings = plan.settings
    if found.bad.count and not settings.skip_bad:
        raise UserError(
            f"JOBS {settings.jobs}: {found.bad.count} of its lines cannot be drawn, the first is "
            f"line {found.bad.first[0].line}; expected jobs that can; mend them, or add --skip_bad "
            "to draw the others"
        )
    if found.changed and not settings.redraw:
        numbers = ", ".join(map(str, found.first_changed))
        more = ", ..." if found.changed > len(found.first_changed) else ""
        raise UserError(
            f"--out {settings.out} holds {found.changed} finished pictures that would be others "
            f"now (numbers {numbers}{more}): their lines, the settings or the model have changed; "
            "expected the run that was begun there; give another --out, or add --redraw to "
            "replace them"
        )


def remaining(plan: RunPlan, done: Records | None = None) -> Iterator[Job]:
    """Yield the jobs that are not done, in the order of the file; little of it is in memory.

    Args:
        plan: The run.
        done: Its manifest's records; None reads them.

    Raises:
        UserError: The file has changed since the plan was made.
    """
    done = Manifest(plan.store).done() if done is None else done
    path, failed = plan.settings.jobs, frozenset(done.failed())
    for count, job in enumerate(read_jobs(path, plan.reader, plan.settings.first)):
        if count % _LOOK_EVERY == 0:
            _check_state(plan)
        if isinstance(job, Job) and _is_left(job, done, failed):
            yield job
    _check_state(plan)


def lost_records(found: Survey, done: Records, worker: str) -> Iterator[Record]:
    """Yield what the manifest is to say of the pictures of bad lines, where it does not yet.

    A picture that was drawn before its line went bad keeps its record.
    """
    for lost in found.lost:
        error = f"line {lost.bad.line}: {lost.bad.why}"
        for number in range(lost.number, lost.number + lost.count):
            there = done.get(number)
            if there is None or (there.error and there.error != error):
                yield Record(number, "", error=error, worker=worker)


_FILES = (
    *("jobs", "ckpt", "config", "glossary", "translator", "image_encoder", "decoder"),
    *("restore_faces", "face_detector", "wildcards"),
)


def planned(settings: BatchSettings, named: frozenset[str]) -> RunPlan:
    """Return the plan of checked settings, with paths made whole.

    Workers may have another present folder.
    """
    found = {"out": settings.out if "://" in settings.out else _whole(settings.out)}
    for name in _FILES:
        path = getattr(settings, name)
        # A model may also be named from the project's folder.
        if path is not None and (name == "jobs" or exists(path)):
            found[name] = _whole(path)
    for name, read in (("lora", read_lora), ("control", read_control)):
        found[name] = tuple(_wish_whole(text, read) for text in getattr(settings, name))
    found["embedding"] = tuple(_whole_if_there(path) for path in settings.embedding)
    return RunPlan(replace(settings, **found), named)


def _whole(path: str) -> str:
    return str(Path(path).absolute())


def _whole_if_there(path: str) -> str:
    """Return a path made whole; what is no path is an adapter's name in its usual folder."""
    found = at_home(path)
    return _whole(str(found)) if exists(found) else path


def _wish_whole(text: str, read: Callable[[str], Any]) -> str:
    """Return the text of an adapter with its paths made whole."""
    wish = read(text)
    named = {name: getattr(wish, name, "") for name in ("file", "image")}
    found = {name: _whole_if_there(path) for name, path in named.items() if path}
    if all(named[name] == path for name, path in found.items()):
        return text
    whole = replace(wish, **found)
    try:
        return str(whole) if read(str(whole)) == whole else text
    except UserError:  # a folder with a colon in its name
        return text


def _is_left(job: Job, done: Records, failed: frozenset[int]) -> bool:
    return job.number in failed or done.digest(job.number) != job.digest


def _check_state(plan: RunPlan) -> None:
    if plan.state is not None and not plan.state.is_still(plan.settings.jobs):
        raise _changed_meanwhile(plan.settings.jobs)


def _changed_meanwhile(path: str | Path) -> UserError:
    return UserError(
        f"JOBS {path} has changed while it was read; expected the file that the run began with; "
        "run again when it is finished: what is drawn is kept"
    )
