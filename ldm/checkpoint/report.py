"""Report which weights fitted and which did not when a checkpoint was loaded, by component."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ldm.checkpoint.align import nearest
from ldm.checkpoint.names import (
    EMA,
    EMA_STATE,
    LOSS,
    SCHEDULE,
    by_component,
    component_of,
    is_ballast,
    recognise,
)
from ldm.errors import UserError

Shape = tuple[int, ...]
Mismatch = tuple[str, Shape, Shape]
# A model fills these by itself: the schedule from its configuration, averages from the weights.
REPLACEABLE = (SCHEDULE, EMA, LOSS)


@dataclass
class LoadReport:
    """The outcome of loading one file into one model.

    Attributes:
        source: The file.
        expected: Component to the number of keys that the model has there.
        loaded: Component to the number of keys that were filled from the file.
        missing: Component to keys of the model that the file lacks.
        unexpected: Component to keys of the file that the model lacks and that are not ballast.
        mismatched: Component to (key, shape in the file, shape in the model).
        nearest: A missing key to what the file has that is most like it, in words; a few for each
            component.
        unused: The first of the file's keys that match none of the model's, with their shapes.
        found_under: Component to the prefix of its keys in the file, where it is another.
        ballast: Keys that are always ignored: training losses, position ids, optimizer state.
        ema_present: Whether the file holds moving averages of the weights.
        ema_used: Whether they were taken in place of the weights.
        ema_kept: Whether the model itself holds averages and took them over.
        family: What else the file looks like ("Stable Diffusion 2"), or None.
        stubbed: Classes that the file names and that were not imported.
        notes: Further sentences for the user.
    """

    source: str
    expected: dict[str, int] = field(default_factory=dict)
    loaded: dict[str, int] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    unexpected: dict[str, list[str]] = field(default_factory=dict)
    mismatched: dict[str, list[Mismatch]] = field(default_factory=dict)
    nearest: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    found_under: dict[str, str] = field(default_factory=dict)
    ballast: list[str] = field(default_factory=list)
    ema_present: bool = False
    ema_used: bool = False
    ema_kept: bool = False
    family: str | None = None
    stubbed: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def raise_if_incomplete(self) -> None:
        """Refuse a file that does not fill the model.

        Raises:
            UserError: A component lacks keys or has keys of another shape; one line names the
                components, how many keys, and the first three.
        """
        faults = [_shapes_fault(part, found) for part, found in self.mismatched.items()]
        faults += [
            f"the {part} is incomplete: {len(names)} of {self.expected[part]} keys are missing "
            f"({_first(names)}){self._beside(names)}"
            for part, names in self.missing.items()
            if part not in REPLACEABLE
        ]
        if not faults:
            return
        looks = f"; the file looks like {self.family}" if self.family else ""
        if self.unused and not self.nearest:
            looks = f"; the file has {_first(self.unused)}{looks}"
        raise UserError(
            f"{self.source} does not fit the configuration: {'; '.join(faults)}{looks}; expected "
            "every weight of the configuration's model; give a complete checkpoint of that model, "
            "or the configuration that belongs to this file"
        )

    def _beside(self, names: Sequence[str]) -> str:
        """Say what the file has in place of missing keys."""
        near = dict.fromkeys(self.nearest[name] for name in names if name in self.nearest)
        return f"; nearest in the file: {', '.join(near)}" if near else ""

    def warnings(self) -> list[str]:
        """Return one sentence for each thing that the user should know."""
        lines = [
            f"{self.source}: {len(names)} unexpected {part} keys are not used ({_first(names)})"
            for part, names in self.unexpected.items()
        ]
        if self.ema_present and not (self.ema_used or self.ema_kept):
            lines.append(
                f"{self.source} also holds averaged (EMA) weights, which usually draw better "
                "and are not used; --use_ema takes them"
            )
        return lines + [f"{self.source}: {note}" for note in self.notes]

    def summary(self) -> str:
        """Describe the whole outcome in a few lines of text."""
        counts = ", ".join(f"{part} {n}/{self.expected[part]}" for part, n in self.loaded.items())
        ema = " (UNet from its EMA copy)" if self.ema_used else ""
        lines = [f"loaded {self.source}: {counts} keys{ema}"]
        lines += [
            f"  {part}: found under {p!r} in the file" for part, p in self.found_under.items()
        ]
        lines += [
            f"  {part}: {len(names)} keys not in the file, kept as built ({_first(names)})"
            for part, names in self.missing.items()
        ]
        if self.ballast:
            lines.append(f"  left aside: {len(self.ballast)} keys ({_first(self.ballast)})")
        if self.stubbed:
            lines.append(f"  pickled classes that were not imported: {_first(self.stubbed)}")
        return "\n".join(lines + [f"  {line}" for line in self.warnings()])


def compare(
    source: str,
    wanted: Mapping[str, Shape],
    offered: Mapping[str, Shape],
    leftover: Iterable[str],
    held: Mapping[str, Shape] | None = None,
) -> LoadReport:
    """Compare names and shapes.

    Args:
        source: The file, for messages.
        wanted: The model's keys.
        offered: What the file offers under the model's names.
        leftover: Keys of the file that match no key of the model.
        held: Shapes of these keys by their names in the file, to show beside what is missing.
    """
    unused = list(leftover)
    fits = [name for name in wanted if offered.get(name) == wanted[name]]
    report = LoadReport(
        source,
        expected=_counts(wanted),
        loaded=_counts(fits),
        missing=by_component(name for name in wanted if name not in offered),
        ballast=[name for name in unused if is_ballast(name)],
        unexpected=by_component(n for n in unused if not is_ballast(n) and component_of(n) != EMA),
        ema_present=any(component_of(n) == EMA and n not in EMA_STATE for n in unused),
    )
    for name, shape in wanted.items():
        if name in offered and offered[name] != shape:
            found = report.mismatched.setdefault(component_of(name), [])
            found.append((name, offered[name], shape))
    report.unused = [f"{name} {list(shape)}" for name, shape in list((held or {}).items())[:4]]
    for names in report.missing.values():
        report.nearest |= _nearest(names[:3], wanted, held or {})
    if report.missing or report.mismatched:  # else nobody asks
        report.family = recognise({**dict.fromkeys(unused, ()), **(held or {}), **offered})
    return report


def _nearest(
    names: Iterable[str], wanted: Mapping[str, Shape], held: Mapping[str, Shape]
) -> dict[str, str]:
    found = {name: nearest(name, wanted[name], held) for name in names}
    return {
        name: f"{there} {list(held[there])} (expected {list(wanted[name])})"
        for name, there in found.items()
        if there is not None
    }


def _counts(names: Iterable[str]) -> dict[str, int]:
    return {part: len(group) for part, group in by_component(names).items()}


def _first(names: Sequence[str], count: int = 3) -> str:
    more = ", ..." if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _shapes_fault(part: str, found: list[Mismatch]) -> str:
    examples = [f"{name} is {list(have)}, expected {list(want)}" for name, have, want in found]
    return f"{len(found)} keys of the {part} have another shape ({_first(examples)})"
