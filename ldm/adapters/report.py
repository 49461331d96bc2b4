"""What was found in an adapter's file: its format, what it is made for, what is not used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.legible import quoted

NAMED = 12
"""Keys that a message names, at most; all are in the report."""
CONTEXT_WIDTHS = {768: "v1", 1024: "v2", 2048: "SDXL"}


@dataclass
class Report:
    """What a file is, and what became of it.

    Attributes:
        path: The file.
        kind: Such as ``LoRA``.
        form: Whose layout it has, such as ``kohya``.
        base: The family of models that it is made for: v1, v2, SDXL, or a width in words.
        modules: How many modules it changes.
        ranks: Its ranks, smallest first.
        alphas: Its alphas, smallest first.
        unused: Keys that nothing was made of, by name.
        notes: Further things to say, one sentence each.
        extent: How much it holds where that is no number of modules, such as ``4 vectors``.
    """

    path: Path
    kind: str
    form: str
    base: str = "unknown"
    modules: int = 0
    ranks: Sequence[int] = ()
    alphas: Sequence[float] = ()
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extent: str = ""

    def summary(self) -> str:
        """Return one line about the file."""
        words = [f"{self.kind} {self.path.name!r}", f"{self.form} format", f"made for {self.base}"]
        if self.ranks:
            words.append(f"rank {_span(self.ranks)}")
        if self.alphas:
            words.append(f"alpha {_span(self.alphas)}")
        if self.modules:
            words.append(f"{self.modules} modules")
        if self.extent:
            words.append(self.extent)
        return ", ".join(words)

    def warnings(self) -> list[str]:
        """Return what the user should know, one line each."""
        found = list(self.notes)
        if self.unused:
            named = ", ".join(quoted(key) for key in self.unused[:NAMED])
            more = f" and {len(self.unused) - NAMED} more" if len(self.unused) > NAMED else ""
            found.append(f"{self.path.name}: {len(self.unused)} keys are not used: {named}{more}")
        return found


def base_of_width(width: int) -> str:
    """Return which family of models has contexts of this width."""
    return CONTEXT_WIDTHS.get(width, f"models of context width {width}")


def base_of_model(model: Any) -> str:
    """Return which family of models a hub belongs to, by the width of its context."""
    from ldm.modules.attention import CrossAttention

    blocks = [m for n, m in model.named_modules() if n.endswith("attn2")]
    own = [m.to_k.in_features for m in blocks if isinstance(m, CrossAttention)]
    return base_of_width(own[0]) if own else "models without a context"


def wrong_base(path: Path, kind: str, made_for: str, model: Any) -> UserError:
    """Return the error that says that a file is made for other models than the one given."""
    return UserError(
        f"{kind} {str(path)!r} is made for {made_for}; the model is one of "
        f"{base_of_model(model)}; give a file that was made for it, or another --ckpt"
    )


def _span(numbers: Sequence[float]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
