"""The load benchmark counts what came, sees losses and doubles, and kills what it says."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from apps.line_bot.pictures import fit_jpeg
from apps.line_bot.simulate import StandIn
from apps.line_bot.simulate.webhooks import Attempt, Delivery
from benchmarks import line_bot as bench
from benchmarks.line_bot_process import BotProcess
from benchmarks.processes import alive


def args(*flags: str):
    return bench.parse_args(["--messages", "3", "--users", "2", "--kills", "0", *flags])


def picture(seed: int) -> bytes:
    image = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    return fit_jpeg(image, 10**6, f"a cat\nSteps: 2, Sampler: DDIM, CFG scale: 7, Seed: {seed}")


@pytest.fixture
def line():
    with StandIn() as line:
        pictures = {}
        line.fetch_picture = lambda message: (pictures[message.message_id], "image/jpeg")

        def bring(person, seed: int, way: str = "reply") -> None:
            content = {"type": "image", "originalContentUrl": "https://x.example/1"}
            made = line.ledger.add_message(person.user_id, None, content, way)
            pictures[made.message_id] = picture(seed)

        line.bring = bring
        yield line


def test_losses_doubles_and_strangers_are_counted(line):
    users = [SimpleNamespace(person=p, numbers=[n]) for n, p in enumerate(line.users)]
    line.bring(line.users[0], 0), line.bring(line.users[0], 0, "push")
    line.bring(line.users[1], 2)
    result = bench.Result()
    bench._collect(line, users, result)
    assert result.arrived == {0: 2, 2: 1} and result.ways == {"reply": 2, "push": 1}
    assert (result.lost(3), result.doubled, result.strangers) == (1, 1, 1)


def test_an_answer_that_came_too_late_counts_and_a_bot_that_was_not_there_does_not(line):
    line.webhooks.deliveries.append(
        Delivery([], [Attempt(None, 0.0, "the bot cannot be reached: ConnectError"),
                      Attempt(None, 1.0, "no answer in time"), Attempt(200, 0.01)])
    )  # fmt: skip
    result = bench.Result()
    bench._collect(line, [], result)
    assert result.answers == [1.0, 0.01]
    assert (result.late, result.unheard, result.redelivered) == (1, 1, 2)


def test_quantiles_are_of_the_answers():
    result = bench.Result(answers=[n / 1000 for n in range(200)])
    assert [result.quantile(q) for q in (0.5, 0.99, 1.0)] == [0.1, 0.198, 0.199]


@pytest.mark.parametrize(("slowest", "met"), [(0.1, "met"), (0.3, "not met")])
def test_the_report_tells_whether_the_goal_was_met(slowest, met):
    result = bench.Result(answers=[0.01, slowest], arrived=Counter({0: 1, 1: 1, 2: 1}))
    result.killed = ["bot", "worker", "bot"]
    text = "\n".join(bench.report(args(), result))
    assert f"| {met} |" in text and "| 3 | 0 | 0 |" in text
    assert "the bot 2 times" in text and "draws 1 times" in text


def test_a_process_that_is_killed_is_started_again_and_one_that_does_not_start_is_told(tmp_path):
    with (tmp_path / "log").open("wb") as log:
        bot = BotProcess(bench.ROOT, ["--nonsense"], {}, 1, log)
        with pytest.raises(RuntimeError, match="did not start"):
            bot.start()
        bot._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pid = bot._process.pid
        assert bot.runs and bot.workers() == [] and alive([os.getpid()], 0.1) == [os.getpid()]
        bot.kill("worker")  # it has none of its own
        assert bot.killed == ["bot"] and not bot.runs and alive([pid]) == []
    assert b"--nonsense" in (tmp_path / "log").read_bytes()


def test_wrong_numbers_are_refused(capsys):
    with pytest.raises(SystemExit):
        args("--over", "0")
    assert "--over above 0" in capsys.readouterr().err


def test_a_pictures_number_is_its_seed():
    assert bench._number(picture(17)) == 17
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "JPEG")
    assert bench._number(plain.getvalue()) == -1


def test_pictures_are_waited_for_so_long_and_no_longer(line):
    begun = time.monotonic()
    bench._wait(line, args("--patience", "0.1"))
    assert time.monotonic() - begun < 5
