"""All that the bot says, in Japanese, Traditional Chinese and English."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ldm.translation.detect import language_of as written_in

LANGUAGES = ("ja", "zh", "en")
_BOPOMOFO = re.compile(r"[\u3105-\u312f]")

HELP = {
    "ja": (
        "ことばを送ると、絵を描いて返します。\n"
        "例：「赤いりんごをかじる猫、水彩画」\n"
        "写真を送ると、何にするかをうかがってから描き直します。\n\n"
        "ことばで指定できます：\n"
        "・「4枚」… 枚数\n"
        "・「縦」「横」「正方形」… 形\n"
        "・「seed 7」… 同じ絵をもう一度\n"
        "・「--steps 20」「--scale 7」… 手順の数と強さ\n"
        "・「レシピ」… 直前の絵の作り方\n"
        "・「取消」… 順番待ちと作業中の絵をやめる\n"
        "グループでは、私にメンション（@）してください。"
    ),
    "zh": (
        "傳文字給我，我就畫成圖片傳回來。\n"
        "例如：「一隻咬著紅蘋果的貓，水彩畫」\n"
        "傳照片給我，我會先問要變成什麼，再重新畫。\n\n"
        "可以用文字指定：\n"
        "・「4張」… 張數\n"
        "・「直」「橫」「正方形」… 形狀\n"
        "・「seed 7」… 再畫出同一張\n"
        "・「--steps 20」「--scale 7」… 步數與強度\n"
        "・「配方」… 上一張圖的做法\n"
        "・「取消」… 取消等待中與正在畫的圖\n"
        "在群組裡請標註我（@）。"
    ),
    "en": (
        "Send me words, and I answer with a picture of them.\n"
        'For example: "a cat biting a red apple, watercolor"\n'
        "Send me a photo, and I ask what to make of it.\n\n"
        "Words that set something:\n"
        '- "4 pictures": how many\n'
        '- "portrait", "landscape", "square", after a comma: the shape\n'
        '- "seed 7": the same picture again\n'
        '- "--steps 20", "--scale 7": sampling steps and guidance\n'
        '- "recipe": how the last picture was made\n'
        '- "cancel": give up what waits and what is being drawn\n'
        "In groups, mention me (@)."
    ),
}
# Key -> the three languages, in the order of LANGUAGES; {names} are filled in.
TABLE: Mapping[str, tuple[str, str, str]] = {
    "empty": (
        "描くもののことばがありませんでした。何を描くか書いてください。",
        "沒有看到要畫什麼。請寫出想畫的內容。",
        "There were no words for a picture. Please write what to draw.",
    ),
    "too_long": (
        "長すぎます（{given} 文字）。{most} 文字までにしてください。",
        "太長了（{given} 個字）。請寫在 {most} 個字以內。",
        "That is too long ({given} letters). Please write at most {most}.",
    ),
    "range": (
        "{name} に {given} は使えません。{low} から {high} までにしてください。",
        "{name} 不能是 {given}。請用 {low} 到 {high}。",
        "{name} cannot be {given}. Please give {low} to {high}.",
    ),
    "unknown_flag": (
        "{given} という指定はありません。使えるのは --steps、--seed、--scale です。",
        "沒有 {given} 這個設定。可以用 --steps、--seed、--scale。",
        "There is no setting {given}. There are --steps, --seed and --scale.",
    ),
    "refused": (
        "そのことばの絵は描けません。別のことばにしてください。",
        "這個內容不能畫。請換個說法。",
        "I do not draw that. Please choose other words.",
    ),
    "not_allowed": (
        "このアカウントは登録した方だけが使えます。管理者にこの ID を伝えてください：{user}",
        "這個帳號只開放給登錄的人。請把這個 ID 告訴管理者：{user}",
        "This account draws for listed people only. Tell its operator this id: {user}",
    ),
    "user_limit": (
        "今日の分（{most} 枚）に届きました。あと {left} 枚です。また明日どうぞ。",
        "已達今天的上限（{most} 張），還剩 {left} 張。請明天再來。",
        "Today you may have {most} pictures, of which {left} are left. Please come back tomorrow.",
    ),
    "day_limit": (
        "今日はみなさんの分がいっぱいになりました。また明日どうぞ。",
        "今天大家的張數已經用完了。請明天再來。",
        "All of today's pictures are taken. Please come back tomorrow.",
    ),
    "many_waiting": (
        "あなたの絵がもう {most} 件待っています。できあがってから送ってください。",
        "你已經有 {most} 件在等了。請等畫好再傳。",
        "You have {most} requests waiting already. Please wait until some are done.",
    ),
    "queued": (
        "受け付けました。前に {ahead} 件あります。できたら送ります。",
        "收到了，前面還有 {ahead} 件。畫好就傳給你。",
        "Accepted; {ahead} are before yours. I will send it when it is done.",
    ),
    "photo": (
        "写真を受け取りました。何にしますか？（例：「水彩画にして」）",
        "收到照片了。要變成什麼呢？（例如：「變成水彩畫」）",
        'I have the photo. What shall I make of it? (For example: "a watercolor")',
    ),
    "cancelled": (
        "{count} 件を取り消しました。",
        "已取消 {count} 件。",
        "Cancelled: {count}.",
    ),
    "nothing_to_cancel": (
        "取り消すものはありませんでした。",
        "沒有可以取消的。",
        "There was nothing to cancel.",
    ),
    "no_recipe": (
        "まだ絵がありません。",
        "還沒有圖片。",
        "There is no picture yet.",
    ),
    "gone": (
        "その絵はもう残っていません。新しく描いてください。",
        "那張圖已經不在了。請重新畫。",
        "That picture is not kept any more. Please have a new one drawn.",
    ),
    "which_style": (
        "どの画風にしますか？",
        "要哪一種畫風？",
        "Which style?",
    ),
    "unreadable": (
        "読めるのは、ことばと写真だけです。使い方は「ヘルプ」でどうぞ。",
        "我只看得懂文字和照片。說明請輸入「說明」。",
        'I read words and photos only. "help" tells more.',
    ),
    "unknown_button": (
        "そのボタンは使えません。",
        "這個按鈕不能用。",
        "That button does nothing here.",
    ),
    "failed": (
        "すみません、描けませんでした。しばらくしてから、もう一度送ってください。",
        "抱歉，畫不出來。請過一會兒再傳一次。",
        "Sorry, that could not be drawn. Please send it again later.",
    ),
    "bad_photo": (
        "すみません、その写真は開けませんでした。別の写真を送ってください。",
        "抱歉，打不開那張照片。請傳別張。",
        "Sorry, that photo could not be opened. Please send another one.",
    ),
    "blacked_out": (
        "{of} 枚のうち {count} 枚は、安全のため黒く塗りつぶしました。別のことばをお試しください。",
        "{of} 張中有 {count} 張因安全檢查而塗黑了。請換個說法試試。",
        "The safety checker blacked out {count} of {of}. Please try other words.",
    ),
    "unknown_words": (
        "このモデルの知らないことば: {words}",
        "這個模型不認得：{words}",
        "The model does not know: {words}",
    ),
    "again": ("もう一度", "再畫一次", "Again"),
    "variation": ("少し変える", "變化一下", "Variation"),
    "larger": ("大きく", "放大", "Larger"),
    "style": ("別の画風", "換畫風", "Another style"),
    "stop": ("やめる", "停止", "Stop"),
    "watercolor": ("水彩画", "水彩畫", "Watercolor"),
    "oil": ("油絵", "油畫", "Oil painting"),
    "ink": ("水墨画", "水墨畫", "Ink"),
    "ukiyoe": ("浮世絵", "浮世繪", "Ukiyo-e"),
    "pencil": ("鉛筆画", "鉛筆畫", "Pencil"),
    "pixel": ("ドット絵", "像素畫", "Pixel art"),
    "photo_style": ("写真", "照片", "Photo"),
}
STYLES: Mapping[str, str] = {
    "watercolor": "watercolor painting",
    "oil": "oil painting",
    "ink": "ink wash painting",
    "ukiyoe": "ukiyo-e woodblock print",
    "pencil": "pencil drawing",
    "pixel": "pixel art",
    "photo_style": "photograph",
}
"""What is added to a prompt, by the key of its name."""


def say(key: str, language: str, **filled: object) -> str:
    """Return one sentence.

    Args:
        key: Of ``TABLE``, or ``help``.
        language: One of ``LANGUAGES``.
        **filled: What stands in the sentence's braces.
    """
    if key == "help":
        return HELP[language]
    return TABLE[key][LANGUAGES.index(language)].format(**filled)


def language_of(text: str, told: str = "") -> str:
    """Return the language to answer a text in: that of its letters, else LINE's word.

    Args:
        text: What the user wrote.
        told: The language that LINE tells of the user, such as ``zh-TW``; empty is unknown.
    """
    known = {"ja": "ja", "zh": "zh", "en": "en"}.get(told[:2].lower(), "")
    if _BOPOMOFO.search(text):
        return "zh"
    shared = known if known in ("ja", "zh") else "ja"
    return written_in(text, shared) or known or "en"
