"""What a user of `scripts/feedback.py` can choose. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ldm.errors import UserError
from ldm.settings.option import Settings, option

THUMBS = {"up": 1, "down": -1, "none": 0}


@dataclass(frozen=True, kw_only=True)
class FeedbackSettings(Settings):
    """Settings of ``scripts/feedback.py``: judge pictures, and export what was judged.

    Example:
        >>> FeedbackSettings(csv="table.csv").min_stars
        4
    """

    program: ClassVar[str] = "feedback"

    pictures: tuple[str, ...] = option(
        (), "pictures to judge", str, positional=True, several="*", metavar="FILE"
    )
    db: str = option("outputs/feedback.sqlite", "the file of opinions", metavar="FILE")
    thumb: str | None = option(
        None, "judge the pictures: up, down, or none to take it back", str, choices=tuple(THUMBS)
    )
    stars: int | None = option(
        None, "judge the pictures: 1 to 5, or 0 to take it back", int, minimum=0, maximum=5
    )
    note: str | None = option(None, "what to say about the pictures", str)
    person: str = option("", "who judges")
    csv: str | None = option(
        None,
        "write all opinions to this table, in place of an older one",
        str,
        metavar="FILE",
        pattern=r"(?i).+\.csv",
        words="a file name that ends in .csv",
    )
    folder: str | None = option(
        None,
        "copy the good pictures to this new folder, each with its prompt in a text file, for "
        "main.py to train on",
        str,
        metavar="FOLDER",
    )
    min_stars: int = option(
        4, "how many stars are good, where there is no thumb", minimum=1, maximum=5
    )

    def validate(self) -> None:
        """Check each value, and that there is something to do.

        Raises:
            UserError: naming the flag and what to do.
        """
        super().validate()
        judged = {"--thumb": self.thumb, "--stars": self.stars, "--note": self.note}
        given = [flag for flag, value in judged.items() if value is not None]
        if given and not self.pictures:
            raise UserError(
                f"{given[0]} was given without pictures; expected the files to judge; add them"
            )
        if self.pictures and not given:
            raise UserError(
                f"{self.pictures[0]} was given without a judgement; expected --thumb, --stars or "
                "--note; add one"
            )
        if not (self.pictures or self.csv or self.folder):
            raise UserError(
                "nothing was asked for; expected pictures to judge, --csv FILE or --folder FOLDER; "
                "add one"
            )
