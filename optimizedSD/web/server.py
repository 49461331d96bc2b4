"""A page's program: arguments -> port checked -> model found -> torch -> model loaded -> page.

``--help`` and every error that can be found without torch and gradio comes before their import.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ldm.errors import UserError
from ldm.paths import writing_fault
from ldm.pipelines.translating import translator_of
from ldm.pipelines.wildcards import check_folder
from ldm.programs.console import Console, ConsoleLog, exit_codes
from ldm.programs.run_log import RunLog, row_of
from ldm.programs.start import read_flags
from ldm.settings.option import Settings, options_of
from optimizedSD.web.hosts import Hosts, host_of
from optimizedSD.web.limits import Limits
from optimizedSD.web.page import Page, ServerSettings

if TYPE_CHECKING:
    from gradio import Blocks

    from ldm.pipelines.models import ModelChoice
    from ldm.settings.generation import GenerationSettings
    from optimizedSD.web.calls import Calls
    from optimizedSD.web.worker import Worker

LONGEST_QUEUE = 20  # runs that gradio has not begun; the line in front of the model is the worker's
PATIENCE = 2.0  # seconds for the step that is computed when the page is ended
# gradio must not report that it runs or look for new versions, nor open other ports and addresses.
ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_NUM_WORKERS": "0",
    "GRADIO_RUN_HISTORY": "False",
}
MOST_SESSIONS = 500  # of visitors, that gradio keeps the state of


def run_page(page: Page, description: str, argv: Sequence[str] | None = None) -> int:
    """Serve a page until Ctrl-C; return the exit code: 0, or 2 for a user's error.

    Args:
        page: The page.
        description: First lines of ``--help``.
        argv: Arguments without the program's name; None takes ``sys.argv``.
    """
    console = Console(page.server.program, sys.stdout, sys.stderr)
    # Ctrl-C is how a server ends, so it is no failure here.
    ending = exit_codes(console, takes_warnings=False)  # visitors' warnings are for their pages
    with ending as end, contextlib.suppress(KeyboardInterrupt):
        _serve(page, page.server(**read_flags(page.server, description, argv)), console)
    return end.code


def _serve(page: Page, server: ServerSettings, console: Console) -> None:
    check_gradio()
    check_address(server.host, server.port)
    _check_outdir(server.outdir)
    translator_of(server)  # raises for files that cannot be used
    check_folder(server)
    # Uploads are opened by us; whatever else opens a picture here has our rules too.
    from ldm.images.pixels import tolerate_faults

    tolerate_faults()
    log = RunLog(f"{server.program}_logs.csv")
    with ConsoleLog(console):
        worker, about = _load_worker(page, fixed_settings(page.schema, server), log, console)
    with tempfile.TemporaryDirectory(prefix="pages-") as cache:
        blocks = launch(page, server, worker, about, cache)
        console.say(f"{page.title}: {blocks.share_url or blocks.local_url} (Ctrl-C ends it)")
        ended = serve_until_interrupted(blocks, worker)
    if not ended:
        leave_at_once()


def serve_until_interrupted(blocks: Blocks, worker: Worker) -> bool:
    """Wait for Ctrl-C or SIGTERM, then end a page; return whether all runs have ended.

    Args:
        blocks: The page, which is served.
        worker: Draws for it.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # how a container stops it
    try:
        with contextlib.suppress(KeyboardInterrupt):  # how it ends
            threading.Event().wait()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ending
        worker.close(0.0)  # so that no visitor's window waits for the rest of a run
        blocks.close(verbose=False)
        ended = worker.close(PATIENCE)
    return ended


def leave_at_once(code: int = 0) -> NoReturn:
    """End the process beside a step that still computes.

    Python would take itself apart under that thread, which ends in a crash. Nothing is lost:
    pictures appear under their names only when they are complete.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _check_outdir(outdir: str) -> None:
    if fault := writing_fault(outdir):
        raise UserError(f"--outdir {outdir} {fault}; expected a writable folder; give another one")


def check_gradio() -> None:
    if importlib.util.find_spec("gradio") is None:
        raise UserError(
            "the package gradio is not installed; expected it, as the pages are made with it; "
            'run: pip install "gradio>=6,<7"'
        )


def check_address(host: str, port: int) -> None:
    """Check that a page can be served, which takes less time than loading the model.

    Raises:
        UserError: the port is taken, or the address is not one of this machine.
    """
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            # Servers set this too: it makes a port that was just freed count as free.
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


def _load_worker(
    page: Page, fixed: Mapping[str, Any], log: RunLog, console: Console
) -> tuple[Worker, str]:
    """Find and load the model; return a worker with it, and a line about it for the page."""
    from ldm.pipelines.models import choose_model

    settings = page.schema(**fixed)
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
    about = f"Model: {choice.name} on {pipeline.device}. {_known(choice)}"
    if page.takes_mask:
        about = f"{about} {choice.kind.sentence(choice.inputs)}"
    used = {"device": pipeline.device, "config": choice.config_path, "ckpt": choice.ckpt_path}
    return Worker(pipeline, lambda settings: log.add(row_of(settings, **used))), about


def _known(choice: ModelChoice) -> str:
    """Return which words a model knows, if it lists them."""
    if not choice.knows:
        return ""
    return f"It knows these words, and draws others by chance: {', '.join(choice.knows)}."


def launch(page: Page, server: ServerSettings, worker: Worker, about: str, cache: str) -> Blocks:
    """Build a page and start to serve it; ``close`` of the returned object ends it.

    Args:
        page: The page.
        server: Where to serve it, and the settings that the command line fixes for every run.
        worker: Draws.
        about: A line about the model.
        cache: A folder for visitors' uploads.

    Raises:
        UserError: the port is taken.
    """
    os.environ |= ENVIRONMENT | {"GRADIO_TEMP_DIR": cache}  # before gradio is imported
    from optimizedSD.web.layout import (
        CSS,
        THEME,
        build,
        controls_of,
        handlers_for,
        head,
        translated,
    )

    worker.limit(Limits.of(server, worker.pipeline.choice.size))
    controls = controls_of(page, worker.pipeline.choice)
    rest = {**fixed_settings(page.schema, server), **page.fixed}
    blocks = build(page, handlers_for(page, worker, controls, rest), about)
    folders = [cache, os.path.abspath(server.outdir)]
    looks = {"css": CSS, "theme": THEME, "head": head(page, worker.pipeline.choice.name)}
    words = translated(page)
    open_page(blocks, server, worker, folders, share=server.share, i18n=words, **looks)
    return blocks


def open_page(
    blocks: Blocks,
    server: Any,
    worker: Worker,
    folders: list[str],
    before: Callable[[Any], Any] = lambda app: app,
    **looks: Any,
) -> None:
    """Start to serve a page, behind its gate; ``close`` of the page ends it.

    Args:
        blocks: The page; ``ENVIRONMENT`` was set before gradio was imported.
        server: The command line: where to serve it.
        worker: Draws.
        folders: Those whose pictures are shown; the first one is for uploads.
        before: Returns what stands before the gate.
        **looks: Further arguments of ``launch``.

    Raises:
        UserError: The port is taken.
    """
    from optimizedSD.web.gate import Gate

    hosts, gates = Hosts(server.host, server.allowed_hosts), []

    def gated(app: Any) -> Any:
        gates.append(before(Gate(app, hosts, calls, worker.limits, folders, worker.stop)))
        return gates[0]

    calls = _calls(blocks, folders)
    blocks.queue(max_size=LONGEST_QUEUE)
    try:
        blocks.launch(
            server_name=server.host,
            server_port=server.port,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            footer_links=[],
            allowed_paths=folders[1:],
            ssr_mode=False,
            state_session_capacity=MOST_SESSIONS,
            app_kwargs={"lifespan": _standing_before(gated)},
            **looks,
        )
    except OSError as error:  # the port was taken while the model was loaded
        raise _not_served(server.host, server.port, error) from error
    if not gates or blocks.app.middleware_stack is not gates[0]:
        blocks.close(verbose=False)
        raise RuntimeError("this version of gradio serves the page without its gate")
    if blocks.share_url:
        hosts.add(host_of(blocks.share_url))


def _calls(blocks: Blocks, folders: list[str]) -> Calls:
    from optimizedSD.web.calls import Calls
    from optimizedSD.web.uploads import Uploads

    return Calls.of(blocks, Uploads(Path(folders[0], "uploads")), folders)


def _standing_before(
    gated: Callable[[Any], Any],
) -> Callable[[Any], contextlib.AbstractAsyncContextManager[None]]:
    """Return what puts the gate before gradio's application when it starts to be served."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        # Not in the application's list of middleware: gradio's own would stand before it there.
        app.middleware_stack = gated(app.middleware_stack)
        yield

    return lifespan


def fixed_settings(schema: type[GenerationSettings], server: Settings) -> dict[str, Any]:
    """Return the settings that the command line fixes for every run."""
    known = {each.name for each in options_of(schema)}
    return {
        each.name: getattr(server, each.name) for each in options_of(server) if each.name in known
    }
