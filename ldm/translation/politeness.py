"""Take out of a phrase what is said to whoever draws: 〜を描いてください, 〜です, お願いします."""

from __future__ import annotations

import re

_DRAW = "(?:描い|かい|書い|えがい|作っ|つくっ|生成し|作成し|出力し|表示し|見せ|みせ|描写し)て"
_PLEASE = (
    "(?:ください|下さい|くださいませんか|くださいますか|ほしい|欲しい|くれる|くれますか|くれませんか"
    "|くれない|もらえる|もらえますか|もらえませんか|いただけますか|いただけませんか|頂けますか|頂戴"
    "|ちょうだい|みて)"
)
_BEG = "(?:お願い|おねがい)(?:(?:いた|致)?し(?:ます)?)?"
_BE = "(?:です|でした|でしょう|であります|である|だよ|だね)"
_END = re.compile(
    rf"(?:(?:を|は|が|も)?{_DRAW}{_PLEASE}?|(?:を|が)?(?:{_PLEASE}|{_BEG})|[をが](?:見|描き|作り)たい"
    rf"|{_BE})(?:です|ます)?(?:か|ね|よ|な)?$"
)
_BEGINNING = re.compile("^(?:どうか|どうぞ|ぜひ|是非|できれば|すみません(?:が)?|こんにちは)")


def plainly(phrase: str) -> str:
    """Return a phrase without politeness at its ends.

    Example:
        >>> plainly("猫の絵を描いてください"), plainly("猫でお願いします"), plainly("犬です")
        ('猫の絵', '猫で', '犬')
    """
    phrase = _BEGINNING.sub("", phrase)
    while (shorter := _END.sub("", phrase)) != phrase:
        phrase = shorter
    return phrase
