"""What pages say beside their settings: in English, Japanese, Traditional Chinese.

What stands on a page from the start is put into the browser's language by the browser
(``translations``); what the server says of a run, by the header that the browser sends
(``language_of``, ``said``). Messages of the library stay in English.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimizedSD.web.setting_words import LANGUAGES, SETTING_WORDS, Said

# The browsers' names for them. Whoever reads other Chinese is served better by this than English.
LOCALES = {"en": ("en",), "ja": ("ja",), "zh": ("zh", "zh-TW", "zh-HK", "zh-CN")}

TEXTS: Mapping[str, Said] = {
    "draw": ("Draw", "描く", "繪圖"),
    "cancel": ("Cancel", "中止", "取消"),
    "stopping": ("Stopping …", "中止しています…", "正在停止…"),
    "more": ("More settings", "その他の設定", "更多設定"),
    "reset": ("Back to the first values", "最初の値に戻す", "回到初始值"),
    "limits": ("Model and limits", "モデルと制限", "模型與限制"),
    "preview": ("What is being drawn", "描いている途中", "正在畫的圖"),
    "pictures": ("Pictures", "画像", "圖片"),
    "pairs": ("Source and edit", "元の画像と編集後", "原圖與編輯後"),
    "used": ("Seed used", "使ったシード", "使用的種子"),
    "parameters": (
        "Parameters stored in the picture (click another picture to see its own)",
        "画像に記録された設定（別の画像を押すとその設定を表示）",
        "存在圖片裡的參數（點選其他圖片可看它的參數）",
    ),
    "picture": ("Picture", "画像", "圖片"),
    "paint": (
        "Paint over a part",
        "描き直す所を塗る",
        "塗抹要重畫處",
    ),
    "upload_mask": ("Upload a mask", "マスクを読み込む", "上傳遮罩"),
    "mask": (
        "White is redrawn, together with what is painted above",
        "白い所を、上で塗った所とあわせて描き直す",
        "白色部分會與上面塗抹處一起重畫",
    ),
    "place": (
        "Number {place} in line: {runs} before yours. Cancel gives the place up.",
        "順番待ち {place} 番目：前に {runs}。「中止」で順番を取り消せます。",
        "排隊第 {place} 位：前面還有 {runs}。按「取消」可放棄排隊。",
    ),
    "run": ("1 run is", "1 件", "1 件"),
    "runs": ("{count} runs are", "{count} 件", "{count} 件"),
    "preparing": ("Preparing the model.", "モデルを準備しています。", "正在準備模型。"),
    "steps": ("{done} of {total} steps", "{total} ステップ中 {done}", "第 {done}/{total} 步"),
    "of_pictures": (
        "{done} of {total} pictures",
        "{total} 枚中 {done} 枚",
        "已完成 {done}/{total} 張",
    ),
    "left": ("about {seconds} s left", "残り約 {seconds} 秒", "約剩 {seconds} 秒"),
    "picture_count": ("1 picture", "1 枚", "1 張"),
    "picture_counts": ("{count} pictures", "{count} 枚", "{count} 張"),
    "done": (
        "{pictures} in {seconds} s.",
        "{pictures}、{seconds} 秒。",
        "{pictures}，{seconds} 秒。",
    ),
    "kept": ("{pictures} kept", "{pictures}を残しました", "已保留 {pictures}"),
    "nothing": ("nothing was finished", "完成した画像はありません", "沒有完成的圖片"),
    "stopped": (
        "Stopped after {seconds} s{why}: {kept}.",
        "{seconds} 秒で中止{why}：{kept}。",
        "{seconds} 秒後停止{why}：{kept}。",
    ),
    "not_drawn": ("Not drawn:", "描けませんでした：", "無法繪圖："),
    "failed": (
        "the program failed; the terminal that it was started in says why",
        "プログラムに不具合がありました。理由は起動した端末に表示されています",
        "程式發生錯誤；原因顯示在啟動它的終端機",
    ),
    "source": ("source, seed {seed}", "元の画像、シード {seed}", "原圖，種子 {seed}"),
    "edit": ("edit, seed {seed}", "編集後、シード {seed}", "編輯後，種子 {seed}"),
    "looks": ("Where each word looks", "各語が見ている場所", "每個詞看著的地方"),
    "looks_source": (
        "Where each word of the source looks, seed {seed}",
        "元の画像の各語が見ている場所、シード {seed}",
        "原圖的每個詞看著的地方，種子 {seed}",
    ),
    "looks_edit": (
        "Where each word of the edit looks, seed {seed}",
        "編集後の各語が見ている場所、シード {seed}",
        "編輯後的每個詞看著的地方，種子 {seed}",
    ),
    "words": ("Words of the edited prompt", "編集後のプロンプトの語", "編輯後提示詞的詞"),
    "words_info": (
        "click one to say how much it counts",
        "押すと、その語の重みを決められます",
        "點選後可設定它的份量",
    ),
    "weight": ("Weight of “{word}”", "「{word}」の重み", "「{word}」的份量"),
    "as_before": (
        "{count} more, the same as in the last run",
        "前回と同じもの {count} 件",
        "與上次相同的 {count} 項",
    ),
}
# What the page's script says, when the server cannot.
SCRIPT_TEXTS: Mapping[str, Said] = {
    "gone": (
        "The server does not answer. Finished pictures are in its folder, and what you entered "
        "is kept here.",
        "サーバーが応答しません。完成した画像はサーバーのフォルダーに残り、入力内容はここに保存されています。",
        "伺服器沒有回應。完成的圖片在它的資料夾裡，您輸入的內容保存在這裡。",
    ),
    "anew": (
        "The server was started anew: the run that was under way has ended.",
        "サーバーが再起動されました。途中だった描画は終了しています。",
        "伺服器已重新啟動：進行中的繪圖已結束。",
    ),
    "reload": ("Reload the page", "ページを再読み込み", "重新載入頁面"),
    "close": ("Close this message", "このメッセージを閉じる", "關閉這則訊息"),
    "no_picture": (
        "“{name}” is not a picture that can be read; expected a PNG, JPEG, WebP, GIF, BMP or AVIF "
        "file; choose another one.",
        "「{name}」は画像として読めません。PNG・JPEG・WebP・GIF・BMP・AVIF が使えます。",
        "「{name}」不是可讀取的圖片；請選擇 PNG、JPEG、WebP、GIF、BMP 或 AVIF 檔。",
    ),
    "strokes": (
        "What you had painted over has come back as the mask below the picture.",
        "塗った部分は、画像の下のマスクとして戻りました。",
        "先前塗抹的部分已還原為圖片下方的遮罩。",
    ),
    "not_taken": (
        "“{name}” was not taken: {why}",
        "「{name}」を受け付けられませんでした：{why}",
        "無法接受「{name}」：{why}",
    ),
}


def said(key: str, language: str, **values: object) -> str:
    """Return a text of ``TEXTS``, its ``{names}`` filled in.

    Args:
        key: The text's.
        language: One of ``LANGUAGES``.
        **values: By the names.
    """
    return TEXTS[key][LANGUAGES.index(language)].format(**values)


def language_of(accepted: str | None) -> str:
    """Return the language of ``LANGUAGES`` that a browser prefers, English if it asks for others.

    Args:
        accepted: The header ``Accept-Language``; None if there is none.

    Example:
        >>> [language_of(header) for header in ("ja,en;q=0.5", "en;q=0.3, zh-TW;q=0.9", "fr", None)]
        ['ja', 'zh', 'en', 'en']
    """
    preferred: list[tuple[float, str]] = []
    for part in (accepted or "")[:1000].split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            preferred.append((-float(weight or 1), tag.split("-")[0].lower()))
        except ValueError:
            continue
    ordered = [language for _, language in sorted(preferred, key=lambda each: each[0])]
    return next((language for language in ordered if language in LANGUAGES), "en")


def translations(texts: Mapping[str, Said]) -> dict[str, dict[str, str]]:
    """Return texts and those of all settings, by locale and key, as gradio takes them.

    Settings' are under ``KEY.label`` and ``KEY.info``, with the keys of ``SETTING_WORDS``.

    Args:
        texts: What else stands on a page.
    """
    texts = dict(texts)
    for key, words in SETTING_WORDS.items():
        texts |= {f"{key}.label": words.label, f"{key}.info": words.info}
    return {
        locale: {key: text[number] for key, text in texts.items()}
        for number, language in enumerate(LANGUAGES)
        for locale in LOCALES[language]
    }


def script_texts() -> dict[str, Any]:
    """Return what the page's script says, by language and key."""
    return {
        language: {key: text[number] for key, text in SCRIPT_TEXTS.items()}
        for number, language in enumerate(LANGUAGES)
    }
