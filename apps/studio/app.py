"""From a command line to a page that is served: address checked, model loaded, page built."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from typing import TYPE_CHECKING

from apps.studio.settings import StudioSettings
from apps.studio.styles import read_styles
from apps.studio.wildcards import folder_of
from ldm.errors import UserError
from ldm.paths import at_home, folder_fault, writing_fault
from ldm.pipelines.translating import translator_of
from ldm.programs.console import Console, ConsoleLog
from ldm.programs.run_log import RunLog, row_of
from ldm.settings.generation import GenerationSettings, Txt2ImgSettings
from optimizedSD.web.limits import Limits
from optimizedSD.web.server import (
    ENVIRONMENT,
    check_address,
    check_gradio,
    fixed_settings,
    leave_at_once,
    open_page,
    serve_until_interrupted,
)

if TYPE_CHECKING:
    from gradio import Blocks

    from apps.studio.queue import Queue
    from apps.studio.state import Studio


def serve(flags: StudioSettings, auth: str | None, console: Console) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        flags: The command line.
        auth: ``name:password`` of who may use the page; None is everybody.
        console: Where the address is said.

    Raises:
        UserError: There is no model, the address cannot be served, or pictures cannot be saved.
    """
    check_gradio()
    check_address(flags.host, flags.port)
    if fault := writing_fault(flags.outdir):
        raise UserError(
            f"--outdir {flags.outdir} {fault}; expected a writable folder; give another one"
        )
    folder = flags.image_encoder
    if folder is not None and (fault := folder_fault(at_home(folder))):
        raise UserError(
            f"--image_encoder {folder} {fault}; expected the folder of a CLIP image encoder; give "
            "one that is on this machine"
        )
    translator_of(flags)  # raises for files that cannot be used
    styles, wildcards = read_styles(flags.styles), folder_of(flags.wildcards)
    # Uploads are opened by us; whatever else opens a picture here has our rules too.
    from ldm.images.pixels import tolerate_faults

    tolerate_faults()
    with ConsoleLog(console):
        queue = load_queue(flags, console)
    if risk := flags.risk(auth):
        console.warn(risk)
    with tempfile.TemporaryDirectory(prefix="studio-") as cache:
        blocks = launch(studio_of(queue, flags, styles, wildcards), auth, cache)
        console.say(f"Studio: {blocks.local_url} (Ctrl-C ends it)")
        ended = serve_until_interrupted(blocks, queue)
    if not ended:
        leave_at_once()


def load_queue(flags: StudioSettings, console: Console) -> Queue:
    """Find and load the model; return the queue in front of it.

    Raises:
        UserError: There is none, or it cannot be loaded.
    """
    from ldm.pipelines.models import choose_model

    settings = Txt2ImgSettings(**fixed_settings(Txt2ImgSettings, flags))
    settings.validate()
    choice = choose_model(settings)
    if choice.notice:
        console.say(choice.notice)

    from apps.studio.loading import load_model
    from apps.studio.queue import Queue

    log, pipeline = RunLog("studio_logs.csv"), load_model(flags, choice, console.observe)

    def record(settings: GenerationSettings) -> None:
        now = queue.pipeline  # another one may have been loaded
        used = {"config": now.choice.config_path, "ckpt": now.choice.ckpt_path}
        log.add(row_of(settings, device=now.device, **used))

    queue = Queue(pipeline, record)
    return queue


def studio_of(
    queue: Queue, flags: StudioSettings, styles: dict, wildcards: str | None = None
) -> Studio:
    """Return the studio of a command line.

    Args:
        queue: Draws.
        flags: The command line.
        styles: By name.
        wildcards: The folder of lists that visitors may switch on.
    """
    from apps.studio.state import Studio

    queue.limit(Limits.of(flags, queue.pipeline.choice.size, "page"))
    fixed = fixed_settings(Txt2ImgSettings, flags)
    del fixed["wildcards"]  # that is each visitor's choice
    del fixed["image_encoder"]  # it is for runs with an image prompt alone
    return Studio(queue, flags, fixed, styles, wildcards, models=[queue.pipeline.choice.ckpt_path])


def launch(studio: Studio, auth: str | None, cache: str) -> Blocks:
    """Build the page and start to serve it; ``close`` of the returned object ends it.

    Args:
        studio: The studio.
        auth: ``name:password`` of who may use it; None is everybody.
        cache: A folder for visitors' uploads.

    Raises:
        UserError: The port is taken.
    """
    os.environ |= ENVIRONMENT | {"GRADIO_TEMP_DIR": cache}  # before gradio is imported
    from apps.studio.door import Door
    from apps.studio.page import CSS, build
    from apps.studio.words import translations
    from optimizedSD.web.layout import THEME, script

    blocks = build(studio)
    before = partial(Door, auth=auth) if auth else (lambda app: app)
    looks = {"css": CSS, "theme": THEME, "head": script("studio"), "i18n": translations()}
    folders = [cache, str(studio.outdir)]
    open_page(blocks, studio.flags, studio.queue, folders, before, **looks)
    return blocks
