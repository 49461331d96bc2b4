"""The order in which a run draws its pictures, and the place of one picture in that order.

In the reference's seed mode a picture depends on every random number drawn before it. A picture
therefore remembers its ``Place``, and ``replay`` plans a run that draws the numbers of all
batches up to that place but denoises only the batch that holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ldm.errors import UserError
from ldm.paths import ERRORS, reason, unreachable
from ldm.settings.generation import LONGEST_RUN, MAX_SEED, GenerationSettings


@dataclass(frozen=True)
class Place:
    """Where in a run a picture was drawn; numbers count from 0.

    Attributes:
        iteration: Which pass over the prompts.
        position: Which picture of its iteration.
        per_iteration: Pictures in each iteration: ``n_samples``, or the lines of the prompt file.
        n_samples: Batch size; the last batch of an iteration may be shorter.
    """

    iteration: int
    position: int
    per_iteration: int
    n_samples: int

    @property
    def index(self) -> int:
        """The picture's number in the whole run."""
        return self.iteration * self.per_iteration + self.position

    @property
    def row(self) -> int:
        """The picture's row in its batch."""
        return self.position % self.n_samples


@dataclass(frozen=True)
class Batch:
    """Pictures that are drawn together.

    Attributes:
        places: The place of each row.
        prompts: The prompt of each row.
        kept: Rows that become pictures; if empty, only the random numbers are drawn.
        numbers: Which of the run's prompts each row has, where pictures are edits of the first.
        recorded: The settings that draw each row's picture; empty where they are the run's.
        within: The first row and the number of rows of the batch that this is a part of; empty
            where it is whole.
        templates: What the prompt of each row was drawn from; empty where none was.
        negatives: The negative prompt of each row; empty where all have the settings'.
    """

    places: tuple[Place, ...]
    prompts: tuple[str, ...]
    kept: tuple[int, ...]
    numbers: tuple[int, ...] = ()
    recorded: tuple[GenerationSettings, ...] = ()
    within: tuple[int, int] | tuple[()] = ()
    templates: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()

    def parts(self, rows: int) -> Iterator[Batch]:
        """Cut into batches of at most so many rows; one that is small enough is itself.

        Drawn one after the other with ``StartNoise.source``, from the same state of the global
        generators each, they are drawn from the random numbers of the whole.
        """
        total = len(self.places)
        if total <= rows:
            yield self
            return
        for first in range(0, total, rows):
            part = range(first, min(first + rows, total))
            yield Batch(
                self.places[first : part.stop],
                self.prompts[first : part.stop],
                tuple(row - first for row in self.kept if row in part),
                within=(first, total),
                templates=self.templates[first : part.stop],
                negatives=self.negatives[first : part.stop],
            )


def plan(settings: GenerationSettings, prompts: Sequence[str]) -> list[Batch]:
    """Lay out a run in the reference's order: iterations, then prompts in chunks of ``n_samples``.

    Args:
        settings: The run's; ``n_iter`` and ``n_samples`` give the layout.
        prompts: One prompt per picture of an iteration.

    Raises:
        UserError: too many pictures, or a seed above the largest one.

    Example:
        >>> from ldm.settings.generation import Txt2ImgSettings
        >>> batches = plan(Txt2ImgSettings(n_samples=2, n_iter=1), ["a", "b", "c"])
        >>> [batch.prompts for batch in batches]
        [('a', 'b'), ('c',)]
    """
    check_length(settings, len(prompts))
    n, total = settings.n_samples, len(prompts)
    batches = []
    for iteration in range(settings.n_iter):
        for start in range(0, total, n):
            chunk = tuple(prompts[start : start + n])
            rows = range(len(chunk))
            places = tuple(Place(iteration, start + row, total, n) for row in rows)
            batches.append(Batch(places, chunk, tuple(rows)))
    return batches


def check_length(settings: GenerationSettings, per_iteration: int) -> None:
    """Check that a run can be planned, and that each of its pictures has a valid seed.

    Raises:
        UserError: too many pictures, or a seed above the largest one.
    """
    total = settings.n_iter * per_iteration
    if total > LONGEST_RUN:
        raise UserError(
            f"--n_iter {settings.n_iter} of {per_iteration} pictures was given, {total} in all; "
            f"expected at most {LONGEST_RUN}; split it into several runs"
        )
    if settings.seed_mode == "per-image" and settings.seed + total - 1 > MAX_SEED:
        raise UserError(
            f"--seed {settings.seed} was given for {total} pictures with a seed each; expected at "
            f"most {MAX_SEED - total + 1}, as the largest seed is {MAX_SEED}; give a smaller one"
        )


def replay(place: Place, prompt: str) -> list[Batch]:
    """Lay out the run that ends with the one picture at ``place``.

    Every row of its batch gets the same prompt: rows do not influence one another, but the batch
    size sets the order of floating-point operations, and so the last bits.
    """
    layout = GenerationSettings(n_samples=place.n_samples, n_iter=place.iteration + 1)
    batches = plan(layout, [prompt] * place.per_iteration)
    last = next(n for n, batch in enumerate(batches) if place in batch.places)
    silent = [Batch(batch.places, batch.prompts, ()) for batch in batches[:last]]
    return [*silent, Batch(batches[last].places, batches[last].prompts, (place.row,))]


def read_prompts(settings: GenerationSettings) -> list[str]:
    """Return one prompt per picture of an iteration: the file's lines, or the prompt repeated.

    A blank line is an empty prompt, as in the reference.

    Raises:
        UserError: the file is missing, not UTF-8, or holds no prompt or too many.
    """
    if settings.from_file is None:
        return [settings.prompt] * settings.n_samples
    path = Path(settings.from_file)
    try:
        # utf-8-sig: editors on Windows put a byte order mark in front.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"--from-file {path} is not UTF-8 (byte {error.start}); expected a UTF-8 text file; "
            "save it as UTF-8"
        ) from error
    except ERRORS as error:
        # Not asked before reading: the file may be a pipe, as in --from-file <(command).
        fault = unreachable(path) or f"cannot be read ({reason(error)})"
        raise UserError(
            f"--from-file {path} {fault}; expected a text file with one prompt per line; check "
            "the path"
        ) from error
    if not text.strip():
        raise UserError(
            f"--from-file {path} holds no prompt; expected one prompt per line; add some"
        )
    lines, repeats = text.splitlines(), settings.per_line
    check_length(settings, len(lines) * repeats)
    for line in dict.fromkeys(lines) if settings.wildcards is None else ():
        settings.mixture(line)  # raises on invalid weights
    return [line for line in lines for _ in range(repeats)]
