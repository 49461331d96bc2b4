"""All that the studio says, in English, Japanese and Traditional Chinese: one table.

What stands on the page is looked up in the browser (gradio's ``I18n``), by its language; what
a job says while it goes on is looked up here, by the request's ``Accept-Language``. What the studio
has in common with the other pages is in ``optimizedSD.web.words``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from apps.studio.control_words import CONTROL_WORDS
from apps.studio.lessons import LESSONS
from apps.studio.phrases import PHRASES
from optimizedSD.web.setting_words import LANGUAGES, SETTING_WORDS
from optimizedSD.web.words import TEXTS
from optimizedSD.web.words import translations as locales

if TYPE_CHECKING:
    from gradio import I18n

# Key -> the three languages, in the order of LANGUAGES; {names} are filled in.
TABLE: Mapping[str, tuple[str, str, str]] = {
    **PHRASES,
    **CONTROL_WORDS,
    **{f"lesson_{each.name}": each.titles for each in LESSONS.values()},
    **{f"lesson_{each.name}_text": each.texts for each in LESSONS.values()},
    # The tabs.
    "text": ("Text", "テキスト", "文字"),
    "image": ("Image", "画像", "圖片"),
    "repaint": ("Repaint", "描き直し", "重繪"),
    "edit": ("Edit", "編集", "編輯"),
    "enlarge": ("Enlarge", "拡大", "放大"),
    "sweep": ("Sweep", "比較表", "比較表"),
    "learn": ("Learn", "学ぶ", "學習"),
    "gallery": ("Gallery", "ギャラリー", "圖庫"),
    # What each tab is for.
    "text_hint": (
        "Describe a picture. Ctrl+Enter draws.",
        "描きたい絵をことばで書いてください。Ctrl+Enter で描きます。",
        "用文字描述想畫的圖。按 Ctrl+Enter 開始畫。",
    ),
    "image_hint": (
        "Give a picture, and say what it should become.",
        "元の絵と、何にしたいかを入れてください。",
        "放一張圖，再寫想把它變成什麼。",
    ),
    "repaint_hint": (
        "Paint over what should be drawn anew. All else stays as it is, to the last pixel.",
        "描き直す所を塗ってください。ほかの所は 1 ピクセルも変わりません。",
        "塗出要重畫的部分；其餘每個像素都不變。",
    ),
    "edit_hint": (
        "Describe a picture, then change words: what both have in common stays where it is.",
        "絵を説明してから、ことばを変えてください。共通する所は同じ場所に残ります。",
        "先描述一張圖，再改其中的詞；相同的部分會留在原處。",
    ),
    "enlarge_hint": (
        "Make a picture larger.",
        "絵を大きくします。",
        "把圖片放大。",
    ),
    # Buttons.
    "enlarge_it": ("Enlarge", "拡大する", "開始放大"),
    "swap": ("⇄ Swap sides", "⇄ 縦横を入れ替え", "⇄ 交換寬高"),
    "dice": ("🎲 Random", "🎲 ランダム", "🎲 隨機"),
    "reuse": ("♻ Reuse", "♻ 再利用", "♻ 沿用"),
    "send_to": ("Send the picture to", "この絵を送る", "把這張圖送到"),
    # Pictures that are given.
    "paint_over": (
        "Picture; paint over what to draw anew",
        "元の絵：描き直す所を塗ってください",
        "圖片：塗出要重畫的部分",
    ),
    "only_masked": (
        "Draw only the area around the mask",
        "マスクのまわりだけを描く",
        "只畫遮罩周圍",
    ),
    "only_masked_info": (
        "at the model's own size, laid back into the picture, which keeps its size",
        "モデル本来の大きさで描いて元の絵に戻します。絵の大きさは変わりません",
        "以模型原本的尺寸繪製後放回原圖，圖的尺寸不變",
    ),
    "padding": (
        "Pixels around the mask that it sees",
        "マスクの外側で参考にするピクセル数",
        "遮罩外供參考的像素",
    ),
    "outpaint": ("Draw on around the picture", "絵の外側を描き足す", "向圖外延伸"),
    "margin_left": ("to the left", "左", "左"),
    "margin_top": ("above", "上", "上"),
    "margin_right": ("to the right", "右", "右"),
    "margin_bottom": ("below", "下", "下"),
    "make_mask": ("Make a mask", "マスクを作る", "製作遮罩"),
    "mask_of": ("It marks", "マスクする所", "要標出的部分"),
    "mask_subject": ("what the picture is of", "写っているもの", "主體"),
    "mask_background": ("the background", "背景", "背景"),
    "mask_colour": ("a colour", "色", "顏色"),
    "mask_words": ("what words name", "ことばで言うもの", "文字所指的東西"),
    "mask_typed": ("Colour or words", "色またはことば", "顏色或文字"),
    "mask_typed_info": (
        "for a colour: red, or #ff0000; for words: shirt, hat",
        "色なら red や #ff0000、ことばなら shirt, hat",
        "顏色如 red 或 #ff0000；文字如 shirt, hat",
    ),
    # Controls.
    "weights": ("Weights of words", "ことばの重み", "詞的權重"),
    "method": ("Method", "方法", "方法"),
    "by_tiles": (
        "Drawn anew in tiles by this model",
        "このモデルでタイルごとに描き足す",
        "由本模型分塊重繪",
    ),
    "by_lanczos": ("Resampled (Lanczos)", "補間（Lanczos）", "重新取樣（Lanczos）"),
    "hires_upscaler": (
        "How the first of two passes is enlarged",
        "二度描きの一度目の拡大方法",
        "兩階段繪圖時的放大方式",
    ),
    "restore_faces": ("Redraw faces", "顔を描き直す", "重繪臉部"),
    "styles": ("Styles", "スタイル", "風格"),
    "wildcards": ("Wildcards", "ワイルドカード", "萬用字元"),
    "wildcards_info": (
        "a list's name between double underscores becomes one of its lines, `{a|b}` one of two: "
        "other words for every picture",
        "二重下線で囲んだリスト名はその 1 行に、`{a|b}` はどちらかに。絵ごとに変わります",
        "前後各加兩個底線的清單名稱換成其中一行，`{a|b}` 任選其一：每張圖的字都不同",
    ),
    "wildcard_lists": ("Lists", "リスト", "清單"),
    "wildcard_lists_info": (
        "a name that is chosen goes into the prompt",
        "選んだ名前がプロンプトに入ります",
        "選取的名稱會加入提示詞",
    ),
    "preset": ("Size", "サイズ", "尺寸"),
    # What was drawn.
    "pictures": ("Pictures, the newest first", "描いた絵（新しい順）", "畫好的圖（新的在前）"),
    "used": ("Seed of this picture", "この絵のシード", "這張圖的種子"),
    "recipe": ("Recipe of this picture", "この絵の作り方", "這張圖的配方"),
    "tokens": ("{used} of {room} tokens", "{used} / {room} トークン", "{used} / {room} 個詞元"),
}


def say(language: str, key: str, **values: Any) -> str:
    """Return what a key says in a language.

    Args:
        language: One of ``LANGUAGES``.
        key: Of ``known``.
        **values: What its {names} stand for.

    Example:
        >>> say("ja", "tokens", used=3, room=75), say("en", "seed")
        ('3 / 75 トークン', 'Seed')
    """
    return known()[key][LANGUAGES.index(language)].format(**values)


def count(language: str, pictures: int) -> str:
    """Return a number of pictures in words."""
    return say(language, "picture_count" if pictures == 1 else "picture_counts", count=pictures)


@cache
def known() -> Mapping[str, tuple[str, str, str]]:
    """Return all words by key: the studio's, and those that it shares with the other pages.

    Settings' labels are there under the settings' names.
    """
    return {**TEXTS, **{name: each.label for name, each in SETTING_WORDS.items()}, **TABLE}


@cache
def translations() -> I18n:
    """Return what gradio looks the page's words up in; made once."""
    import gradio as gr

    own = {f"studio-{key}": said for key, said in known().items()}
    return gr.I18n(**locales({**TEXTS, **own}))


def shown(key: str) -> Any:
    """Return what stands on the page for a key, in whichever language the browser asks for."""
    if key not in known():
        raise KeyError(f"no word {key!r} in apps/studio/words.py")
    # gradio has words of its own under keys such as "image".
    return translations()(f"studio-{key}")
