"""What pages call the values of settings, in the languages of ``setting_words.LANGUAGES``."""

from __future__ import annotations

from collections.abc import Mapping

from optimizedSD.web.setting_words import LANGUAGES, Said

# What pages call a setting's values; values that do not stand here are shown as they are.
CHOICE_WORDS: Mapping[str, Mapping[str, Said]] = {
    # The others have their usual names; this one is the reference's way to go the same path.
    "sampler": {"dpm_solver": ("DPM-Solver++", "DPM-Solver++", "DPM-Solver++")},
    "mode": {
        "auto": ("as suits both prompts", "自動で選ぶ", "自動選擇"),
        "replace": ("one for one", "一語ずつ置き換える", "逐詞替換"),
        "refine": ("common words stay", "共通する語は場所を保つ", "共有的詞留在原位"),
    },
    "fill": {
        "": ("as usual", "通常", "一般"),
        "original": ("what is there", "元の画像", "原本的內容"),
        "fill": ("the colours around it", "まわりの色", "周圍的顏色"),
        "noise": ("noise", "ノイズ", "雜訊"),
        "nothing": ("nothing", "なし", "空白"),
    },
    "prompt_lang": {
        "auto": ("find out", "自動", "自動"),
        "en": ("English", "英語", "英文"),
        "ja": ("Japanese", "日本語", "日文"),
        "zh": ("Chinese", "中国語", "中文"),
        "none": ("any: draw as typed", "翻訳しない", "不翻譯"),
    },
    "prompt_syntax": {
        "compvis": ("plain text", "ただの文章", "純文字"),
        "a1111": (
            "as AUTOMATIC1111: (cat:1.3), [cat:dog:0.5], AND, BREAK",
            "AUTOMATIC1111 式：(cat:1.3)、[cat:dog:0.5]、AND、BREAK",
            "AUTOMATIC1111 式：(cat:1.3)、[cat:dog:0.5]、AND、BREAK",
        ),
        "compel": (
            "as compel: cat++, (cat)1.3, .blend()",
            "compel 式：cat++、(cat)1.3、.blend()",
            "compel 式：cat++、(cat)1.3、.blend()",
        ),
    },
    "emphasis": {
        "original": ("weigh, mean kept", "重みづけ（平均を保つ）", "加權（保持平均）"),
        "no-norm": ("weigh", "重みづけ", "加權"),
        "ignore": ("nothing", "何もしない", "不作用"),
        "none": ("they are text", "文章として読む", "視為文字"),
    },
    "seed_mode": {
        "compvis": ("the whole run", "一回分全体", "整次繪圖"),
        "per-image": ("each picture its own", "一枚ごと", "每張各一"),
    },
    "safety_checker": {"on": ("yes", "はい", "是"), "off": ("no", "いいえ", "否")},
    "watermark": {
        "reference": ("as usual", "通常", "一般"),
        "gentle": (
            "gentle: changes the picture less",
            "控えめ：画像の変化が小さい",
            "輕微：改動較小",
        ),
        "off": ("none", "なし", "無"),
    },
}


def choice_words(name: str, value: str, language: str) -> str:
    """Return what pages call a value of a setting; empty if nothing is written here.

    Args:
        name: The setting's.
        value: The value.
        language: One of ``LANGUAGES``.
    """
    said = CHOICE_WORDS.get(name, {}).get(value)
    return said[LANGUAGES.index(language)] if said else ""
