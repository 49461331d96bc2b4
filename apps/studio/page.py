"""The page of the studio: its tabs in a row, what they keep over a reload, and its keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from apps.studio.events import IN_BROWSER, QUIET, kept_json
from apps.studio.menu import Menu
from apps.studio.rating import Rating
from apps.studio.state import Studio, Tab
from apps.studio.tabs import edit, enlarge, feedback, gallery, image, learn, repaint, sweep, text
from apps.studio.words import shown
from optimizedSD.web.edit_layout import EDIT_CSS
from optimizedSD.web.handlers import language_of_visit
from optimizedSD.web.layout import HOUR, LABEL_CSS, TOLD_CSS, TROUBLE, keep_files

TABS: dict[str, Callable[[Studio], Tab]] = {
    "text": text.build,
    "image": image.build,
    "repaint": repaint.build,
    "edit": edit.build,
    "enlarge": enlarge.build,
    "sweep": sweep.build,
    "learn": learn.build,
    "gallery": gallery.build,
    "feedback": feedback.build,
}
"""What builds each tab, in their order."""
KEPT_LENGTH = 200_000  # characters of what a browser keeps of the fields
CSS = """
.gradio-container { max-width: 1320px !important; }
.status .bar { height: 0.7em; background: var(--border-color-primary); border-radius: 0.35em; }
.status .bar div { height: 100%; background: var(--color-accent); border-radius: 0.35em; }
.status .preview { display: block; margin: 0.5em auto 0; width: min(100%, 320px);
  image-rendering: auto; border-radius: 0.35em; }
.notices ul { margin: 0; padding-left: 1.2em; }
.counter { text-align: right; font-size: 0.8em; }
.gone .status .bar { display: none; }
.trouble:has([role=alert]:empty) { display: none; }
@media (max-width: 767px) {
  .actions { position: fixed; left: 0; right: 0; bottom: 0; z-index: 1000; padding: 0.5em 1em;
    background: var(--body-background-fill); }
  .column:has(.actions) { position: relative; z-index: 1000; }  /* labels are in layers too */
  .overflow-dropdown { z-index: 1001 !important; }  /* the tabs that have no room in their row */
  .gradio-container { padding-bottom: 5em !important; }
}
.drawn .grid-wrap { min-height: 8em !important; max-height: 660px !important; }
.trouble { position: sticky; top: 0; z-index: 10; }
.trouble .told { background: var(--background-fill-primary); }
.besides { align-items: end; }
.senders { align-items: center; }
.senders > :first-child { flex: 1 1 100%; }
.warning { color: var(--error-text-color, #b91c1c); }
button[role=tab].selected { color: var(--primary-600); }
.dark button[role=tab].selected { color: var(--primary-300); }
"""
CSS += """
.aside { display: flex; gap: 1em; align-items: flex-start; flex-wrap: wrap; }
.aside img { max-width: 160px; border-radius: 0.35em; }
.status pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.download { text-decoration: underline; }
"""
CSS += TOLD_CSS + LABEL_CSS + EDIT_CSS


def build(studio: Studio) -> gr.Blocks:
    """Build the page.

    Args:
        studio: The studio; its bar and what it keeps are set.
    """
    studio.under = (*studio.under, Rating(studio))
    with gr.Blocks(
        title="Studio", analytics_enabled=False, delete_cache=(HOUR, 24 * HOUR)
    ) as blocks:
        pipeline = studio.queue.pipeline
        name = f"{pipeline.choice.name}, " if studio.flags.one_model else ""  # else on the menu
        gr.Markdown(f"# Studio\n{name}{pipeline.device}")
        for place in ("trouble", "upload-trouble"):  # filled by the page's script
            gr.HTML(TROUBLE, elem_id=place, elem_classes="trouble", padding=False)
        menu = None if studio.flags.one_model else Menu(studio)
        tabs: dict[str, Tab] = {}
        with gr.Tabs(selected="text") as studio.bar:
            for name, make in TABS.items():
                with gr.Tab(shown(name), id=name, elem_id=f"tab-{name}") as place:
                    tabs[name] = make(studio)
                if opened := tabs[name].opened:
                    place.select(*opened, **QUIET)
        for tab in tabs.values():
            if tab.wire is not None:
                tab.wire(studio, tabs)
        if menu is not None:
            menu.connect(tabs)
        _keep(studio, blocks)
        _translate_menus(studio, blocks)
        for call, given, shows in studio.loads:
            blocks.load(call, given, shows, **QUIET)
    return blocks


def _translate_menus(studio: Studio, blocks: gr.Blocks) -> None:
    """Let the menus of all forms have their values in the visitor's language."""

    def menus(visit: gr.Request) -> list[Any]:
        language = language_of_visit(visit)
        return [gr.Dropdown(choices=field.choices(language)) for _, field in studio.menus]

    blocks.load(menus, None, [made for made, _ in studio.menus], **QUIET)


def _keep(studio: Studio, blocks: gr.Blocks) -> None:
    """Let the browser keep what the fields hold, and fill them with it after a reload."""
    held = gr.BrowserState("", storage_key="studio-fields", secret=studio.flags.program)
    names, made = list(studio.kept), list(studio.kept.values())
    first = {name: each.value for name, each in studio.kept.items()}

    def restore(kept: Any) -> list[Any]:
        values = read_kept(kept)
        return [
            gr.skip()
            if name not in values or not _alike(values[name], first[name])
            else values[name]
            for name in names
        ]

    loaded = f"Object.fromEntries({json.dumps(names)}.map((name, i) => [name, values[i]]))"
    script = f"(...values) => JSON.stringify({loaded})"
    blocks.load(restore, held, made, **QUIET)
    for panel in studio.panels:
        blocks.load(panel.restored, panel.kept, panel.outputs, **QUIET)
    gr.on([each.change for each in made], None, made, held, js=script, **IN_BROWSER)
    keep_files(blocks, list(studio.given.values()))


def read_kept(kept: Any) -> dict[str, Any]:
    """Return what the fields held, by their names, as far as a browser kept it."""
    return kept_json(kept, KEPT_LENGTH, dict)


def _alike(value: Any, first: Any) -> bool:
    """Return whether a kept value is of the kind that a field holds."""
    if isinstance(first, bool) or isinstance(value, bool):
        return isinstance(first, bool) and isinstance(value, bool)
    if isinstance(first, (int, float)):
        return isinstance(value, (int, float))
    return isinstance(value, str)
