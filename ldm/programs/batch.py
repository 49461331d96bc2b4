"""The course of batch.py: what is asked -> all lines checked -> what is left, drawn -> what failed.

Everything that can be checked without a model is reported before anything is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ldm.errors import UserError
from ldm.pipelines.progress import Progress
from ldm.programs.console import OK, Console, exit_codes
from ldm.programs.start import read_flags
from ldm.settings.batch import BatchSettings

if TYPE_CHECKING:  # these import NumPy and OmegaConf, which --help can do without
    from ldm.jobs.progress import Meter
    from ldm.jobs.records import Record
    from ldm.jobs.run import RunPlan, Survey
    from ldm.jobs.verify import Damage

SOME_FAILED = 1
"""The exit code where a run came to its end, and some of its pictures could not be drawn."""
_SHOWN = 20


class BatchProgram:
    """One run of batch.py.

    Args:
        description: First lines of ``--help``.
    """

    def __init__(self, description: str) -> None:
        self.description = description
        program = BatchSettings.program
        self.console = Console(program, sys.stdout, sys.stderr, unit=" pictures")
        self.settings: BatchSettings | None = None
        self.meter: Meter | None = None
        self.failed: list[Record] = []

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the program; return its exit code.

        0, 1 if pictures could not be drawn, 2 for a user's error, 130 for Ctrl-C.

        Args:
            argv: Arguments without the program's name; None takes ``sys.argv``.
        """
        with exit_codes(self.console, self.left_behind) as ending:
            given = read_flags(BatchSettings, self.description, argv)
            self.settings = settings = BatchSettings(**given)
            settings.validate()
            if settings.merge:
                ending.code = self.merge()
            elif settings.jobs is None:
                self.verify_alone()
            else:
                ending.code = self.draw(frozenset(given))
        return ending.code

    def left_behind(self) -> str:
        """Say what an interrupted run leaves behind."""
        if self.meter is None:
            return "nothing was drawn"
        return (
            f"{self.meter.pictures} pictures were drawn; the same command goes on where this one "
            "stopped"
        )

    def draw(self, named: frozenset[str]) -> int:
        """Draw what is left of a run; return the exit code.

        Of torchrun's ranks the first one does so, and tells the others what to draw.
        """
        from ldm.jobs.run import planned

        plan = planned(self.settings, named)
        if self.settings.engine != "torchrun":
            return self.draw_all(plan)
        from ldm.jobs.engines import torchrun  # imports torch

        with torchrun.company() as seat:
            if "workers" in named and self.settings.workers != seat.world:
                raise UserError(
                    f"--workers {self.settings.workers} was given, and torchrun has started "
                    f"{seat.world} processes; expected as many; leave --workers out"
                )
            if seat.rank:
                torchrun.follow(self.console.observe)
                return OK
            self.settings = replace(self.settings, workers=seat.world)
            code = self.draw_all(plan)
            if self.meter is None:
                torchrun.dismiss()
            return code

    def draw_all(self, plan: RunPlan) -> int:
        """Check every line, draw what is left and say what came of it; return the exit code."""
        plan.store.check()
        found = self.survey(plan)
        if found.remaining:
            plan = replace(plan, state=found.state)
            self.go(plan, found)
        self.console.close()
        return self.summary(found, self.undone(plan))

    def survey(self, plan: RunPlan) -> Survey:
        """Read every line, and say what is to be said before anything is drawn."""
        from ldm.jobs.manifest import Manifest
        from ldm.jobs.run import check, survey
        from ldm.jobs.run_file import check_run, notice_on_jobs, read_run, write_run

        begun = read_run(plan)
        check_run(plan, begun)
        if plan.choice.notice:
            self.console.say(plan.choice.notice)
        done = Manifest(plan.store).done()
        found = survey(plan, done)
        for line in found.bad.listed().splitlines():
            self.console.warn(line)
        check(plan, found)
        if self.settings.verify and self.verify(plan, found):
            done = Manifest(plan.store).done()
            found = survey(plan, done)
        for text in filter(None, (notice_on_jobs(begun, found), *_notices(found))):
            self.console.say(text)
        write_run(plan, found)
        self.record_lost(plan, found, done)
        return found

    def record_lost(self, plan: RunPlan, found: Survey, done: Any) -> None:
        """Write into the manifest which pictures bad lines cost."""
        from ldm.jobs.manifest import ManifestWriter
        from ldm.jobs.run import lost_records

        with ManifestWriter(plan.store, "driver") as writer:
            for record in lost_records(found, done, "driver"):
                writer.append(record)

    def go(self, plan: RunPlan, found: Survey) -> None:
        """Draw by the engine that is asked for."""
        from ldm.jobs.progress import Meter, served

        settings = self.settings
        self.meter = meter = Meter(found.remaining)
        with ExitStack() as stack:
            if settings.metrics_port is not None:
                port = stack.enter_context(served(meter, settings.metrics_port))
                self.console.say(f"Counters for Prometheus: http://127.0.0.1:{port}/metrics")
            self.console.say(
                f"{found.remaining} pictures to draw into {settings.out}, {plan.choice.ckpt_path}, "
                f"{settings.workers} worker(s) by --engine {settings.engine}."
            )
            self.progress()
            with closing(self.records(plan)) as records:
                for record in records:
                    meter.add(record)
                    if record.error:
                        self.failed.append(record)
                    self.progress()

    def records(self, plan: RunPlan) -> Iterator[Record]:
        """Return the records of pictures as they come."""
        names = {"local": "local", "torchrun": "torchrun", "ray": "ray_data"}
        engine = import_module(f"ldm.jobs.engines.{names[self.settings.engine]}")
        return engine.run(plan, self.console.observe)

    def progress(self) -> None:
        """Show how far the run is."""
        meter = self.meter
        self.console.observe(Progress(meter.done, meter.total, meter.pictures, meter.total))

    def undone(self, plan: RunPlan) -> int:
        """Return how many pictures have no record, and say how many another run has recorded."""
        from ldm.jobs.manifest import Manifest
        from ldm.jobs.run import survey

        untold = 0 if self.meter is None else self.meter.left
        if not untold:
            return 0
        left = survey(plan, Manifest(plan.store).done()).remaining - len(self.failed)
        if left < untold:
            self.console.say(
                f"{untold - left} more pictures were recorded by another run meanwhile."
            )
        return left

    def summary(self, found: Survey, undone: int) -> int:
        """Say what came of the run; return the exit code."""
        settings, meter = self.settings, self.meter
        for record in self.failed[:_SHOWN]:
            self.console.warn(f"picture {record.number}: {record.error}")
        drawn = 0 if meter is None else meter.pictures
        if meter is None:
            all_of = "All" if found.there == found.pictures else f"{found.there} of"
            self.console.say(f"{all_of} {found.pictures} pictures are there: {settings.out}")
        else:
            self.console.say(
                f"Drawn: {drawn} of {meter.total} pictures in {meter.elapsed:.0f} s, "
                f"{drawn / max(meter.elapsed, 1e-9):.2f} a second: {settings.out}"
            )
        lost = len(self.failed) + found.bad.count
        if lost:
            self.console.warn(
                f"{len(self.failed)} pictures and {found.bad.count} lines could not be drawn; the "
                "manifest has why; the same command tries them again"
            )
        if undone:
            self.console.warn(
                f"{undone} pictures have no record although all workers have ended; expected one "
                "of each; run again, and check that every node sees the same files"
            )
        return SOME_FAILED if lost or undone else 0

    def verify(self, plan: RunPlan, found: Survey) -> bool:
        """Check finished pictures; note those that are to be drawn again, and return if any are.

        Only once all lines were checked: what is removed here has to be drawn again by them.
        """
        from ldm.jobs.manifest import ManifestWriter
        from ldm.jobs.records import Record
        from ldm.jobs.verify import check_mendable, set_aside, verify

        self.console.say("Finished pictures are held against the manifest first.")
        damages = verify(plan.store)
        self.say_damages(damages)
        check_mendable(damages, partial(_is_drawable, found, plan.settings.first))
        # First, so that whoever kills this never finds a picture in two shards.
        set_aside(plan.store, damages)
        with ManifestWriter(plan.store, "verify") as writer:
            for each in damages:
                error = f"{each.name} {each.fault}"
                writer.append(Record(each.number, "", error=error, worker="verify"))
        return bool(damages)

    def verify_alone(self) -> None:
        """Check finished pictures, and change nothing.

        Raises:
            UserError: Some are missing or damaged.
        """
        from ldm.jobs.manifest import Manifest
        from ldm.jobs.store import open_store
        from ldm.jobs.verify import verify

        store = open_store(self.settings.out)
        count = sum(1 for _ in Manifest(store).all().by_place())
        if not count:
            raise UserError(
                f"--out {self.settings.out} holds no finished pictures; expected a run; check it"
            )
        damages = verify(store)
        self.say_damages(damages)
        if damages:
            raise UserError(
                f"{len(damages)} of {count} pictures are missing or damaged; expected all as they "
                "were drawn; add JOBS to draw these again"
            )
        self.console.say(f"All {count} pictures are as they were drawn: {self.settings.out}")

    def say_damages(self, damages: Sequence[Damage]) -> None:
        """Name the first of the pictures that are missing or damaged."""
        for each in damages[:_SHOWN]:
            self.console.warn(f"picture {each.number}: {each.name} {each.fault}")
        if len(damages) > _SHOWN:
            self.console.warn(f"... and {len(damages) - _SHOWN} more pictures")

    def merge(self) -> int:
        """Bring runs together; return the exit code."""
        from ldm.jobs.manifest import Manifest
        from ldm.jobs.run import RunPlan
        from ldm.jobs.run_file import check_run, read_run
        from ldm.jobs.store import open_store
        from ldm.jobs.verify import merge

        settings = self.settings
        into = open_store(settings.out)
        into.check()
        plan = RunPlan(settings)
        check_run(plan, read_run(plan))
        damages = merge(list(map(open_store, settings.merge)), into, settings.format)
        self.say_damages(damages)
        count = sum(1 for _ in Manifest(into).done().by_place())
        self.console.say(f"Merged: {count} pictures: {settings.out}")
        return SOME_FAILED if damages else 0


def _is_drawable(found: Survey, first: int, number: int) -> bool:
    """Check whether the file of jobs, which begins at ``first``, has a good line for a picture."""
    lost = any(each.number <= number < each.number + each.count for each in found.lost)
    return 0 <= number - first < found.pictures and not lost


def _notices(found: Survey) -> Iterator[str]:
    """Say what of a run is there already."""
    if found.there and found.remaining:
        yield f"{found.there} of {found.pictures} pictures are there already."
    if found.failed:
        yield f"{found.failed} pictures that could not be drawn before are tried again."
    if found.changed:
        yield f"{found.changed} finished pictures are drawn again, as --redraw says."
    if found.beyond:
        yield f"{found.beyond} finished pictures belong to no line; they stay where they are."
