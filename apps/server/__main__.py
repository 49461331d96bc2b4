"""Serve a model by HTTP: jobs are sent as JSON, pictures come back as PNG with their recipes.

Who has a key may draw; without --keys the server answers to this machine alone. See docs/server.md.

Example:
    python -m apps.server --port 7860 --batch_size 8
    curl -s localhost:7860/v1/jobs --json '{"prompt": "a red apple", "ddim_steps": 30}'
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from apps.line_bot.logs import start_logging
from apps.server.keys import Keys, read_keys
from apps.server.settings import ServerSettings
from ldm.errors import UserError
from ldm.programs.console import Console, exit_codes
from ldm.programs.start import leave, read_flags

if TYPE_CHECKING:
    from apps.server.drawing import Drawer
    from apps.server.service import Service

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code: 0, or 2 for a user's error.

    Args:
        argv: Arguments without the program's name; None takes ``sys.argv``.
    """
    console = Console(ServerSettings.program, sys.stdout, sys.stderr)
    ending = exit_codes(console, takes_warnings=False)
    with ending as end, contextlib.suppress(KeyboardInterrupt):  # which is how it ends
        settings = ServerSettings(**read_flags(ServerSettings, __doc__ or "", argv))
        settings.validate()
        keys = read_keys(settings.keys, os.environ)
        check(settings, keys)
        start_logging(console.err, logging.WARNING)
        serve(settings, keys, console)
    return end.code


def check(settings: ServerSettings, keys: Keys) -> None:
    """Check what can be known before a model is looked for.

    Raises:
        UserError: A package is missing, the port is taken, or strangers could draw.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"the package {name} is not installed; it is needed for the server; "
                'run: pip install -e ".[server]"'
            )
    if not keys and not is_loopback(settings.host):
        raise UserError(
            f"--host {settings.host} was given without keys, so that strangers could draw; "
            "expected keys beside it; add --keys FILE, or leave --host out"
        )
    from ldm.pipelines.translating import translator_of
    from ldm.pipelines.wildcards import check_folder
    from optimizedSD.web.server import check_address

    check_address(settings.host, settings.port)
    translator_of(settings)  # raises for files that cannot be used
    check_folder(settings)


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def make_service(settings: ServerSettings, load: Callable[[], Drawer], **rest: Any) -> Service:
    """Return the service that a command line asks for.

    Args:
        settings: The command line's.
        load: Loads what draws.
        **rest: Further arguments of ``Service``.

    Raises:
        UserError: There is no model.
    """
    from apps.server.asking import fixed_by
    from apps.server.desk import Terms
    from apps.server.drawing import model_for
    from apps.server.kept import Kept
    from apps.server.service import Service
    from optimizedSD.web.limits import Limits

    terms = Terms(
        settings.batch_size,
        settings.max_wait / 1000.0,
        settings.max_waiting,
        settings.max_waiting_of_key,
        settings.device,
    )
    kept = Kept(settings.keep_jobs, settings.keep_mb * 2**20, settings.keep_minutes * 60.0)
    limits = Limits.of(settings, model_for(settings).size, "server")
    return Service(load, limits, terms, fixed=fixed_by(settings), kept=kept, **rest)


def serve(settings: ServerSettings, keys: Keys, console: Console) -> None:
    """Serve until a signal comes.

    Raises:
        UserError: There is no model, or it cannot be loaded.
    """
    from apps.server.application import make_application
    from apps.server.drawing import load_drawer, model_for
    from apps.server.serving import Server
    from optimizedSD.web.hosts import Hosts

    faults: list[Exception] = []

    def loaded(error: Exception | None) -> None:
        if error is None:
            console.say("The model is loaded: jobs are taken.")
        else:
            faults.append(error)
            server.should_exit = True

    def started(port: int) -> None:
        who = "whoever has a key" if keys else "this machine"
        console.say(f"http://{settings.host}:{port} is open to {who} (Ctrl-C ends it)")

    choice = model_for(settings)
    if choice.notice:
        console.say(choice.notice)
    load = partial(load_drawer, choice, settings, console.observe)
    service = make_service(settings, load, tell=loaded)
    hosts = Hosts(settings.host, settings.allowed_hosts)
    app = make_application(service, keys, hosts=hosts, cors=settings.cors)
    place = {"host": settings.host, "port": settings.port}
    server = Server(app, service, **place, grace=settings.grace, tell=started)
    server.run()
    if not faults and service.alive:
        from optimizedSD.web.server import leave_at_once

        leave_at_once()
    if faults:
        raise faults[0]


if __name__ == "__main__":
    leave(main())
