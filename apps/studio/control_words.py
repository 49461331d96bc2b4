"""What is said about controls and image prompts; see ``words``."""

from __future__ import annotations

from collections.abc import Mapping

# Key -> English, Japanese, Traditional Chinese; {names} are filled in.
CONTROL_WORDS: Mapping[str, tuple[str, str, str]] = {
    "controls": (
        "Control and image prompts",
        "構図の手本と画像プロンプト",
        "構圖控制與圖片提示",
    ),
    "controls_hint": (
        "A control holds to the lines, areas or boxes of a picture; an image prompt draws alike.",
        "「手本」は絵の線・面・枠に従わせます。「画像プロンプト」は似たものを描かせます。",
        "「控制」讓畫面遵循一張圖的線條、區塊或方框；「圖片提示」則畫出相似的內容。",
    ),
    "control": ("Control", "手本", "控制"),
    "control_info": (
        "what lies in models/controlnet and fits the model; —: none",
        "models/controlnet にあり、このモデルに合うもの。—：なし",
        "models/controlnet 裡適合此模型的檔案；—：不用",
    ),
    "control_of_model": (
        "the model itself looks at it (no file)",
        "モデル自身が見る（ファイル不要）",
        "由模型自己參考（不需檔案）",
    ),
    "control_picture": ("Picture that the control looks at", "手本の絵", "控制所看的圖片"),
    "control_picture_or_own": (
        "Picture that the control looks at; none: the one above",
        "手本の絵（空欄なら上の絵）",
        "控制所看的圖片；留空則用上面那張",
    ),
    "control_kind": ("What to take from it", "絵から取り出すもの", "從圖中取出什麼"),
    "control_mode": ("Whose word counts more", "どちらを重んじるか", "以誰為重"),
    "mode_balanced": ("both alike", "同じくらい", "兩者並重"),
    "mode_prompt": ("the prompt's", "プロンプト", "提示詞"),
    "mode_control": ("the control's", "手本", "控制"),
    "image_prompt": ("Image prompt", "画像プロンプト", "圖片提示"),
    "image_prompt_info": (
        "an IP-Adapter or style adapter of models/controlnet; —: none",
        "models/controlnet の IP-Adapter か画風アダプター。—：なし",
        "models/controlnet 裡的 IP-Adapter 或風格轉接器；—：不用",
    ),
    "image_prompt_picture": (
        "Picture to draw alike",
        "似せたい絵",
        "要畫得像的圖片",
    ),
    "control_scale": ("Control: how strongly", "手本の強さ", "控制的強度"),
    "control_start": (
        "Control: from this share of the steps",
        "手本：始めるステップの割合",
        "控制：從步驟的此比例開始",
    ),
    "control_end": (
        "Control: up to this share",
        "手本：終えるステップの割合",
        "控制：到步驟的此比例為止",
    ),
    "image_prompt_scale": (
        "Image prompt: how strongly",
        "画像プロンプトの強さ",
        "圖片提示的強度",
    ),
    "image_prompt_start": (
        "Image prompt: from this share of the steps",
        "画像プロンプト：始めるステップの割合",
        "圖片提示：從步驟的此比例開始",
    ),
    "image_prompt_end": (
        "Image prompt: up to this share",
        "画像プロンプト：終えるステップの割合",
        "圖片提示：到步驟的此比例為止",
    ),
    "unfit": ("Not for this model:", "このモデルでは使えないもの：", "不適用於此模型："),
    "no_hint": (
        "“{label}” is {name}, and there is no picture for it to look at: upload one, or choose —.",
        "「{label}」は {name} ですが、見る絵がありません。絵を入れるか、— を選んでください。",
        "「{label}」是 {name}，但沒有給它看的圖片：請上傳一張，或選擇 —。",
    ),
    # What is taken from a picture.
    "hint_hint": (
        "all of it: it is a drawing already",
        "そのまま（すでに線画や枠の絵）",
        "原樣使用（已是線稿或方框圖）",
    ),
    "hint_canny": ("thin edges (canny)", "細い輪郭（canny）", "細邊緣（canny）"),
    "hint_softedge": ("soft edges", "やわらかい輪郭", "柔和邊緣"),
    "hint_scribble": ("thick strokes (scribble)", "太い線（scribble）", "粗線塗鴉（scribble）"),
    "hint_lineart": ("dark lines (lineart)", "暗い線（lineart）", "深色線條（lineart）"),
    "hint_lineart_anime": (
        "thin dark lines (anime)",
        "細い均一な線（アニメ）",
        "細而均勻的線（動漫）",
    ),
    "hint_tile": (
        "the picture without detail (tile)",
        "細部を除いた絵（tile）",
        "去除細節（tile）",
    ),
    "hint_blur": ("the picture blurred", "ぼかした絵", "模糊的圖"),
    "hint_invert": ("black and white changed", "白黒を反転", "黑白反轉"),
    "hint_grey": ("brightness without colour", "色のない明るさ", "只取明暗"),
    "hint_threshold": ("what is bright, in white", "明るい所を白に", "明亮處變白"),
    "hint_shuffle": ("colours without places", "場所を混ぜた色", "打亂位置的色彩"),
    "hint_segmentation": ("regions", "領域", "區域"),
    "hint_normal": (
        "where surfaces face, of a depth picture",
        "奥行きの絵から面の向き",
        "由深度圖取表面方向",
    ),
    "hint_inpaint": (
        "what is not painted over (inpaint)",
        "塗っていない所（inpaint）",
        "沒塗到的部分（inpaint）",
    ),
    # Of a recipe.
    "recipe_no_picture": (
        "the picture{named} that {name} looked at is in no recipe: give it again",
        "{name} が見た絵{named}は作り方に含まれません。もう一度入れてください",
        "{name} 所看的圖片{named}不在配方裡：請再放一次",
    ),
    "recipe_no_network": (
        "{called} is not among the networks for this model, and was left out",
        "{called} はこのモデルで使えるものの中にないので、外しました",
        "{called} 不在此模型可用的檔案中，已略過",
    ),
    "recipe_further": (
        "{called} is a further control, and there are fields for one: it was left out",
        "{called} は二つ目なので、欄がなく、外しました",
        "{called} 是另一個控制，欄位只有一個，已略過",
    ),
    "recipe_boxes": (
        "{called} draws things in boxes, which this page has no fields for: it was left out",
        "{called} は枠の中に描くもので、この頁に欄がないので、外しました",
        "{called} 是在方框裡畫東西，本頁沒有欄位，已略過",
    ),
    "recipe_other_file": (
        "{name} is another file here than the one that it was drawn with",
        "{name} は、描いたときと違うファイルです",
        "這裡的 {name} 與當時使用的檔案不同",
    ),
    "recipe_no_hint": (
        "what it took from the picture, {kind}, cannot be made here: give a picture of that kind",
        "絵から取り出したもの（{kind}）はここで作れません。その種類の絵を入れてください",
        "當時從圖中取出的 {kind} 在這裡無法製作：請放一張該類型的圖",
    ),
    "recipe_no_fields": (
        "{called}: this tab has no fields for controls, and it was left out",
        "{called}：このタブには欄がないので、外しました",
        "{called}：此分頁沒有這個欄位，已略過",
    ),
}
