from __future__ import annotations

import io
import logging
import os
import warnings

import pytest

from ldm.errors import UserError
from ldm.pipelines.progress import Notice, Progress
from ldm.programs.console import Console, ConsoleLog, exit_codes


def make():
    out, err = io.StringIO(), io.StringIO()
    return Console("draw", out, err), out, err


def test_information_and_warnings_go_their_own_ways_and_warnings_once():
    console, out, err = make()
    console.observe(Notice("hello"))
    for _ in range(2):
        console.observe(Notice("mind the gap", warning=True))
    assert out.getvalue() == "hello\n"
    assert err.getvalue() == "warning: mind the gap\n"


def test_an_error_is_one_line_whatever_its_text():
    console, out, err = make()
    console.fail("first\nsecond")
    assert err.getvalue() == "draw: error: first second\n"
    assert out.getvalue() == ""


def test_one_bar_shows_steps_and_pictures():
    console, _, err = make()
    console.observe(Progress(0, 8, 0, 2))
    console.observe(Progress(5, 8, 1, 2))
    console.observe(Progress(8, 8, 2, 2))
    console.close()
    last = err.getvalue().split("\r")[-1]
    assert "8/8" in last and "pictures 2/2" in last
    console.close()


def test_the_librarys_warnings_are_shown_while_a_run_lasts():
    console, out, err = make()
    logger = logging.getLogger("ldm.models.diffusion.ddim")
    with ConsoleLog(console):
        logger.warning("%d steps", 7)
        logger.info("not shown")
    logger.debug("after")
    assert err.getvalue() == "warning: 7 steps\n"
    assert out.getvalue() == ""


def test_where_no_step_is_taken_there_is_no_bar():
    console, _, err = make()
    console.observe(Progress(0, 0, 0, 2))
    console.observe(Progress(0, 0, 2, 2))
    console.close()
    assert err.getvalue() == ""


def dead_pipe():
    """Return a text stream into a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def test_a_reader_that_goes_away_does_not_end_the_run():
    gone, err = dead_pipe(), io.StringIO()
    console = Console("draw", gone, err)
    for _ in range(2):
        console.say("hello")
    console.warn("mind the gap")
    assert err.getvalue() == "warning: mind the gap\n"
    gone.close()  # flushes: a stream that is still dead would raise


def test_a_dead_error_stream_takes_nothing_from_what_is_said():
    out, gone = io.StringIO(), dead_pipe()
    console = Console("draw", out, gone)
    for done in range(3):
        console.observe(Progress(done, 2, 0, 1))
    console.warn("lost")
    console.say("hello")
    console.close()
    assert out.getvalue() == "hello\n"
    gone.close()


def test_closed_streams_are_no_hindrance():
    console = Console("draw", None, None)
    console.say("hello")
    console.observe(Progress(1, 2, 0, 1))
    console.fail("why")


def test_a_terminal_without_the_prompts_letters_shows_them_escaped():
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    console = Console("draw", narrow, narrow)
    console.say("富")
    assert raw.getvalue() == b"\\u5bcc\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (None, 0, ""),
        (UserError("--n 0 was given"), 2, "draw: error: --n 0 was given\n"),
        (KeyboardInterrupt(), 130, "draw: stopped: two pictures are kept\n"),
    ],
)
def test_what_ends_a_program_becomes_its_exit_code_and_one_line(error, code, line):
    console, out, err = make()
    with exit_codes(console, lambda: "two pictures are kept") as ending:
        if error is not None:
            raise error
    assert (ending.code, out.getvalue(), err.getvalue()) == (code, "", line)


def test_a_mistake_in_the_program_keeps_its_traceback():
    console, _, err = make()
    with pytest.raises(ZeroDivisionError), exit_codes(console):
        _ = 1 / 0
    assert err.getvalue() == ""


def test_a_program_may_end_with_a_code_of_its_own():
    with exit_codes(make()[0]) as ending:
        ending.code = 143
    assert ending.code == 143


@pytest.mark.parametrize("takes", [True, False])
def test_warnings_are_the_consoles_unless_the_program_keeps_them(takes, recwarn):
    console, _, err = make()
    with exit_codes(console, takes_warnings=takes):
        logging.getLogger("ldm.models").warning("mind the gap")
        warnings.warn("advice to programmers", stacklevel=1)
    assert (err.getvalue() == "warning: mind the gap\n") is takes
    assert bool(recwarn.list) is not takes
