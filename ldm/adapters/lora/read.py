"""Read LoRA files of every dialect, and say what they hold and what is not used of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ldm.adapters.handle import Scale
from ldm.adapters.lora.alphas import Alphas
from ldm.adapters.lora.deltas import KINDS, Decomposed, Delta
from ldm.adapters.lora.dialects import Group, sort_keys
from ldm.adapters.lora.numbered import is_numbered, number, of_list
from ldm.adapters.lora.places import Place, Places, flattened
from ldm.adapters.report import Report, base_of_model, base_of_width, wrong_base
from ldm.checkpoint.io import identify, read_checkpoint, torch_file
from ldm.checkpoint.laid_over import plain_content
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import at_home, is_file, is_folder, real_path

# What diffusers and peft call the file in the folders that they write.
IN_FOLDERS = ("pytorch_lora_weights", "adapter_model")
AGAIN = "get it again from where it came, or train it again"


class Change(NamedTuple):
    """What a file does to one layer: to its weight, to its bias, or to both."""

    delta: Delta | None
    bias: Tensor | None


class LoRA:
    """What was read from a LoRA's file: changes of layers, by the names in the file.

    Args:
        path: The file.
        changes: Name of a layer to its change.
        keys: Name of a layer to its keys.
        report: What the file is.
        metadata: What it says about itself.
    """

    def __init__(
        self,
        path: Path,
        changes: Mapping[str, Change],
        keys: Mapping[str, Mapping[str, str]],
        report: Report,
        metadata: Mapping[str, str],
    ) -> None:
        self.path, self.changes, self.report = path, dict(changes), report
        self.metadata = dict(metadata)
        self._keys = keys
        self._unknown = list(report.unused)
        self.placed: dict[str, Place] = {}

    def place(self, model: nn.Module) -> dict[str, Place]:
        """Find the layers of a model that the file changes, and complete the report.

        Returns:
            Name of a layer in the file to the model's, for those that the model has.

        Raises:
            UserError: The file is made for other models.
        """
        places = Places(model)
        numbered = number(places, self._tensors())
        found = {stem: numbered.get(stem) or places.find(stem) for stem in self.changes}
        placed = {stem: place for stem, place in found.items() if place is not None}
        self._check(placed, model)
        lost = [stem for stem in self.changes if stem not in placed]
        self.report.unused = self._unknown + [k for s in lost for k in self._keys[s].values()]
        self._drop_biases(placed)
        self.report.modules = len(placed)
        self.placed = placed
        return placed

    def attach(
        self,
        model: nn.Module,
        scale: Scale = 1.0,
        *,
        text_scale: Scale | None = None,
        merge: bool = False,
    ) -> Any:
        """Let a model draw with the LoRA; see ``LoRAHandle``.

        Raises:
            UserError: It is on the model already, is made for other models, or a scale cannot be
                used.
        """
        from ldm.adapters.lora.attached import Bound, LoRAHandle

        placed = self.place(model)
        bounds = [Bound(place, *self._usable(stem, place)) for stem, place in placed.items()]
        return LoRAHandle(
            model, bounds, scale, text_scale, source=real_path(self.path), merge=merge
        )

    def _usable(self, stem: str, place: Place) -> Change:
        change = self.changes[stem]
        return change if place.has_bias else change._replace(bias=None)

    def _drop_biases(self, placed: Mapping[str, Place]) -> None:
        """Say which biases have no place: a new one would be a new key of the model."""
        for stem, place in placed.items():
            if self.changes[stem].bias is not None and not place.has_bias:
                self.report.unused.append(self._keys[stem]["diff_b"])

    def _tensors(self) -> dict[str, Group]:
        return {
            stem: {} if change.delta is None else change.delta.tensors
            for stem, change in self.changes.items()
        }

    def _check(self, placed: Mapping[str, Place], model: nn.Module) -> None:
        fault = next((f for s, p in placed.items() if (f := self._fault(s, p))), None)
        if placed and fault is None:
            return
        made_for, own = self.report.base, base_of_model(model)
        if made_for not in (own, "unknown"):
            raise wrong_base(self.path, "LoRA", made_for, model)
        fault = fault or f"none of its {len(self.changes)} layers is in the model"
        raise UserError(
            f"LoRA {str(self.path)!r} does not fit the model: {fault}; expected a LoRA of {own}; "
            "give one that was made for this model"
        )

    def _fault(self, stem: str, place: Place) -> str | None:
        delta, bias = self.changes[stem]
        if delta is not None and not delta.fits(place.shape):
            return f"{quoted(stem)} changes another shape than the model's {place.shape}"
        if bias is not None and place.has_bias and len(bias) != place.shape[0]:
            return f"{quoted(stem)} changes a bias of {len(bias)}, the model has {place.shape[0]}"
        return None


def read_lora(path: str | Path, model: nn.Module | None = None) -> LoRA:
    """Read a LoRA, LoCon, LoHa, LoKr, IA3, DoRA or a file of whole changes, of any dialect.

    Args:
        path: A safetensors file or one of ``torch.save``, or a folder of diffusers' or peft's with
            one; pickles are read and never run.
        model: Where given, the report also says how many of its layers are changed, and which keys
            are not used because it has no such layer.

    Raises:
        UserError: The file is damaged, of no known dialect, or made for other models.
    """
    path = _file(at_home(path))
    tensors, metadata = _read(path)
    found = sort_keys(tensors)
    if not found.groups:
        raise UserError(
            f"LoRA {str(path)!r} has no key that a LoRA has, but such as "
            f"{quoted(found.unknown[0])}; expected kohya's, diffusers', peft's, LyCORIS's or "
            "cloneofsimo's names; give a LoRA, or load this file as what it is"
        )
    builder = _Builder(path, Alphas(path, metadata))
    changes = {stem: builder.change(stem, group) for stem, group in found.groups.items()}
    made = {stem: change for stem, change in changes.items() if change is not None}
    lone = [k for s in changes if s not in made for k in found.keys[s].values()]
    report = _report(path, made, found.form, builder)
    report.unused = [*found.unknown, *lone]
    if not made:
        raise UserError(f"LoRA {str(path)!r} changes no layer; expected pairs of tensors; {AGAIN}")
    lora = LoRA(path, made, found.keys, report, metadata)
    if model is not None:
        lora.place(model)
    return lora


def _file(path: Path) -> Path:
    """Return the LoRA in a folder; any other path as it is."""
    names = (path / f"{name}{end}" for name in IN_FOLDERS for end in (".safetensors", ".bin"))
    return next((each for each in names if is_file(each)), path) if is_folder(path) else path


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if identify(path) != "safetensors":
        file = torch_file(path)
        if isinstance(file.content, (list, tuple)):
            content = plain_content(file)
            if not content or not all(isinstance(value, Tensor) for value in content):
                raise _malformed(path, "its list holds more than tensors", "up, down, up, down")
            return of_list([value.detach() for value in content]), {}
    checkpoint = read_checkpoint(path)
    return checkpoint.tensors, checkpoint.metadata


class _Builder:
    """Makes changes of tensors, and takes note of what the report says about all of them."""

    def __init__(self, path: Path, alphas: Alphas) -> None:
        self._path, self._alphas = path, alphas
        self.ranks: set[int] = set()
        self.alphas: set[float] = set()

    def change(self, stem: str, group: Group) -> Change | None:
        """Return what a layer's tensors do; None for an alpha alone.

        Raises:
            UserError: The tensors do not go together.
        """
        if set(group) <= {"alpha"}:
            return None
        for role, value in group.items():
            self._check_numbers(stem, role, value)
        bias = group.get("diff_b")
        magnitude = self._magnitude(group)
        rest = {
            role: value
            for role, value in group.items()
            if role not in ("alpha", "diff_b", "dora_scale", "magnitude")
        }
        if not rest:
            if bias is None:
                raise self._wrong(stem, "has the length of a weight and no direction", "a LoRA")
            return Change(None, bias)
        delta = self._delta(stem, rest, group.get("alpha"))
        return Change(delta if magnitude is None else Decomposed(delta, magnitude), bias)

    def _delta(self, stem: str, tensors: Group, alpha: Tensor | None) -> Delta:
        kind = next((kind for kind in KINDS if frozenset(tensors) in kind.roles), None)
        if kind is None:
            parts = ", ".join(sorted(tensors))
            raise self._wrong(stem, f"has only {parts}", "a whole set, such as down and up")
        delta = kind(tensors)
        try:
            size = delta.size()
        except (RuntimeError, ValueError, IndexError) as error:
            shapes = ", ".join(f"{role} {tuple(v.shape)}" for role, v in tensors.items())
            raise self._wrong(stem, f"has shapes that disagree: {shapes}", "one rank") from error
        if size == 0 or delta.rank == 0:
            raise self._wrong(stem, "has rank 0", "a rank of 1 or more")
        delta.factor = self._factor(stem, delta, alpha)
        return delta

    def _factor(self, stem: str, delta: Delta, alpha: Tensor | None) -> float:
        if alpha is not None and alpha.numel() != 1:
            raise self._wrong(stem, f"has an alpha of shape {tuple(alpha.shape)}", "one number")
        if delta.rank is None:
            return 1.0
        self.ranks.add(delta.rank)
        given = None if alpha is None else float(alpha)
        value, factor = self._alphas.of(stem, delta.rank, given)
        self.alphas.add(value)
        return factor

    def _magnitude(self, group: Group) -> Tensor | None:
        if "magnitude" in group:
            return group["magnitude"].flatten()
        return group.get("dora_scale")

    def _check_numbers(self, stem: str, role: str, value: Tensor) -> None:
        if role in ("alpha", "on_input") and value.numel() == 1 and not value.is_floating_point():
            return
        if not value.is_floating_point():
            raise self._wrong(stem, f"has a {role} of {value.dtype}", "floating point numbers")
        if not bool(torch.isfinite(value).all()):
            raise self._wrong(stem, f"has NaN or infinity in its {role}", "finite numbers")

    def _wrong(self, stem: str, what: str, expected: str) -> UserError:
        return _malformed(self._path, f"{quoted(stem)} {what}", expected)


def _malformed(path: Path, what: str, expected: str) -> UserError:
    return UserError(f"LoRA {str(path)!r}: {what}; expected {expected}; {AGAIN}")


def _report(path: Path, changes: Mapping[str, Change], form: str, builder: _Builder) -> Report:
    kinds: dict[str, None] = {}
    for delta, _ in changes.values():
        if delta is not None:
            kinds |= {delta.kind: None}
    return Report(
        path,
        " and ".join(kinds) or "full",
        form,
        base=_base(changes),
        modules=len(changes),
        ranks=sorted(builder.ranks),
        alphas=sorted(builder.alphas),
    )


def _base(changes: Mapping[str, Change]) -> str:
    """Tell from the width of the contexts, else of the text encoder, what a file is made for."""
    names = {stem: flattened(stem) for stem in changes}
    for endings in (("attn2_to_k", "attn2_to_v"), ("q_proj", "k_proj", "v_proj", "fc1")):
        for stem, name in names.items():
            if name.endswith(endings) and (width := _width(changes[stem].delta)):
                return base_of_width(width)
    return _numbered_base(changes)


def _numbered_base(changes: Mapping[str, Change]) -> str:
    stems = [stem for stem in changes if is_numbered(stem)]
    widths = [_width(changes[stem].delta) for stem in stems]
    known: Sequence[int] = [width for width in widths if width in (768, 1024, 2048)]
    return base_of_width(known[0]) if known else "unknown"


def _width(delta: Delta | None) -> int | None:
    """Return how many inputs a delta's weight has; None where that is not told by its tensors."""
    inner = delta.inner if isinstance(delta, Decomposed) else delta
    t = {} if inner is None else inner.tensors
    for role in ("down", "hada_w1_b", "diff"):
        if role in t and t[role].ndim > 1:
            return t[role].shape[1]
    if any(role.startswith("lokr") for role in t):
        made = {name: value.to("meta") for name, value in t.items()}
        return inner._product(made).shape[1]
    return None
