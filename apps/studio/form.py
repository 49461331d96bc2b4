"""The controls of a schema on a tab: prompts with their counter, size, seed, walk, and the rest.

Form(studio, name, fields)  ->  form.inputs (components)  ->  form.read(values) -> settings
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from apps.studio.browser import shelf
from apps.studio.counting import count_tokens
from apps.studio.events import IN_BROWSER, QUIET
from apps.studio.networks import SETTINGS, chosen, offered
from apps.studio.state import Studio
from apps.studio.styles import names_of, with_styles
from apps.studio.wildcards import lists_in, with_list
from apps.studio.words import say, shown
from ldm.settings.generation import GenerationSettings
from ldm.settings.hires import HIRES
from ldm.settings.option import options_of
from ldm.settings.suiting import suiting
from optimizedSD.web.fields import Field, fields_of, settings_from
from optimizedSD.web.handlers import language_of_visit
from optimizedSD.web.layout import component, words_of
from optimizedSD.web.speaking import Speaker

FIRST = {"prompt_syntax": "a1111", "n_samples": 2, "seed": None}
"""What controls first show where that is not the schema's; only those that it has."""
FIRST_PROMPT = "a photo of a panda on a red background"  # words that the bundled model knows
LEAST_WIDTH = 220  # pixels of one of two controls side by side
MOST_SCALE = 30.0  # of the slider
ASPECTS = ((1, 1), (4, 3), (3, 4), (3, 2), (2, 3), (16, 9), (9, 16))


def fields_for(
    studio: Studio, schema: type[GenerationSettings], fixed: Sequence[str] = (), **first: Any
) -> list[Field]:
    """Return the fields of a schema, set to what suits the model.

    Args:
        studio: The studio.
        schema: The settings class.
        fixed: Settings that get no control.
        **first: What controls first show.
    """
    choice = studio.queue.pipeline.choice
    known = schema.__dataclass_fields__
    initial = {n: v for n, v in {**FIRST, **first}.items() if n in known and n not in fixed}
    initial |= suiting(schema(), choice.sampling, {*fixed, *first})
    return fields_of(schema, initial, fixed)


@dataclass
class Form:
    """The controls of a tab, laid out where it is made.

    Args:
        studio: The studio.
        name: The tab's.
        schema: Of the settings.
        fields: Its controls.
        first: Settings whose controls stand before the prompt.
        size: Whether sides have presets, and a button that swaps them.

    Attributes:
        by_name: The components by setting.
        reuse: The button that takes the seed of the picture that is shown.
        wildcards: The switch that lets prompts draw from lists; None where they cannot.
        networks: The lists of networks by setting, see ``apps.studio.networks``.
        speaker: Says the library's messages in the form's words.
    """

    studio: Studio
    name: str
    schema: type[GenerationSettings]
    fields: Sequence[Field]
    first: Sequence[str] = ()
    size: bool = True
    by_name: dict[str, Any] = field(default_factory=dict)
    reuse: Any = None
    styles: Any = None
    wildcards: Any = None
    networks: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known = {each.name: each for each in self.fields}
        self.speaker = Speaker(self.fields)
        self._put(*self.first)
        self._words()
        self._pair("sampler", "spacing")
        self._pair("ddim_steps", "scale")
        if "strength" in self._known:
            self._put("strength")
        self._size()
        with gr.Row(elem_classes="besides"):
            self._put("seed")
            dice = self._button("dice")
            self.reuse = self._button("reuse")
            dice.click(None, None, self.by_name["seed"], js="() => ''", **IN_BROWSER)
        self._pair("n_samples", "n_iter")
        with gr.Accordion(shown("more"), open=False):
            self._put(*HIRES)  # beside what enlarges their first picture
            self._networks()
            self._put(*(name for name in self._known if name not in self.by_name))
        self._keep()

    @property
    def inputs(self) -> list[Any]:
        """The components whose values ``read`` takes, in its order."""
        own = (self.by_name[each.name] for each in self.fields)
        switch = [] if self.wildcards is None else [self.wildcards]
        return [self.styles, *switch, *self.networks.values(), *own]

    def id(self, part: str) -> str:
        """Return the name of a part of this form among the elements of the page."""
        return f"{self.name}-{part}"

    def read(self, values: Sequence[Any], **rest: Any) -> GenerationSettings:
        """Return the settings that the values of ``inputs`` mean, within the page's limits.

        Args:
            values: Of ``inputs``.
            **rest: Settings that have no control.

        Raises:
            UserError: One is of the wrong kind or out of range, or more than this page draws.
        """
        styles, *held = values
        if self.wildcards is not None:
            switched, *held = held
            rest = {"wildcards": self.studio.wildcards if switched is True else None, **rest}
        names, held = held[: len(self.networks)], held[len(self.networks) :]
        picked = {each: chosen(each, n) for each, n in zip(self.networks, names, strict=True)}
        rest = {**self.studio.fixed, **picked, **rest, "outdir": self.outdir}
        settings = settings_from(self.schema, self.fields, held, **rest)
        prompt, negative = with_styles(
            settings.prompt, settings.negative_prompt, names_of(styles), self.studio.styles
        )
        settings = replace(settings, prompt=prompt, negative_prompt=negative)
        settings.validate()
        self.studio.queue.limits.check(settings)
        return settings

    @property
    def outdir(self) -> str:
        """Where its pictures go."""
        return str(self.studio.outdir)

    def _pair(self, *names: str) -> None:
        """Lay two controls out side by side, one above the other on a phone."""
        with gr.Row():
            for name in names:
                with gr.Column(min_width=LEAST_WIDTH):
                    self._put(name)

    def _put(self, *names: str) -> None:
        for name in names:
            if name in self._known:
                self.by_name[name] = self._control(self._known[name])

    def _control(self, each: Field) -> Any:
        made_id, limits = self.id(each.name), self.studio.queue.limits
        label, info = words_of(each)
        common = {"label": label, "info": info, "elem_id": made_id}
        multiple = self.studio.queue.pipeline.choice.multiple
        ranges = {
            "ddim_steps": (1, limits.steps, 1),
            "n_samples": (1, limits.pictures, 1),
            "n_iter": (1, limits.pictures, 1),
            "scale": (1.0, MOST_SCALE, 0.1),
            "W": (multiple, limits.side, multiple),
            "H": (multiple, limits.side, multiple),
        }
        if each.name in ranges and each.value is not None:
            low, high, step = ranges[each.name]
            if each.name in ("W", "H"):  # what an empty field means is said there
                common["info"] = None
            return gr.Slider(low, max(high, each.value), each.value, step=step, **common)
        if each.name in ("prompt", "negative_prompt", "sprompt"):
            lines = 2 if each.name == "negative_prompt" else 3
            return gr.Textbox(each.value, lines=lines, **common)
        made = component(each, elem_id=made_id)
        if each.kind == "choice":
            self.studio.menus.append((made, each))
        return made

    def _networks(self) -> None:
        """Lay out the lists of networks that a run can take."""
        for setting in SETTINGS:
            names = list(offered(setting)) if setting in self.schema.__dataclass_fields__ else []
            if names:
                self.networks[setting] = gr.Dropdown(
                    names,
                    value=names[0],
                    label=shown(setting),
                    filterable=False,
                    elem_id=self.id(setting),
                )

    def _button(self, key: str) -> gr.Button:
        return gr.Button(shown(key), elem_id=self.id(key), size="sm", scale=0, min_width=120)

    def _words(self) -> None:
        """Lay out the prompts, their counter, the styles and the wildcards."""
        self._put("sprompt", "prompt")
        counter = gr.HTML(elem_id=self.id("counter"), elem_classes="counter", padding=False)
        self._put("negative_prompt")
        self.styles = gr.Dropdown(
            list(self.studio.styles),
            value=[],
            multiselect=True,
            label=shown("styles"),
            elem_id=self.id("styles"),
            visible=bool(self.studio.styles),
        )
        prompt = self.by_name["prompt"]
        takes = any(each.name == "wildcards" for each in options_of(self.schema))
        if takes and self.studio.wildcards is not None:
            self._wildcards(prompt)
        shelf(prompt, self.name)
        prompt.change(self._count, prompt, counter, **QUIET)
        self.studio.loads.append((self._count, prompt, counter))

    def _wildcards(self, prompt: Any) -> None:
        """Lay out the switch, and the names of the lists: one that is chosen goes into a prompt."""
        with gr.Row(elem_classes="besides"):
            self.wildcards = gr.Checkbox(
                False,
                label=shown("wildcards"),
                info=shown("wildcards_info"),
                elem_id=self.id("wildcards"),
            )
            names = gr.Dropdown(
                [""],
                value="",
                label=shown("wildcard_lists"),
                info=shown("wildcard_lists_info"),
                elem_id=self.id("wildcard-lists"),
            )
        held = [names, prompt, self.wildcards]
        names.input(_with_list, [names, prompt], held, **QUIET)
        self.studio.loads.append((self._lists, None, names))
        self.studio.kept[self.id("wildcards")] = self.wildcards

    def _lists(self) -> Any:
        return gr.Dropdown(choices=["", *lists_in(self.studio.wildcards)], value="")

    def _count(self, visit: gr.Request, prompt: Any) -> str:
        text = str(prompt or "")
        if len(text) > self.studio.queue.limits.prompt:
            return ""
        tokenizer = getattr(self.studio.queue.pipeline.model.cond_stage_model, "tokenizer", None)
        syntax = self._known.get("prompt_syntax")
        found = count_tokens(tokenizer, text, "a1111" if syntax else "compvis")
        if found is None:
            return ""
        return say(language_of_visit(visit), "tokens", used=found[0], room=found[1])

    def _size(self) -> None:
        if not {"H", "W"} <= self._known.keys():
            self._put("W", "H")
            return
        self._pair("W", "H")
        if not self.size:
            return
        with gr.Row(elem_classes="besides"):
            preset = gr.Dropdown(
                list(presets(self.studio)),
                value=None,
                label=shown("preset"),
                elem_id=self.id("preset"),
                filterable=False,
            )
            swap = self._button("swap")
        sides = [self.by_name["W"], self.by_name["H"]]
        pick = "(size, w, h) => size ? size.split(/[^0-9]+/).slice(0, 2).map(Number) : [w, h]"
        preset.input(None, [preset, *sides], sides, js=pick, **IN_BROWSER)
        swap.click(None, sides, sides, js="(w, h) => [h, w]", **IN_BROWSER)

    def _keep(self) -> None:
        self.studio.kept |= {self.id(name): made for name, made in self.by_name.items()}


def _with_list(name: Any, prompt: Any) -> tuple[Any, Any, Any]:
    """Return no name, the prompt with the name, and the switch turned on."""
    if not name:
        return gr.skip(), gr.skip(), gr.skip()
    return "", with_list(str(prompt or ""), str(name)), True


def presets(studio: Studio) -> list[str]:
    """Return sizes in usual proportions with about the model's own number of pixels.

    Example:
        For a model of 512 pixels: 512 × 512 (1:1), 576 × 448 (4:3), ...
    """
    own, multiple = studio.own_size, studio.queue.pipeline.choice.multiple
    limits, made = studio.queue.limits, []
    for across, down in ASPECTS:
        width = round(own * (across / down) ** 0.5 / multiple) * multiple
        height = round(own * (down / across) ** 0.5 / multiple) * multiple
        if 0 < width <= limits.side and 0 < height <= limits.side:
            made.append(f"{width} × {height} ({across}:{down})")
    return made
