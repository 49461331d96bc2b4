"""Take out of a phrase what is said to whoever draws.

Japanese 〜を描いてください, 〜です, お願いします; Chinese 請幫我畫〜, 謝謝.
"""

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


_MAKE = "(?:畫|画|繪製|绘制|繪|绘|生成|製作|制作|做|設計|设计|產生|产生)"
_NUMBERS = "[一二兩两三四五六七八九十幾几0-9]"
_ASKED = re.compile(
    "(?:你好|您好|嗨|哈囉|麻煩你?|麻烦你?|拜託你?|拜托你?|[你您](?:可以|能)|[請请](?![柬帖客])"
    "|(?:可以|可不可以|能不能)(?=[請请幫帮給给畫画])"
    f"|我(?:想要|想|要)(?:看|{_MAKE})?|(?:想要|要)(?={_NUMBERS}|{_MAKE})"
    f"|[幫帮給给為为]我們?(?:看)?|{_MAKE}(?:出|個|个|一下)?(?={_NUMBERS})"
    # Behind 請 and 幫我, what is to be done needs no number.
    f"|(?<=[請请我])(?:{_MAKE}|來|来)(?:出|一下)?)"
)
_THANKS = re.compile(
    "(?:(?:謝謝|谢谢|感謝|感谢|拜託|拜托|麻煩|麻烦)[你您了]?|好嗎|好吗|(?<![酒網网])吧|嗎|吗|喔|哦|呢)$"
)


def plainly_chinese(phrase: str) -> str:
    """Return a Chinese phrase without politeness at its ends.

    Example:
        >>> [plainly_chinese(text) for text in ("請幫我畫一隻貓", "畫畫的女孩", "謝謝")]
        ['一隻貓', '畫畫的女孩', '']
    """
    at = 0
    while found := _ASKED.match(phrase, at):
        at = found.end()
    phrase = phrase[at:]
    while (shorter := _THANKS.sub("", phrase)) != phrase:
        phrase = shorter
    return phrase
