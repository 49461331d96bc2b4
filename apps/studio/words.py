"""All that the studio says, in English, Japanese and Traditional Chinese: one table.

What stands on the page is looked up in the browser (gradio's ``I18n``), by its language; what
a job says while it goes on is looked up here, by the request's ``Accept-Language``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from apps.studio.lessons import LESSONS
from apps.studio.phrases import PHRASES
from optimizedSD.web.setting_words import LANGUAGES
from optimizedSD.web.words import language_of as language_of  # noqa: PLC0414 - the studio's too
from optimizedSD.web.words import translations as locales

if TYPE_CHECKING:
    from gradio import I18n

# Key -> the three languages, in the order of LANGUAGES; {names} are filled in.
TABLE: Mapping[str, tuple[str, str, str]] = {
    **PHRASES,
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
    "draw": ("Draw", "描く", "開始畫"),
    "enlarge_it": ("Enlarge", "拡大する", "開始放大"),
    "cancel": ("Cancel", "中止", "取消"),
    "swap": ("⇄ Swap sides", "⇄ 縦横を入れ替え", "⇄ 交換寬高"),
    "dice": ("🎲 Random", "🎲 ランダム", "🎲 隨機"),
    "reuse": ("♻ Reuse", "♻ 再利用", "♻ 沿用"),
    "send_to": ("Send the picture to", "この絵を送る", "把這張圖送到"),
    # Pictures that are given.
    "picture": ("Picture", "元の絵", "圖片"),
    "paint_over": (
        "Picture; paint over what to draw anew",
        "元の絵：描き直す所を塗ってください",
        "圖片：塗出要重畫的部分",
    ),
    "mask": (
        "Mask from a file: white is drawn anew, with what is painted",
        "マスク画像：白い所と塗った所を描き直します",
        "遮罩圖檔：白色與塗過的部分會重畫",
    ),
    "upload_mask": ("Upload a mask", "マスクを読み込む", "上傳遮罩"),
    "invert": ("Draw all else anew instead", "塗っていない所を描き直す", "改為重畫沒塗的部分"),
    # Controls.
    "source_prompt": ("Prompt of the source", "元の絵のプロンプト", "原圖的提示詞"),
    "weights": ("Weights of words", "ことばの重み", "詞的權重"),
    "factor": ("Times larger", "何倍にするか", "放大倍數"),
    "method": ("Method", "方法", "方法"),
    "by_tiles": (
        "Drawn anew in tiles by this model",
        "このモデルでタイルごとに描き足す",
        "由本模型分塊重繪",
    ),
    "by_lanczos": ("Resampled (Lanczos)", "補間（Lanczos）", "重新取樣（Lanczos）"),
    "prompt": ("Prompt", "プロンプト", "提示詞"),
    "prompt_info": (
        "what the picture shows; (word:1.3) counts more",
        "何を描くか。(ことば:1.3) で強くなります",
        "要畫什麼；(詞:1.3) 會加強",
    ),
    "negative": ("Negative prompt", "ネガティブプロンプト", "負面提示詞"),
    "negative_info": (
        "what it should not show",
        "描いてほしくないもの",
        "不想畫出的東西",
    ),
    "styles": ("Styles", "スタイル", "風格"),
    "ddim_steps": ("Steps", "ステップ数", "步數"),
    "sampler": ("Sampler", "サンプラー", "取樣器"),
    "spacing": ("Schedule", "スケジュール", "排程"),
    "scale": ("Guidance", "ガイダンス", "引導強度"),
    "scale_info": (
        "how closely the picture follows the prompt; high values burn the colours",
        "プロンプトへの忠実さ。高すぎると色が焼けます",
        "貼近提示詞的程度；太高會使顏色過飽和",
    ),
    "W": ("Width", "幅", "寬"),
    "H": ("Height", "高さ", "高"),
    "preset": ("Size", "サイズ", "尺寸"),
    "seed": ("Seed", "シード", "種子"),
    "seed_info": ("empty: a new one each time", "空欄：毎回新しい値", "留空：每次都不同"),
    "n_samples": ("Pictures at once", "同時に描く枚数", "同時畫幾張"),
    "n_iter": ("Times", "繰り返し", "次數"),
    "strength": ("Change", "変える強さ", "變化強度"),
    "strength_info": (
        "0 keeps the picture, 1 starts from noise",
        "0 は元のまま、1 は最初から描きます",
        "0 保持原圖，1 從雜訊開始",
    ),
    "more": ("More settings", "詳しい設定", "更多設定"),
    # What was drawn.
    "pictures": ("Pictures, the newest first", "描いた絵（新しい順）", "畫好的圖（新的在前）"),
    "used": ("Seed of this picture", "この絵のシード", "這張圖的種子"),
    "recipe": ("Recipe of this picture", "この絵の作り方", "這張圖的配方"),
    "tokens": ("{used} of {room} tokens", "{used} / {room} トークン", "{used} / {room} 個詞元"),
    # How a job goes on.
    "waiting": (
        "Waiting: place {place} in the queue, {ahead} ahead.",
        "順番待ち：{place} 番目（前に {ahead} 件）。",
        "排隊中：第 {place} 位（前面有 {ahead} 件）。",
    ),
    "preparing": ("Preparing the model.", "モデルを準備しています。", "正在準備模型。"),
    "steps": ("step {done} of {total}", "{done} / {total} ステップ", "第 {done} / {total} 步"),
    "left": ("about {s} s left", "残り約 {s} 秒", "約剩 {s} 秒"),
    "one": ("1 picture", "1 枚", "1 張"),
    "many": ("{n} pictures", "{n} 枚", "{n} 張"),
    "done": ("{n} in {s} s.", "{n}、{s} 秒。", "{n}，{s} 秒。"),
    "stopped": (
        "Stopped after {s} s: {n} kept.",
        "{s} 秒で中止しました：{n} を残しました。",
        "{s} 秒後停止：保留 {n}。",
    ),
    "stopping": ("Stopping …", "中止しています …", "正在停止 …"),
    "not_drawn": ("Not drawn:", "描けませんでした：", "沒有畫成："),
    "failed": (
        "the program failed; the terminal that it was started in says why",
        "プログラムの不具合です。起動した端末に理由が出ています",
        "程式出錯；啟動它的終端機會顯示原因",
    ),
    "preview": ("What is being drawn", "描いている途中の絵", "正在畫的圖"),
}


def say(language: str, key: str, **values: Any) -> str:
    """Return what a key says in a language.

    Args:
        language: One of ``LANGUAGES``.
        key: Of ``TABLE``.
        **values: What its {names} stand for.

    Example:
        >>> say("ja", "many", n=3), say("en", "left", s=4)
        ('3 枚', 'about 4 s left')
    """
    return TABLE[key][LANGUAGES.index(language)].format(**values)


def count(language: str, pictures: int) -> str:
    """Return a number of pictures in words."""
    return say(language, "one" if pictures == 1 else "many", n=pictures)


@cache
def translations() -> I18n:
    """Return what gradio looks the page's words up in; made once."""
    import gradio as gr

    return gr.I18n(**locales(TABLE))


def shown(key: str) -> Any:
    """Return what stands on the page for a key, in whichever language the browser asks for."""
    if key not in TABLE:
        raise KeyError(f"no word {key!r} in apps/studio/words.py")
    return translations()(key)
