"""Words of a prompt that a model never learned, where its YAML lists those that it did. No torch.

A small model draws something for any word; without a notice nobody could tell that it is chance.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ldm.legible import legible
from ldm.pipelines.progress import Notice

if TYPE_CHECKING:
    from ldm.pipelines.models import ModelChoice
    from ldm.pipelines.request import Request

_SHOWN = 20  # words that one notice names
_WITHOUT_SPACES = r"[\u3040-\u30ff\u3400-\u9fff\uff66-\uff9d々]+"  # Japanese and Chinese
_WORD = re.compile(rf"{_WITHOUT_SPACES}|(?:(?!{_WITHOUT_SPACES})[^\W\d_])[\w'’-]*")
_PARTICLES = "のをにはがとでもへや"
# What is no word: tags of files, and in each grammar what belongs to it.
_GRAMMAR = {
    "compvis": r"<[^<>]*>",
    "a1111": r"<[^<>]*>|\bBREAK\b|\bAND\b",
    "compel": r"withLora\([^)]*\)|\.\w+\(",
}


def unknown_words(choice: ModelChoice, prompt: str, syntax: str = "compvis") -> list[str]:
    """Return the words of a prompt that a model does not know, in its order, each once.

    Numbers and signs are no words. Nothing is returned for a model that does not list its words.

    Args:
        choice: The model.
        prompt: As it is encoded.
        syntax: What the prompt is read as, one of ``--prompt_syntax``.
    """
    return unlisted_words(choice.knows, prompt, syntax)


def unlisted_words(knows: Sequence[str], prompt: str, syntax: str = "compvis") -> list[str]:
    """Return the words of a prompt that are not on a model's list; of an empty list, none.

    Args:
        knows: The list, as in the model's YAML.
        prompt: As it is encoded.
        syntax: What the prompt is read as, one of ``--prompt_syntax``.
    """
    if not knows:
        return []
    known = {tuple(each.lower().split()) for each in knows}
    text = re.sub(_GRAMMAR[syntax], " ", prompt)
    return list(dict.fromkeys(_unknown(_WORD.findall(text), known)))


def notices_on_words(request: Request) -> Iterator[Notice]:
    """Say which words of a run's prompts the model does not know, and that a prompt is empty.

    Words that an attached embedding stands for are known; a LoRA may have taught any, so nothing
    is said beside one.

    Args:
        request: What is drawn.
    """
    settings, plan = request.settings, request.adapters
    if not request.choice.kind.takes_text:
        return
    edits = settings.drawn_prompts if settings.task == "edit" else ()
    drawn = dict.fromkeys([*request.prompts, *edits])
    if not all(text.strip() for text in drawn) and not (plan and plan.controls):
        yield Notice(EMPTY, warning=True)
    if plan is not None and (plan.loras or plan.tagged):
        return
    taught = _taught(request)
    texts = dict.fromkeys([*drawn, *request.negative_prompts])
    found = (unknown_words(request.choice, each, settings.prompt_syntax) for each in texts)
    words = dict.fromkeys(w for each in found for w in each if w.lower() not in taught)
    yield from notices_on_unknown(words)


def notices_on_unknown(words: Collection[str]) -> Iterator[Notice]:
    """Say in one notice that a model does not know words; nothing if there are none."""
    if words:
        text = f"the model does not know: {_listed(words)}; what they do is chance"
        yield Notice(text, warning=True, unknown=tuple(words))


EMPTY = "the prompt is empty: what is drawn is left to the model"


def _taught(request: Request) -> Collection[str]:
    """Return words that embeddings stand for, which are attached: their files' names."""
    if request.adapters is None:
        return ()
    return {each.path.stem.lower() for each in request.adapters.embeddings}


def _unknown(words: Sequence[str], known: Collection[tuple[str, ...]]) -> Iterator[str]:
    """Yield what is not known; of two known words that begin alike the longer one counts."""
    longest = max(map(len, known))
    at = 0
    while at < len(words):
        if re.fullmatch(_WITHOUT_SPACES, words[at]):
            yield from _unknown_pieces(words[at], [each[0] for each in known])
            at += 1
            continue
        counts = range(min(longest, len(words) - at), 0, -1)
        taken = (n for n in counts if tuple(w.lower() for w in words[at : at + n]) in known)
        count = next(taken, 0)
        if not count:
            yield words[at]
        at += count or 1


def _unknown_pieces(run: str, known: Iterable[str]) -> Iterator[str]:
    """Yield what is left of a run without spaces when all known pieces are taken out of it."""
    pieces = sorted(known, key=len, reverse=True)
    for left in re.split("|".join(map(re.escape, pieces)), run):
        if word := left.strip(_PARTICLES):
            yield word


def _listed(words: Collection[str]) -> str:
    shown = ", ".join(legible(word, 40) for word in list(words)[:_SHOWN])
    return f"{shown} and {len(words) - _SHOWN} more" if len(words) > _SHOWN else shown
