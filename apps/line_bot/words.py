"""What a message asks for, read from its words: a command, a task, or why it cannot be done.

    "猫が二匹、4枚、縦、seed 7"
        -> Ask("draw", Task("猫が二匹", count=4, seed=7, shape="portrait"))

A text is cut into parts at commas and line breaks. A part that is a setting as a whole is taken
out; so are counts and seeds that cannot be meant otherwise, flags anywhere, and what is said to the
bot rather than of the picture ("please draw", 描いてください). All else is what to draw, word for
word: "a portrait of my cat" is no setting.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import parse_qsl

from apps.line_bot.jobs import Task
from apps.line_bot.refused import Refused
from apps.line_bot.texts import STYLES
from ldm.legible import legible
from ldm.translation.detect import language_of
from ldm.translation.politeness import plainly, plainly_chinese

Kind = Literal["draw", "cancel", "help", "recipe", "clear"]
LONGEST = 5000  # letters of a message that LINE sends
HIGHEST_SEED = 2**63 - 1  # with room for the pictures that follow, whose seeds count up
COMMANDS: dict[str, Kind] = {
    **dict.fromkeys(
        ("取消", "取り消し", "取消し", "キャンセル", "cancel", "stop", "やめる"), "cancel"
    ),
    **dict.fromkeys(("やめて", "停止", "取消繪圖", "中止"), "cancel"),
    **dict.fromkeys(
        ("help", "ヘルプ", "使い方", "つかいかた", "說明", "説明", "幫助", "?"), "help"
    ),
    **dict.fromkeys(("recipe", "レシピ", "配方", "作り方", "做法"), "recipe"),
}
SHAPES = {
    **dict.fromkeys(("縦", "縦長", "縦向き", "直", "直式", "直向", "portrait", "tall"), "portrait"),
    **dict.fromkeys(
        ("横", "横長", "横向き", "橫", "橫式", "橫向", "landscape", "wide"), "landscape"
    ),
    **dict.fromkeys(("正方形", "四角", "方形", "square"), "square"),
}
_DIGITS = {"一": 1, "二": 2, "兩": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
_NUMBER = rf"(?P<n>\d{{1,12}}|[{''.join(_DIGITS)}十])"
_COUNTED = r"(?:pictures?|images?|pics?|drawings?)"
_COUNTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{_NUMBER}\s*(?:枚|張|张)(?:の|的|を)?\s*",
        rf"\s*(?:を|に)?\s*{_NUMBER}\s*(?:枚|張|张)(?:で)?$",
        rf"^(?P<n>\d{{1,12}})\s*{_COUNTED}\b\s*(?:of\s+)?",
        rf"\s+(?P<n>\d{{1,12}})\s*{_COUNTED}$",
    )
)
_SEED = re.compile(r"(?:^|\s)(?:seed|シード|種子)\s*[:=]?\s*(?P<n>\d{1,30})(?=\s|$)", re.IGNORECASE)
_FLAG = re.compile(
    r"(?:^|(?<=\s))--(?P<name>[A-Za-z][\w-]{0,30})(?:[ =]+(?P<value>[^\s,、，]{1,40}))?"
)
_FLAGS = {
    "steps": "steps",
    "ddim_steps": "steps",
    "seed": "seed",
    "scale": "scale",
    "n": "count",
    "n_samples": "count",
}
# What is said to whoever draws in English, and who knows what else is said.
_ASKED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^(?:(?:can|could|would) you )?(?:please )?(?:draw|paint|make|create|generate) (?:me )?"
        r"(?=(?:an?|the|some|my|two|three|four|\d+)\b)",
        r"[ ,]*\bplease[.!?]*$",
    )
)
_POLITE = {"ja": plainly, "zh": plainly_chinese}
_PARTS = re.compile(r"\s*(?:[、。;；\n]|,(?!\d{3}(?!\d)))+\s*")  # 5,000 is one number


@dataclass(frozen=True)
class Limits:
    """How much one message may ask for."""

    pictures: int = 4
    steps: int = 100
    prompt: int = 1000

    def bounds(self, name: str) -> tuple[float, float]:
        """Return the lowest and highest value of a setting."""
        high = {"count": self.pictures, "steps": self.steps, "seed": HIGHEST_SEED, "scale": 30}
        return (0 if name == "seed" else 1), high[name]


@dataclass(frozen=True)
class Ask:
    """What a message asks for.

    Attributes:
        kind: ``draw``, a command, or ``clear``: it cannot be done, and ``key`` says why.
        task: What to draw.
        key: The sentence of ``texts.TABLE``.
        filled: What stands in its braces.
    """

    kind: Kind
    task: Task | None = None
    key: str = ""
    filled: dict[str, Any] = field(default_factory=dict)


class Unclear(ValueError):
    """A message asks for what cannot be done; the sentence says so."""

    def __init__(self, key: str, **filled: object) -> None:
        super().__init__(key)
        self.key, self.filled = key, filled


def read_text(text: str, limits: Limits, refused: Refused) -> Ask:
    """Read what a text asks for; any text gives one answer.

    Args:
        text: What the user wrote, without mentions.
        limits: How much may be asked for.
        refused: Words that are not drawn.
    """
    plain = _plain(text[: LONGEST + 1])
    command = COMMANDS.get(plain.strip(" !！。.？").casefold() or plain)
    if command:
        return Ask(command)
    try:
        return Ask("draw", _task(plain, limits, refused))
    except Unclear as unclear:
        return Ask("clear", key=unclear.key, filled=unclear.filled)


def read_button(data: str) -> tuple[str, str, str]:
    """Read what a pressed button carries: action, job and style; empty where that is missing."""
    if len(data) > 300:
        return "", "", ""
    values = dict(parse_qsl(data))
    action, job, style = (values.get(key, "") for key in ("do", "job", "style"))
    known = action in ("again", "variation", "larger", "style", "stop")
    known = known and re.fullmatch(r"[0-9a-f]{32}|", job) is not None
    return (action, job, style) if known and style in ("", *STYLES) else ("", "", "")


def _plain(text: str) -> str:
    """Return a text without characters that act: width made even, controls and marks left out."""
    even = unicodedata.normalize("NFKC", text)
    kept = (
        " " if c in "\t\r\v\f\x85\u2028\u2029" else c for c in even if c in "\t\r\n" or _shown(c)
    )
    return "".join(kept).strip()


def _shown(character: str) -> bool:
    joins = character in "\u200d\ufe0f"  # emoji are made with these
    return joins or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def _task(plain: str, limits: Limits, refused: Refused) -> Task:
    rest, found = _without_flags(plain, limits)
    parts = []
    for part in _PARTS.split(rest):
        left = _take_settings(part.strip(), found)
        parts += [left] if left else []
    for name, number in found.items():
        low, high = limits.bounds(name) if name != "shape" else (0, 0)
        if name != "shape" and not low <= number <= high:
            raise Unclear("range", name=name, given=legible(f"{number:g}"), low=low, high=high)
    prompt = ", ".join(parts)
    if len(prompt) > limits.prompt:
        raise Unclear("too_long", given=len(prompt), most=limits.prompt)
    if not any(unicodedata.category(c)[0] in "LNS" for c in prompt):
        raise Unclear("empty")
    if refused.finds(prompt):
        raise Unclear("refused")
    return replace(Task(prompt), **found)


def _without_flags(plain: str, limits: Limits) -> tuple[str, dict[str, Any]]:
    found: dict[str, Any] = {}
    for match in _FLAG.finditer(plain):
        name = _FLAGS.get(match["name"].lower())
        if name is None:
            raise Unclear("unknown_flag", given=legible(f"--{match['name']}"))
        found[name] = _number(name, match["value"] or "", limits)
    return _FLAG.sub(" ", plain), found


def _number(name: str, text: str, limits: Limits) -> float:
    pattern = r"\d{1,6}(\.\d{1,6})?" if name == "scale" else r"\d{1,30}"
    if not re.fullmatch(pattern, text, re.ASCII):
        low, high = limits.bounds(name)
        raise Unclear("range", name=name, given=legible(text, 60) or "-", low=low, high=high)
    return float(text) if name == "scale" else int(text)


def _take_settings(part: str, found: dict[str, Any]) -> str:
    """Take settings and politeness out of a part; return what is left of it."""
    part = _plainly(part)
    if match := _SEED.search(part):
        found["seed"] = int(match["n"])
        part = (part[: match.start()] + " " + part[match.end() :]).strip()
    for pattern in _COUNTS:
        if match := pattern.search(part):
            found["count"] = _counted(match["n"])
            part = (part[: match.start()] + part[match.end() :]).strip()
            break
    tokens = part.split()
    if part.casefold() in SHAPES:
        found["shape"] = SHAPES[part.casefold()]
        return ""
    # One word of a sentence may be meant otherwise, but no Latin sentence has a lone "縦".
    for end in (-1, 0):
        if len(tokens) > 1 and not tokens[end].isascii() and tokens[end] in SHAPES:
            found["shape"] = SHAPES[tokens.pop(end)]
            return " ".join(tokens)
    return " ".join(tokens)


def _plainly(part: str) -> str:
    """Return a part of a text without what is said to the bot."""
    for pattern in _ASKED:
        part = pattern.sub("", part).strip()
    polite = _POLITE.get(language_of(part))
    return polite(part).strip() if polite else part


def _counted(text: str) -> int:
    return _DIGITS[text] if text in _DIGITS else 10 if text == "十" else int(text)
