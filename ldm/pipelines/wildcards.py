"""A run's prompts, drawn from templates: for each picture its own, by its seed. Imports no torch.

Picture i of a run with seed S has draw S + i, in both seed modes, on every device and in batches of
any size. Variations of one picture (``--subseed_strength``) have one draw, that of their seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

from ldm.legible import quoted
from ldm.pipelines.batches import Batch, Place
from ldm.pipelines.translating import in_models_language
from ldm.prompts.wildcard_files import Wildcards
from ldm.prompts.wildcards import Template, draw, is_template, likely_parts, parse
from ldm.settings.generation import GenerationSettings

NEGATIVE = "negative"
"""Sets the draws of negative prompts apart from those of prompts."""
_KEPT = 1024  # templates that stay read: a file of jobs may have one on each line
_SHOWN = 5  # parts of prompts that one notice names


class Templates:
    """Draws prompts from the templates of a run, whose lists are read once.

    Args:
        folder: That of the lists.

    Raises:
        UserError: The folder cannot be listed.
    """

    def __init__(self, folder: str) -> None:
        self.lists = Wildcards(folder)
        self.read = lru_cache(maxsize=_KEPT)(self._read)

    def _read(self, template: str, where: str) -> Template:
        read = parse(template, where)
        self.lists.check(read)
        return read

    def prompt(self, template: str, seed: int) -> str:
        """Return the prompt that a seed draws; a text that is no template is itself.

        Raises:
            UserError: The template cannot be read, or a list is missing.
        """
        return draw(self.read(template, "the prompt"), self.lists, seed)

    def negative(self, template: str, seed: int) -> str:
        """Return the negative prompt that a seed draws, apart from the prompt."""
        return draw(self.read(template, "the negative prompt"), self.lists, seed, NEGATIVE)


def notices_on_plain(texts: Iterable[str]) -> Iterator[str]:
    """Say what of prompts that are drawn as they were typed looks like a template."""
    parts = dict.fromkeys(part for text in texts for part in likely_parts(text))
    if parts:
        shown = ", ".join(quoted(part) for part in islice(parts, _SHOWN))
        more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
        yield (
            f"these parts of the prompt are drawn as plain text: {shown}{more}; "
            "--wildcards FOLDER draws from lists and choices"
        )


def check_folder(settings: Any) -> None:
    """Check that a program that serves can list the folder that it names; raises UserError."""
    if settings.wildcards is not None:
        Wildcards(settings.wildcards)


@dataclass(frozen=True)
class Drawn:
    """What was drawn for a run.

    Attributes:
        settings: The run's.
        prompts: One for each picture of the run.
        templates: What they were drawn from, one for each picture of an iteration; empty where the
            run is one picture that is redrawn, whose settings then have all.
        negatives: The negative prompts of the run's pictures; empty where all have the settings'.
    """

    settings: GenerationSettings
    prompts: list[str]
    templates: list[str]
    negatives: list[str]

    def in_language(self, languages: Sequence[str]) -> Drawn:
        """Return the same with prompts that a model reads; see ``in_models_language``.

        Templates stay as they were typed: what was drawn from them is translated.

        Args:
            languages: Those that the model reads.

        Raises:
            UserError: A prompt cannot be translated.
        """
        held = {"prompt": self.settings.prompt} if self.templates else {}
        if self.negatives:
            held["negative_prompt"] = self.settings.negative_prompt
        bare = replace(self.settings, **dict.fromkeys(held, ""))
        settings, texts = in_models_language(bare, [*self.prompts, *self.negatives], languages)
        count = len(self.prompts)
        return Drawn(replace(settings, **held), texts[:count], self.templates, texts[count:])


def draw_prompts(
    settings: GenerationSettings, templates: Sequence[str], place: Place | None = None
) -> Drawn:
    """Draw the prompts of a run.

    Args:
        settings: The run's.
        templates: One for each picture of an iteration.
        place: Draw those of the one picture at this place of a run.

    Raises:
        UserError: The folder, a list or a template cannot be used.
    """
    own = Templates(settings.wildcards)
    if place is not None:
        settings = settled(settings, own, seed_of(settings, place.index))
        return Drawn(settings, [settings.prompt], [], [])
    count, of_one = settings.n_iter * len(templates), len(templates)
    seeds = [seed_of(settings, index) for index in range(count)]
    prompts = [own.prompt(templates[k % of_one], seed) for k, seed in enumerate(seeds)]
    typed, negatives = settings.negative_prompt, []
    if is_template(typed):
        negatives = [own.negative(typed, seed) for seed in seeds]
    for text in dict.fromkeys([*prompts, *(negatives or [typed])]):
        settings.mixture(text)  # raises on invalid weights
    return Drawn(settings, prompts, list(templates), negatives)


def settled(settings: GenerationSettings, templates: Templates, seed: int) -> GenerationSettings:
    """Return the settings of one picture with its prompts drawn and their templates noted.

    Args:
        settings: The picture's.
        templates: Of the run.
        seed: That of ``seed_of``.

    Raises:
        UserError: One cannot be drawn.
    """
    texts = settings.prompt, settings.negative_prompt
    made = templates.prompt(texts[0], seed), templates.negative(texts[1], seed)
    for text in made:
        settings.mixture(text)  # raises on invalid weights
    noted = [text if is_template(text) else "" for text in texts]
    names = "prompt", "negative_prompt", "template", "negative_template"
    return replace(settings, wildcards=None, **dict(zip(names, (*made, *noted), strict=True)))


def seed_of(settings: GenerationSettings, index: int) -> int:
    """Return the seed that draws the prompt of picture ``index`` of a run."""
    return settings.seed if settings.is_varied else settings.seed + index


def with_draws(
    batches: Sequence[Batch], prompts: Sequence[str], negatives: Sequence[str]
) -> list[Batch]:
    """Return batches of templates with what was drawn from them.

    Args:
        batches: Those of the run.
        prompts: One for each of its pictures.
        negatives: The same, or empty.
    """
    made = []
    for batch in batches:
        numbers = [place.index for place in batch.places]
        own = {"prompts": tuple(prompts[k] for k in numbers), "templates": batch.prompts}
        if negatives:
            own["negatives"] = tuple(negatives[k] for k in numbers)
        made.append(replace(batch, **own))
    return made


def notes_of(batch: Batch, row: int, settings: GenerationSettings) -> dict[str, str]:
    """Return what a picture's own settings say of its templates, by field name.

    Args:
        batch: Of templates.
        row: The picture's.
        settings: The run's, with the template of the negative prompts.
    """
    noted = {}
    if is_template(batch.templates[row]):
        noted["template"] = batch.templates[row]
    if batch.negatives:
        noted["negative_prompt"] = batch.negatives[row]
        noted["negative_template"] = settings.negative_prompt
    return noted
