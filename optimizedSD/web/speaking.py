"""What a page says of a run, in its own words: messages, notices, and how far it is.

The library's messages name settings by their flags; visitors know them by the labels of controls.
Imports neither gradio nor torch.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from ldm.pipelines.progress import Notice
from optimizedSD.web.fields import Field, with_labels
from optimizedSD.web.setting_words import LANGUAGES
from optimizedSD.web.state import RunState
from optimizedSD.web.words import said

MOST_READERS = 500  # visitors of whom is known which notices they have read
_UPLOADED = re.compile(r"\S*[\\/][0-9a-f]{64}\.[a-z]{3,4}\b")
# The folders of an absolute path: visitors need not know where things lie on the server.
# What only whoever runs the server can do about it.
_COMMAND = re.compile(r"[;:,.]?\s*(?:[Tt]o get it: |run )?`?python scripts/\S+(?: [\w.-]+)*`?")
_FOLDERS = re.compile(r"(?<![\w.:/\\~-])(?:[A-Za-z]:)?[\\/](?:[^\s\\/'\"<>|]+[\\/])+")


class Speaker:
    """Says what the library says in the words of a page.

    Args:
        fields: The page's controls.

    Attributes:
        labels: What controls are called, by language and flag.
        values: What the controls call their values, by language and flag.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self.labels = {
            language: {field.option.flag: field.called(language) for field in fields}
            for language in LANGUAGES
        }
        self.values = {
            language: {
                field.option.flag: {value: text for text, value in field.choices(language)}
                for field in fields
                if field.kind == "choice"
            }
            for language in LANGUAGES
        }
        self._read_notices: dict[str, frozenset[str]] = {}

    def said(self, text: str, language: str) -> str:
        """Put a message into the page's words.

        Args:
            text: The library's.
            language: The visitor's, one of ``LANGUAGES``.
        """
        text = _FOLDERS.sub("", _UPLOADED.sub("that was uploaded", _COMMAND.sub("", text)))
        return with_labels(text, self.labels[language], self.values[language])

    def notices(self, state: RunState, visitor: str) -> str:
        """Return a run's notices as HTML; those that the visitor has read before are folded."""
        read = self._read_notices.get(visitor, frozenset())
        items = [(each.text in read, self._item(each, state)) for each in state.notices]
        if state.over:
            self._read_notices.pop(visitor, None)
            self._read_notices[visitor] = read | {each.text for each in state.notices}
            while len(self._read_notices) > MOST_READERS:
                self._read_notices.pop(next(iter(self._read_notices)))
        fresh, known = ([text for old, text in items if old is which] for which in (False, True))
        listed = f"<ul>{''.join(fresh)}</ul>" if fresh else ""
        if not known:
            return listed
        summary = said("as_before", state.language, count=len(known))
        return f"{listed}<details><summary>{summary}</summary><ul>{''.join(known)}</ul></details>"

    def _item(self, notice: Notice, state: RunState) -> str:
        kind = "warning" if notice.warning else "note"
        return f'<li class="{kind}">{html.escape(self.said(notice.text, state.language))}</li>'


def bar(state: RunState) -> str:
    """Return how far a run is as HTML: a bar, a sentence, and what is being drawn."""
    text = html.escape(state.status)
    done = (
        f'<div class="bar" role="progressbar" aria-label="{text}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{state.fraction * 100:.0f}">'
        f'<div style="width: {state.fraction:.0%}"></div></div><div role="status">{text}</div>'
    )
    if not state.preview:
        return done
    alt = html.escape(said("preview", state.language))
    return f'{done}<img class="preview" src="{state.preview}" alt="{alt}">'
