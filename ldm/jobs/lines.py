"""From a line of a file of jobs to its pictures: completed, checked against the model, hashed.

What a lone run of the line would refuse is refused here, before anything is drawn, but for what
only reading a whole picture tells. Imports no torch.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldm.checkpoint.diffusers.json_files import KEPT, STEMS, find_weights
from ldm.errors import UserError
from ldm.jobs.columns import COLUMNS, OF_NO_JOB, column, is_given, value_of
from ldm.jobs.hashes import hash_of, hash_of_all
from ldm.jobs.job import NOTES, ONE_PICTURE, Job, schema_of
from ldm.jobs.rows import Row
from ldm.paths import file_fault, is_folder
from ldm.pipelines.models import ModelChoice, check_kind, resolve
from ldm.pipelines.networks import find_restorer
from ldm.pipelines.source_files import detector_file
from ldm.pipelines.translating import in_models_language
from ldm.settings.adapters import read_control
from ldm.settings.faces import CASCADE
from ldm.settings.generation import LONGEST_RUN, GenerationSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.option import MAX_SEED, options_of
from ldm.settings.suiting import suited_to

if TYPE_CHECKING:  # few lines have adapters
    from ldm.pipelines.adapter_plan import AdapterPlan
    from ldm.pipelines.wildcards import Templates

_PICTURES = ("init_img", "mask")
_BESIDES = ("decoder", "glossary", "translator", "image_encoder")
_OWN = ("prompt", "negative_prompt", "seed", *_PICTURES)
"""What differs from line to line most often; the rest is checked once for all lines alike."""
_TEXTS = ("prompt", "negative_prompt")
_MODELS_OWN = ("C", "f")
_OF_THE_MODEL = frozenset(("ckpt", "config", "trust_config", "use_ema", "device", "max_pixels"))
"""What ``LineReader.model`` tells of the model, and what pictures do not depend on."""
_AT_ONCE = 1000  # pictures of a line that are drawn up to their prompts before one is handed on
_KEPT = 1024  # sets of settings that are remembered


class LineReader:
    """Makes jobs of lines.

    Args:
        choice: The run's model.
        given: The run's own settings, by field name: for lines that do not say otherwise.
        folder: Where the file of jobs is: lines name their pictures from there.
    """

    def __init__(self, choice: ModelChoice, given: Mapping[str, Any], folder: str | Path) -> None:
        self.choice, self.folder = choice, os.path.abspath(folder)
        self.averaged = bool(given.get("use_ema"))
        left = OF_NO_JOB | _OF_THE_MODEL
        self.given = {k: v for k, v in given.items() if k not in left and v is not None}
        self.seed = self.given.pop("seed", GenerationSettings().seed)
        # A model without text is refused by texts too: there they are checked with the rest.
        textless = () if choice.kind.takes_text else _TEXTS
        self._own = tuple(name for name in _OWN if name not in textless)
        self._complete = functools.lru_cache(maxsize=_KEPT)(self._completed)

    @functools.cached_property
    def model(self) -> str:
        """What the model is known by: its name, its weights' hash, its configuration's."""
        from omegaconf import OmegaConf

        text = OmegaConf.to_yaml(self.choice.config, sort_keys=True)
        config = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
        average = " EMA" if self.averaged else ""
        return f"{self.choice.name} {self._weights()} {config}{average}"

    def _weights(self) -> str:
        """Return the hash of a checkpoint, or of all weights in a diffusers folder."""
        ckpt = self.choice.ckpt_path
        if not is_folder(ckpt):
            return self.choice.fingerprint.short
        # The fingerprint that pictures record is that of the UNet's first file alone.
        files = [path for part in STEMS for path in find_weights(ckpt, part)]
        return hash_of_all([*files, ckpt / KEPT])[:10]

    def jobs(self, row: Row, number: int) -> Iterator[Job]:
        """Check a line, and return its pictures, which are made one by one: it may ask for many.

        Args:
            row: The line.
            number: That of its first picture.

        Raises:
            UserError: The line cannot be drawn, and why.
        """
        given = self._read(row)
        values = self._with_defaults(given)
        count = values.pop("n_iter", 1) * values.pop("n_samples", 1)
        if count > LONGEST_RUN:
            raise UserError(
                f"asks for {count} pictures; expected at most {LONGEST_RUN}; write several lines"
            )
        first = values.pop("seed", self.seed + number)
        if first + count - 1 > MAX_SEED:
            raise UserError(
                f"seed {first + count - 1} is too large; expected at most {MAX_SEED}; give another"
            )
        settings = self._checked(values)
        own = replace(settings, seed=first, seed_mode="per-image")
        if settings.wildcards is not None:
            return self._drawn_jobs(own, row.line, number, count)
        files, kept = self.files_of(settings), self._kept(settings)
        return (
            Job(number + k, row.line, {**kept, **own.seeds(k)}, files, self.model)
            for k in range(count)
        )

    def _drawn_jobs(
        self, settings: GenerationSettings, line: int, number: int, count: int
    ) -> Iterator[Job]:
        """Return jobs whose prompts are drawn from a template: each as its own seed draws it.

        Raises:
            UserError: The template cannot be drawn, or one of the first pictures.
        """
        from ldm.pipelines.wildcards import seed_of, settled

        def job(k: int) -> Job:
            drawn = settled(settings, self._templates, seed_of(settings, k))
            self._check_language(drawn)
            notes = {name: text for name in NOTES if (text := getattr(drawn, name))}
            values = {**self._kept(drawn), **settings.seeds(k), **notes}
            return Job(number + k, line, values, self.files_of(drawn), self.model)

        first = [job(k) for k in range(min(count, _AT_ONCE))]
        return itertools.chain(first, map(job, range(len(first), count)))

    @functools.cached_property
    def _templates(self) -> Templates:
        from ldm.pipelines.wildcards import Templates

        return Templates(self.given["wildcards"])

    def count_of(self, row: Row) -> int:
        """Return how many pictures a line asks for as far as it can be read: 1 where it cannot."""
        count = 1
        for name in ("n_iter", "n_samples"):
            cells = [c for n, c in row.cells.items() if _name_of(n) == name]
            try:
                own = value_of(COLUMNS[name], cells[0]) if cells and is_given(cells[0]) else None
            except UserError:
                own = None
            count *= self.given.get(name, 1) if own is None else own
        return min(count, LONGEST_RUN)

    def _read(self, row: Row) -> dict[str, Any]:
        """Return the settings that a line gives, its pictures' paths made whole."""
        found: dict[str, Any] = {}
        for name, cell in row.cells.items():
            option = column(name)
            if not is_given(cell):
                continue
            if option.name in found:
                raise UserError(f"{option.name} is there twice; expected it once; leave one out")
            found[option.name] = value_of(option, cell)
        for name in _PICTURES:
            if name in found:
                found[name] = self._whole(found[name])
        if "control" in found:
            wishes = map(read_control, found["control"])
            whole = [replace(w, image=self._whole(w.image)) if w.image else w for w in wishes]
            found["control"] = tuple(map(str, whole))
        return found

    def _whole(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.folder, path))

    def _with_defaults(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return a line's settings with the run's for the rest.

        Raises:
            UserError: It has a setting that lines of its kind do not have, or no prompt.
        """
        schema = schema_of(given)
        known = _names_of(schema)
        for name in given:
            if name not in known:
                kind = {"txt2img": "without init_img", "img2img": "without mask"}
                where = kind.get(schema.program, "with init_img and mask")
                raise UserError(
                    f"{name} is no setting of lines {where}; expected {name} to be empty there; "
                    "take it out"
                )
        for name in ("mask", "outpaint"):
            if name in given and "init_img" not in given:
                raise UserError(f"has {name} and no init_img; expected both; add init_img")
        own = {name: value for name, value in self.given.items() if name in known}
        values = {**own, **given}
        if not self.choice.kind.takes_text:
            values.setdefault("prompt", "")
        if "prompt" not in values:
            raise UserError("has no prompt; expected one; add it, or give the program --prompt")
        return values

    def _checked(self, values: dict[str, Any]) -> GenerationSettings:
        """Return complete settings of one picture.

        Raises:
            UserError: They contradict each other or the model, or name files that are not there.
        """
        rest = tuple(sorted((k, v) for k, v in values.items() if k not in self._own))
        complete = self._complete(schema_of(values), rest)
        settings = replace(complete, **{k: values[k] for k in self._own if k in values})
        for name in _PICTURES:
            if name in values and (fault := file_fault(values[name])):
                raise UserError(f"{name} {values[name]} {fault}; expected a picture; check it")
        if settings.wildcards is None:
            self._check_language(settings)
        return settings

    def _check_language(self, settings: GenerationSettings) -> None:
        """Check that the prompts of one picture can be brought into a language of the model."""
        texts = settings.prompt, settings.negative_prompt
        if not all(text.isascii() for text in texts):
            in_models_language(settings, [settings.prompt], self.choice.languages)

    def _completed(self, schema: type[GenerationSettings], rest: tuple) -> GenerationSettings:
        named = {**dict(rest), **ONE_PICTURE}
        # What scripts/inpaint.py takes where nobody names anything.
        own = self.choice.kind.own_values if schema is InpaintSettings else {}
        settings = suited_to(schema(**{**own, **named}), self.choice.sampling, named)
        settings.validate()
        check_kind(self.choice, settings)
        return resolve(settings, self.choice)

    def _kept(self, settings: GenerationSettings) -> dict[str, Any]:
        """Return what of complete settings is not as in every run: what a job holds."""
        left = {*OF_NO_JOB, *ONE_PICTURE, *_MODELS_OWN}
        found = {}
        for each in fields(settings):
            value = getattr(settings, each.name)
            if "option" in each.metadata and value != each.default and each.name not in left:
                found[each.name] = value
        return {**found, "prompt": settings.prompt}

    def files_of(self, settings: GenerationSettings) -> dict[str, str]:
        """Return the SHA-256 of each file that a picture is drawn from, by what it is for."""
        named = {name: getattr(settings, name, None) for name in (*_PICTURES, *_BESIDES)}
        found = {name: hash_of(path) for name, path in named.items() if path}
        if settings.restore_faces is not None:
            found["restore_faces"] = hash_of(find_restorer(settings.restore_faces))
            detector = detector_file(settings.face_detector)
            found["face_detector"] = CASCADE if detector is None else hash_of(detector)
        texts = [settings.prompt, settings.negative_prompt]
        if settings.may_adapt(texts):
            from ldm.pipelines.adapter_plan import plan_adapters

            plan = plan_adapters(settings, [settings.prompt])
            found |= {} if plan is None else _adapter_hashes(plan)
        return {name: sha256 for name, sha256 in found.items() if sha256}


def _name_of(header: str) -> str | None:
    """Return the setting that a column is, by any way to write it; None if it is none."""
    try:
        return column(header).name
    except UserError:
        return None


def _adapter_hashes(plan: AdapterPlan) -> dict[str, str | None]:
    paths: list[tuple[str, Path]] = [("lora", each.path) for each in plan.loras]
    paths += [(f"tag {name}", path) for name, path in plan.tagged]
    # Prompts call them by these names.
    paths += [(f"embedding {each.path.stem}", each.path) for each in plan.embeddings]
    for each in plan.controls:
        paths += [] if each.path is None else [("control", each.path)]
        paths += [("control image", Path(each.wish.image))] if each.wish.image else []
    return {f"{what} {n}": hash_of(path) for n, (what, path) in enumerate(paths)}


@functools.cache
def _names_of(schema: type[GenerationSettings]) -> frozenset[str]:
    return frozenset(each.name for each in options_of(schema)) - OF_NO_JOB
