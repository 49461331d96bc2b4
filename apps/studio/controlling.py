"""The fields of a tab for what looks at pictures: a ControlNet or its like, and an image prompt.

Controls(studio, form)  ->  .inputs (components)  ->  .read(values, language) -> settings by name
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from apps.studio.control_recipes import recalled
from apps.studio.controls import (
    KINDS,
    MODES,
    OF_MODEL,
    STRONGEST,
    Act,
    Network,
    chosen,
    control_text,
    hint_kinds,
    kind_of_prompt,
    networks_there,
    offered,
    one_of,
    unfit,
)
from apps.studio.events import QUIET
from apps.studio.form import LEAST_WIDTH, Form
from apps.studio.networks import NOTHING
from apps.studio.pictures import picture_field, picture_of
from apps.studio.state import Studio
from apps.studio.words import LANGUAGES, say, shown
from ldm.errors import UserError
from ldm.pipelines.recorded_controls import RecordedControl
from ldm.settings.adapters import REFERENCE
from optimizedSD.web.handlers import language_of_visit

HEIGHT = 240  # pixels of a field for a picture


class Controls:
    """The components, laid out where it is made.

    Args:
        studio: The studio.
        form: Of the tab; its messages call ``--control`` what it is called here.
        own: Whether the tab has a picture, which a control looks at where it is given none.
        masked: Whether it has a mask.

    Attributes:
        place: The accordion that they are in.
        pictures: What networks look at, by the keys of ``KINDS``.
        fields: The others, by name; a reload keeps what they hold.
    """

    def __init__(
        self, studio: Studio, form: Form, *, own: bool = False, masked: bool = False
    ) -> None:
        self.studio, self.name, self.own, self.speaker = studio, form.name, own, form.speaker
        self.kinds = hint_kinds(masked=masked)
        self.pictures: dict[str, Any] = {}
        self.fields: dict[str, Any] = {}
        for language in LANGUAGES:
            form.speaker.labels[language]["--control"] = say(language, "controls")
        with gr.Accordion(shown("controls"), open=False, elem_id=self._id("controls")) as place:
            gr.Markdown(shown("controls_hint"))
            self._part("control")
            with gr.Row():
                self._choice("control_kind", "hint", self.kinds)
                self._choice("control_mode", "mode", MODES)
            self._part("image_prompt")
            about = gr.HTML(elem_id=self._id("controls-about"), elem_classes="status")
        self.place = place
        studio.kept |= {each.elem_id: each for each in self.fields.values()}
        menus = [self.fields[key] for key in KINDS]
        studio.loads.append((self._listed, None, [*menus, about]))
        place.expand(self._listed_anew, menus, [*menus, about], **QUIET)

    @property
    def inputs(self) -> list[Any]:
        """The components whose values ``read`` takes, in its order."""
        return [*self.pictures.values(), *self.fields.values()]

    def read(self, values: Sequence[Any], language: str, own: Any = None) -> dict[str, Any]:
        """Return the settings that the values of ``inputs`` mean; none where nothing is chosen.

        Pictures that are looked at are kept, so that what is drawn can be drawn again.

        Args:
            values: Of ``inputs``.
            language: The visitor's.
            own: The tab's own picture, as the browser sends it; None where it has none.

        Raises:
            UserError: One is not offered, or a picture is missing or cannot be read.
        """
        pictures = dict(zip(self.pictures, values, strict=False))
        held = dict(zip(self.fields, values[len(pictures) :], strict=True))
        pictures["control"] = pictures["control"] or own
        there, texts, given = self._networks(), [], {}
        for key in KINDS:
            network = chosen(held[key], offered(there, key))
            if network is None:
                continue
            if key == "control":
                kind = REFERENCE if network.name == OF_MODEL else held["control_kind"]
                kind = one_of(kind, (REFERENCE, *self.kinds))
                given["control_mode"] = one_of(held["control_mode"], MODES)
            else:
                kind = kind_of_prompt(network)
                given["image_encoder"] = self.studio.flags.image_encoder
            act = Act.of(*(held[f"{key}_{what}"] for what in ("scale", "start", "end")))
            image = self._kept(key, network, pictures[key], language)
            texts.append(control_text(network, kind, image, act))
        return {**given, "control": tuple(texts)} if texts else {}

    def filled(
        self, recorded: Sequence[RecordedControl], language: str
    ) -> tuple[list[Any], list[str]]:
        """Return updates for ``fields``, and sentences about what was not taken over.

        Args:
            recorded: The controls that a picture records; where it has none, none is chosen.
            language: The visitor's.
        """
        there = self._networks()
        found = recalled(
            recorded, {key: offered(there, key) for key in KINDS}, self.kinds, language
        )
        values = {**dict.fromkeys(KINDS, NOTHING), **found.values}
        return [values.get(name, gr.skip()) for name in self.fields], found.sentences

    def _kept(self, key: str, network: Network, value: Any, language: str) -> str:
        """Return where a picture is kept that a network is to look at."""
        if not value:
            names = {"label": say(language, key), "name": _called(network.name, language)}
            raise UserError(say(language, "no_hint", **names))
        picture_of(value)  # raises for what cannot be read
        with open(value["path"], "rb") as file:
            return str(self.studio.hints.take(file))

    def _part(self, key: str) -> None:
        """Lay out what looks, at what, how strongly and when."""
        own = "_or_own" if self.own and key == "control" else ""
        self.fields[key] = gr.Dropdown(
            _choices(offered(self._networks(), key), LANGUAGES[0]),
            value=NOTHING,
            label=shown(key),
            info=shown(f"{key}_info"),
            filterable=False,
            elem_id=self._id(key),
        )
        self.pictures[key] = picture_field(
            self.studio, self._id(key), f"{key}_picture{own}", HEIGHT
        )
        self._slider(f"{key}_scale", STRONGEST, 1)
        with gr.Row():
            self._slider(f"{key}_start", 1, 0)
            self._slider(f"{key}_end", 1, 1)

    def _slider(self, key: str, most: float, first: float) -> None:
        self.fields[key] = gr.Slider(
            *(0, most, first),
            step=0.05,
            label=shown(key),
            min_width=LEAST_WIDTH,
            elem_id=self._id(key),
        )

    def _choice(self, key: str, said: str, values: Sequence[str]) -> None:
        self.fields[key] = gr.Dropdown(
            [(shown(f"{said}_{each}"), each) for each in values],
            value=values[0],
            label=shown(key),
            filterable=False,
            min_width=LEAST_WIDTH,
            elem_id=self._id(key),
        )

    def _id(self, part: str) -> str:
        return f"{self.name}-{part.replace('_', '-')}"

    def _networks(self) -> list[Network]:
        model = self.studio.queue.pipeline.model
        return networks_there(model, self.studio.flags.image_encoder)

    def _listed(self, visit: gr.Request) -> list[Any]:
        """Return the menus as they are now, and what does not fit; what is chosen stays."""
        language, there = language_of_visit(visit), self._networks()
        menus = [gr.Dropdown(choices=_choices(offered(there, key), language)) for key in KINDS]
        return [*menus, self._about(there, language)]

    def _listed_anew(self, visit: gr.Request, *values: Any) -> list[Any]:
        """Return the same; what is there no more is not chosen any more."""
        language, there = language_of_visit(visit), self._networks()
        menus = []
        for key, value in zip(KINDS, values, strict=True):
            names = offered(there, key)
            kept = value if value in names else NOTHING
            menus.append(gr.Dropdown(choices=_choices(names, language), value=kept))
        return [*menus, self._about(there, language)]

    def _about(self, networks: Sequence[Network], language: str) -> str:
        """Return which files cannot be chosen, and why, as HTML."""
        lines = (html.escape(self.speaker.said(each, language)) for each in unfit(networks))
        listed = "".join(f"<li>{line}</li>" for line in lines)
        said = html.escape(say(language, "unfit"))
        return f"<details><summary>{said}</summary><ul>{listed}</ul></details>" if listed else ""


def _choices(names: Mapping[str, Network], language: str) -> list[tuple[str, str]]:
    return [(_called(name, language), name) for name in (NOTHING, *names)]


def _called(name: str, language: str) -> str:
    return say(language, "control_of_model") if name == OF_MODEL else name
