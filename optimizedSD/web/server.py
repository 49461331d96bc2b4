"""The course of a page's program: arguments -> model found -> port free -> torch -> model -> page.

``--help`` and everything that can be told without them comes before torch and gradio.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ldm.errors import UserError
from ldm.programs.console import OK, USER_ERROR, Console, ConsoleLog
from ldm.programs.run_log import RunLog, row_of
from ldm.settings.command_line import parse
from ldm.settings.option import options_of
from optimizedSD.web.kinds import Page, ServerSettings

if TYPE_CHECKING:
    from gradio import Blocks

    from optimizedSD.web.worker import Worker

LONGEST_QUEUE = 20  # visitors who wait


def run_page(page: Page, description: str, argv: Sequence[str] | None = None) -> int:
    """Serve a page until Ctrl-C; return the exit code: 0, or 2 for a user's error.

    Args:
        page: Which one.
        description: First lines of ``--help``.
        argv: Arguments without the program's name; None takes ``sys.argv``.
    """
    console = Console(page.server.program, sys.stdout, sys.stderr)
    words = [_as_known(word, page.synonyms) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # libraries' advice to programmers; python -W shows it
                warnings.simplefilter("ignore")
            _serve(page, page.server(**parse(page.server, description, words)), console)
    except UserError as error:
        console.fail(str(error))
        return USER_ERROR
    except KeyboardInterrupt:  # the way to end a server
        return OK
    return OK


def _as_known(word: str, synonyms: Mapping[str, str]) -> str:
    flag, equals, value = word.partition("=")
    return f"{synonyms.get(flag, flag)}{equals}{value}"


def _serve(page: Page, server: ServerSettings, console: Console) -> None:
    _check_gradio()
    check_address(server.host, server.port)
    log = RunLog(f"{server.program}_logs.csv")
    with ConsoleLog(console):
        worker, about = _open_studio(page, _shared(page, server), log, console)
    with tempfile.TemporaryDirectory(prefix="pages-") as cache:
        blocks = launch(page, server, worker, about, cache)
        console.say(f"{page.title}: {blocks.share_url or blocks.local_url} (Ctrl-C ends it)")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a container's Ctrl-C
        try:
            threading.Event().wait()
        finally:
            blocks.close(verbose=False)


def _check_gradio() -> None:
    if importlib.util.find_spec("gradio") is None:
        raise UserError(
            "the package gradio is not installed; the pages are made with it; "
            'run: pip install "gradio>=6,<7"'
        )


def check_address(host: str, port: int) -> None:
    """Make sure that a page can be served, before the model is loaded for it.

    Raises:
        UserError: the port is taken, or the address is not this machine's.
    """
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            # As servers do: a port that was freed a moment ago counts as free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(1)
    except OSError as error:
        raise _not_served(host, port, error) from error


def _not_served(host: str, port: int, error: OSError) -> UserError:
    return UserError(
        f"--port {port} of --host {host} cannot be served ({error.strerror or error}); expected a "
        "free port of this machine; give another one"
    )


def _open_studio(
    page: Page, shared: Mapping[str, Any], log: RunLog, console: Console
) -> tuple[Worker, str]:
    """Find the model, then load it; return a worker that has it, and a line about it."""
    from ldm.pipelines.models import choose_model

    settings = page.schema(**shared)
    settings.validate()
    choice = choose_model(settings)
    if choice.notice:
        console.say(choice.notice)

    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.staging import Staging
    from optimizedSD.web.worker import Worker

    pipeline = Pipeline.load(
        choice,
        device=settings.device,
        use_ema=settings.use_ema,
        staging=Staging.of(settings),
        observer=console.observe,
    )
    about = f"Model: {choice.name} on {pipeline.device}. {choice.notice or ''}"
    if page.takes_mask:
        about = f"{about} {choice.kind.sentence(choice.inputs)}"
    used = {"device": pipeline.device, "config": choice.config_path, "ckpt": choice.ckpt_path}
    return Worker(pipeline, lambda asked: log.add(row_of(asked, **used))), about


def launch(page: Page, server: ServerSettings, worker: Worker, about: str, cache: str) -> Blocks:
    """Build a page and begin to serve it; ``close`` of what is returned ends that.

    Args:
        page: The page.
        server: Where to serve it, and what its runs have from the command line.
        worker: What draws.
        about: A line on the model.
        cache: A folder for what visitors upload.

    Raises:
        UserError: the port is taken.
    """
    # Before gradio is imported: it must not tell anyone that it is running, or look for news.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": cache}
    from optimizedSD.web.handlers import Handlers
    from optimizedSD.web.layout import CSS, THEME, build, controls_of

    controls = controls_of(page, worker.pipeline.choice)
    blocks = build(page, Handlers(page, worker, controls, _shared(page, server)), about)
    blocks.queue(max_size=LONGEST_QUEUE)
    try:
        blocks.launch(
            server_name=server.host,
            server_port=server.port,
            share=server.share,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            footer_links=[],
            allowed_paths=[os.path.abspath(server.outdir)],
            ssr_mode=False,
            css=CSS,
            theme=THEME,
        )
    except OSError as error:  # someone else took the port while the model was loaded
        raise _not_served(server.host, server.port, error) from error
    return blocks


def _shared(page: Page, server: ServerSettings) -> dict[str, Any]:
    """Return the settings that every run of the page has from its command line."""
    known = page.schema.__dataclass_fields__
    return {
        each.name: getattr(server, each.name) for each in options_of(server) if each.name in known
    }
