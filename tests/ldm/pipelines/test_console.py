from __future__ import annotations

import io
import logging

from ldm.pipelines.console import Console, ConsoleLog
from ldm.pipelines.events import Notice, Progress


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


def test_a_terminal_without_the_prompts_letters_shows_them_escaped():
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    console = Console("draw", narrow, narrow)
    console.say("富")
    assert raw.getvalue() == b"\\u5bcc\n"
