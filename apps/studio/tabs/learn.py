"""The tab that teaches: six short texts, each with an example that is drawn at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from apps.studio.events import QUIET
from apps.studio.form import FIRST_PROMPT
from apps.studio.lessons import LESSONS, Lesson
from apps.studio.panel import Panel
from apps.studio.state import Studio, Tab
from apps.studio.sweeping import Sweeping, plan
from apps.studio.words import say, shown
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.option import MAX_SEED
from ldm.settings.suiting import suited_to
from optimizedSD.web.handlers import language_of_visit

if TYPE_CHECKING:
    from optimizedSD.web.worker import Job

NAME = "learn"
FIRST_SEED = "1"


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    gr.Markdown(shown("learn_hint"))
    with gr.Row():
        with gr.Column():
            names = list(LESSONS)
            lesson = gr.Radio(
                [(say("en", f"lesson_{name}"), name) for name in names],
                value=names[0],
                label=shown("lesson"),
                elem_id="learn-lesson",
            )
            texts = [
                gr.Markdown(shown(f"lesson_{name}_text"), visible=name == names[0])
                for name in names
            ]
            prompt = gr.Textbox(
                FIRST_PROMPT, label=shown("prompt"), lines=2, elem_id="learn-prompt"
            )
            seed = gr.Textbox(FIRST_SEED, label=shown("seed"), elem_id="learn-seed")
        with gr.Column():
            panel = Panel(studio, NAME, verb="show_me")
            panel.gallery.columns = 1  # its pictures are sheets
    studio.kept |= {"learn-prompt": prompt, "learn-seed": seed}
    lesson.change(
        lambda name: [gr.Markdown(visible=each == name) for each in names],
        lesson,
        texts,
        **QUIET,
    )

    def read(values: Sequence[Any], language: str) -> Job:
        name, *rest = (str(each or "") for each in values)
        if name not in LESSONS:
            raise UserError("there is no such lesson; expected one of the list; choose one")
        return job_of(studio, LESSONS[name], *rest, language)

    def titles(visit: gr.Request) -> Any:
        language = language_of_visit(visit)
        return gr.Radio(choices=[(say(language, f"lesson_{name}"), name) for name in names])

    panel.connect([lesson, prompt, seed], read)
    held = {"recipe": {"prompt": prompt, "seed": seed}}
    studio.loads.append((titles, None, lesson))
    return Tab(NAME, held, panel.wire)


def job_of(studio: Studio, lesson: Lesson, prompt: str, seed: str, language: str) -> Job:
    """Return the job that draws a lesson's example.

    Args:
        studio: The studio.
        lesson: The lesson.
        prompt: What is drawn.
        seed: As it was typed.
        language: The visitor's.

    Raises:
        UserError: The seed is none, or the example is more than the page draws.
    """
    if not prompt.strip():
        raise UserError("the prompt is empty; expected a description; fill it in")
    queue, number = studio.queue, _seed(seed)
    choice = queue.pipeline.choice
    base = Txt2ImgSettings(
        **studio.fixed | {"prompt": prompt, "seed": number, "outdir": str(studio.outdir)}
    )
    base = suited_to(base, choice.sampling, {"prompt", "seed", *studio.fixed})
    base = replace(base, n_iter=1, n_samples=1, seed_mode="per-image")
    queue.limits.check(base)
    if lesson.axis is None:
        from apps.studio.shown_lessons import Showing

        return Showing(base, lesson.kind, studio.outdir, language)
    axis, base = lesson.axis(prompt, number), replace(base, prompt=lesson.begins(prompt))
    planned = plan(base, (axis, "", ""), choice, queue.limits)
    return Sweeping(planned, studio.outdir, studio.pace, language, pictures=False)


def _seed(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or int(text[:20]) + len(LESSONS) > MAX_SEED:
        raise UserError(f"the seed {quoted(text)} was given; expected a whole number; change it")
    return int(text)
