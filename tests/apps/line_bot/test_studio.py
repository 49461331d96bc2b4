"""Pictures are drawn in another process, which may end at any moment and outlives nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import studio_drawers
from bot_parts import settings_for

from apps.line_bot.database import Database
from apps.line_bot.jobs import Origin, Queue, Task
from apps.line_bot.outbox import Outbox
from apps.line_bot.people import People, Warnings
from apps.line_bot.studio import Studio
from apps.line_bot.worker import BadPhoto, Died, Unwanted, Worker
from ldm.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bot")
    base = Database(folder)
    settings, _ = settings_for(folder, "http://127.0.0.1:9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LINE_CHANNEL_ACCESS_TOKEN", studio_drawers.SECRET)
        studio = Studio(settings, "cpu", Queue(base), None, load=studio_drawers.told_by_prompt)
        studio.start()
        yield studio, Queue(base)
        studio.close()
    base.close()


def job_of(queue, prompt: str, **more):
    job_of.number += 1
    origin = Origin(f"E{job_of.number}", "U", "U", 0.0)
    return queue.add(origin, "en", Task(prompt, **more))


job_of.number = 0


def drawn(studio, job, folder, check=lambda: None) -> str:
    folder.mkdir(exist_ok=True)
    studio(job, folder, check)
    return (folder / "0.png").read_text()


def test_it_draws_elsewhere_with_low_priority_and_without_secrets(parts, tmp_path):
    studio, queue = parts
    said = drawn(studio, job_of(queue, "cat"), tmp_path / "a")
    assert said == f"cat None [{studio._process.pid}, {os.nice(0) + 10}]"
    assert studio._process.pid != os.getpid()


@pytest.mark.parametrize(
    ("prompt", "kind", "words"),
    [
        ("user", UserError, "the size is wrong"),
        ("photo", BadPhoto, "no photo"),
        ("disk", OSError, "No space left"),
        ("fault", RuntimeError, "ZeroDivisionError.*x"),
    ],
)
def test_errors_come_across_as_what_they_are_and_end_nothing(parts, tmp_path, prompt, kind, words):
    studio, queue = parts
    with pytest.raises(kind, match=words):
        drawn(studio, job_of(queue, prompt), tmp_path)
    assert drawn(studio, job_of(queue, "cat"), tmp_path).startswith("cat")


@pytest.mark.parametrize("why", [Unwanted, ZeroDivisionError])
def test_a_drawing_that_is_not_wanted_stops_and_leaves_no_answer_to_the_next(parts, tmp_path, why):
    studio, queue = parts
    looks = []

    def check():
        looks.append(1)
        if len(looks) == 2:
            raise why

    with pytest.raises(why):
        drawn(studio, job_of(queue, "slow"), tmp_path, check)
    assert drawn(studio, job_of(queue, "cat"), tmp_path).startswith("cat")


def test_a_picture_that_a_task_starts_from_is_told_by_its_file(parts, tmp_path):
    studio, queue = parts
    earlier = job_of(queue, "cat")
    later = job_of(queue, "dog", kind="variation", source=earlier.name)
    with pytest.raises(UserError, match="not kept any more"):
        drawn(studio, later, tmp_path)
    folder = queue.folder(earlier)
    folder.mkdir(parents=True)
    (folder / "0.png").write_text("x")
    assert f" {folder / '0.png'} " in drawn(studio, later, tmp_path)


def test_killed_while_it_draws_it_is_replaced_and_the_job_drawn_anew(parts):
    studio, queue = parts
    job, base = job_of(queue, "once"), queue.base
    worker = Worker(queue, Outbox(base), People(base), Warnings(base), studio)

    def kill():
        mark = base.folder / "first"
        while not mark.exists():
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(int(mark.read_text()), signal.SIGKILL)

    first = studio._process.pid
    killer = threading.Thread(target=kill)
    killer.start()
    for other in base.rows("SELECT id FROM jobs WHERE id!=?", job.id):
        base.rows("UPDATE jobs SET state='failed' WHERE id=?", other["id"])
    while worker.step():
        pass
    killer.join()
    assert queue.state(job) == "drawn" and queue.named(job.name).attempts == 2
    assert studio._process.pid != first
    assert not [each for each in (base.folder / "drawn").iterdir() if each.name.startswith(".")]


def test_it_ends_with_the_bot_even_if_nobody_tells_it(parts, tmp_path):
    studio, queue = parts
    process = studio._process
    studio._pipe.close()  # what the system does for a bot that is killed
    process.join(10)
    assert process.exitcode == 0
    with pytest.raises(Died):
        studio._heard()
    assert drawn(studio, job_of(queue, "cat"), tmp_path).startswith("cat")


def test_a_model_that_cannot_be_loaded_is_told_at_once(parts):
    studio, queue = parts
    broken = Studio(studio.settings, "cpu", queue, None, load=studio_drawers.fails_to_load)
    with pytest.raises(UserError, match="no such device"):
        broken.start()
    broken.close()


def test_the_web_server_never_loads_torch():
    code = "import sys; from apps.line_bot import __main__, application, model, studio, webhook; "
    code += "from apps.line_bot.settings import BotSettings; "
    code += "model.model_for(BotSettings(public_base_url='https://x.example')); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
