"""What pages call each setting, and how they explain it: in English, Japanese, Traditional Chinese.

A setting that stands in neither table is called as its option's help text begins. Messages of the
library name settings by their flags; ``fields.with_labels`` puts these labels in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Said = tuple[str, str, str]  # in the order of LANGUAGES
LANGUAGES = ("en", "ja", "zh")
NOTHING: Said = ("", "", "")


@dataclass(frozen=True)
class SettingWords:
    """What a page says of a setting.

    Attributes:
        label: Its name.
        info: An explanation under it; may be empty.
    """

    label: Said
    info: Said = NOTHING


# A setting's name, behind the settings class whose own meaning of it this is; the first that a
# class or its bases have counts.
SETTING_WORDS: Mapping[str, SettingWords] = {
    "prompt": SettingWords(("Prompt", "プロンプト", "提示詞")),
    "SwapSettings.sprompt": SettingWords(
        ("Prompt of the source", "元の画像のプロンプト", "原圖的提示詞"),
        ("its picture is edited", "この画像を編集します", "編輯的就是它的圖"),
    ),
    "SwapSettings.prompt": SettingWords(
        ("Prompt of the edit", "編集後のプロンプト", "編輯後的提示詞")
    ),
    "SwapSettings.mode": SettingWords(
        ("How words take the place of others", "言葉の置き換え方", "詞的替換方式"),
    ),
    # These are controls of parts of settings, see ``edit_fields``.
    "edit.reweight": SettingWords(
        ("Weights", "重み", "份量"),
        (
            "how much words count: 1 is as usual, 0 not at all; click a word above, or write "
            "words with numbers, as snowy=2, house=-1",
            "語の効き具合：1 は普通、0 は効かない。上の語を押すか、snowy=2, house=-1 のように書く",
            "詞的份量：1 為一般，0 不作用；點選上方的詞，或寫成 snowy=2, house=-1",
        ),
    ),
    "edit.cross_replace_steps_start": SettingWords(
        ("Words, from", "語：ここから", "詞：開始"),
        (
            "as in the source from this share of the steps",
            "全ステップのこの割合から元の画像と同じ",
            "從步數的這個比例起與原圖相同",
        ),
    ),
    "edit.cross_replace_steps_end": SettingWords(
        ("Words, until", "語：ここまで", "詞：結束"),
        (
            "as in the source until this share of the steps",
            "全ステップのこの割合まで元の画像と同じ",
            "到步數的這個比例為止與原圖相同",
        ),
    ),
    "edit.self_replace_steps_start": SettingWords(
        ("Layout, from", "構図：ここから", "構圖：開始"),
        (
            "as in the source from this share of the steps",
            "全ステップのこの割合から元の画像と同じ",
            "從步數的這個比例起與原圖相同",
        ),
    ),
    "edit.self_replace_steps_end": SettingWords(
        ("Layout, until", "構図：ここまで", "構圖：結束"),
        (
            "as in the source until this share of the steps",
            "全ステップのこの割合まで元の画像と同じ",
            "到步數的這個比例為止與原圖相同",
        ),
    ),
    "edit.blend_source": SettingWords(
        ("Change only: words of the source", "変える所：元の語", "只改變：原圖的詞"),
        (
            "where these look; empty: everywhere",
            "これらの語が見る場所。空欄：全体",
            "這些詞看著的地方；留空：全部",
        ),
    ),
    "edit.blend_edit": SettingWords(
        ("Change only: words of the edit", "変える所：編集後の語", "只改變：編輯後的詞"),
        ("or where these look", "またはこれらの語が見る場所", "或這些詞看著的地方"),
    ),
    "negative_prompt": SettingWords(
        ("Not in the picture", "描かないもの", "不要出現的東西"),
        (
            "what the pictures should not show",
            "画像に出てほしくないもの",
            "圖中不該出現的東西",
        ),
    ),
    "Img2ImgSettings.strength": SettingWords(
        ("How much to change the picture", "画像をどれだけ変えるか", "改變圖片的程度"),
        (
            "0 keeps it, 1 starts anew",
            "0 はそのまま、1 は初めから描き直す",
            "0 保持原樣，1 全部重畫",
        ),
    ),
    "InpaintSettings.strength": SettingWords(
        ("How much to change the marked part", "塗った所をどれだけ変えるか", "改變塗抹處的程度"),
        (
            "0 keeps it, 1 starts anew",
            "0 はそのまま、1 は初めから描き直す",
            "0 保持原樣，1 全部重畫",
        ),
    ),
    "H": SettingWords(
        ("Height", "高さ", "高度"),
        (
            "in pixels; empty: the model's own",
            "ピクセル。空欄：モデル本来の大きさ",
            "像素；留空：模型本來的大小",
        ),
    ),
    "W": SettingWords(
        ("Width", "幅", "寬度"),
        (
            "in pixels; empty: the model's own",
            "ピクセル。空欄：モデル本来の大きさ",
            "像素；留空：模型本來的大小",
        ),
    ),
    "Img2ImgSettings.H": SettingWords(
        ("Height", "高さ", "高度"),
        (
            "in pixels; empty: in proportion to the width, or the picture's own",
            "ピクセル。空欄：幅に比例、幅も空欄なら元の大きさ",
            "像素；留空：依寬度等比，寬度也留空則為原圖大小",
        ),
    ),
    "Img2ImgSettings.W": SettingWords(
        ("Width", "幅", "寬度"),
        (
            "in pixels; empty: in proportion to the height, or the picture's own",
            "ピクセル。空欄：高さに比例、高さも空欄なら元の大きさ",
            "像素；留空：依高度等比，高度也留空則為原圖大小",
        ),
    ),
    "InpaintSettings.H": SettingWords(
        ("Height", "高さ", "高度"),
        (
            "of what is drawn, in pixels; empty: as suits the part and the model",
            "描く部分の大きさ、ピクセル。空欄：部分とモデルに合わせる",
            "所畫部分的大小，像素；留空：依該部分與模型決定",
        ),
    ),
    "InpaintSettings.W": SettingWords(
        ("Width", "幅", "寬度"),
        (
            "of what is drawn, in pixels; empty: as suits the part and the model",
            "描く部分の大きさ、ピクセル。空欄：部分とモデルに合わせる",
            "所畫部分的大小，像素；留空：依該部分與模型決定",
        ),
    ),
    "only_masked": SettingWords(
        (
            "Pixels around the part that are seen",
            "塗った所のまわりに見る幅",
            "塗抹處周圍要看的寬度",
        ),
        (
            "only this area is drawn, and the picture keeps its size; empty: all of it is drawn, "
            "and resized",
            "その範囲だけを描き、画像の大きさは変わらない。空欄：全体を描き直し、大きさも変わる",
            "只畫這個範圍，圖片大小不變；留空：整張重畫並縮放",
        ),
    ),
    "mask_blur": SettingWords(
        ("Soft edge", "縁のぼかし", "柔化邊緣"),
        (
            "in pixels, outwards; 0: none; empty: 4 where only the part is drawn",
            "ピクセル、外側へ。0：なし。空欄：部分だけを描くときは 4",
            "像素，向外；0：無；留空：只畫部分時為 4",
        ),
    ),
    "invert_mask": SettingWords(
        ("Draw all else anew instead", "塗っていない所を描き直す", "改為重畫沒塗的部分"),
    ),
    "fill": SettingWords(
        ("What the part begins with", "描き始めの状態", "開始時的內容"),
    ),
    "outpaint": SettingWords(
        ("Draw on around the picture", "画像の外側に描き足す", "在圖片外側續畫"),
        (
            "pixels to the left, above, to the right, below: 32,0,32,0; nothing need be painted "
            "over; empty: none",
            "左・上・右・下のピクセル数：32,0,32,0。塗らなくてもよい。空欄：なし",
            "左、上、右、下的像素數：32,0,32,0；可以不塗；留空：無",
        ),
    ),
    "subseed": SettingWords(
        ("Variation: another seed", "変化：別のシード", "變化：另一個種子"),
        (
            "the picture becomes a little like that seed's; empty: none",
            "そのシードの画像に少し近づく。空欄：なし",
            "圖片會有點像該種子的圖；留空：無",
        ),
    ),
    "subseed_strength": SettingWords(
        ("Variation: how much", "変化：どれだけ", "變化：程度"),
        (
            "0: the picture itself, 1: the other seed's",
            "0：元のまま、1：別のシードの画像",
            "0：原本的圖，1：另一個種子的圖",
        ),
    ),
    "hires": SettingWords(
        ("Enlarge and refine, times", "拡大して描き込む倍率", "放大並細化的倍數"),
        (
            "for large pictures without objects that appear twice; empty: off",
            "大きな画像で同じ物が二度描かれるのを防ぐ。空欄：なし",
            "畫大圖時避免同樣的東西出現兩次；留空：關閉",
        ),
    ),
    "hires_steps": SettingWords(
        ("Steps of the refinement", "描き込みのステップ数", "細化的步數"),
        ("empty: as many as above", "空欄：上と同じ", "留空：與上面相同"),
    ),
    "hires_strength": SettingWords(
        ("How much the refinement changes", "描き込みでどれだけ変えるか", "細化的改變程度"),
        (
            "0 keeps the enlarged picture, 1 starts anew",
            "0 は拡大しただけ、1 は初めから描き直す",
            "0 保持放大後的圖，1 全部重畫",
        ),
    ),
    "ddim_steps": SettingWords(
        ("Steps", "ステップ数", "步數"),
        (
            "more take longer; finer up to a point",
            "多いほど時間がかかり、ある程度まで細かくなる",
            "越多越久，在一定程度內越精細",
        ),
    ),
    "sampler": SettingWords(("Sampler", "サンプラー", "取樣器")),
    "scale": SettingWords(
        ("Guidance", "ガイダンス", "引導強度"),
        (
            "how closely to follow the prompt; high values burn colours, 1 turns it off",
            "プロンプトに従う強さ。高すぎると色が飛び、1 で無効",
            "遵循提示詞的強度；過高顏色會過飽和，1 為關閉",
        ),
    ),
    "n_samples": SettingWords(
        ("Pictures at once", "同時に描く枚数", "同時畫的張數"),
        ("drawn side by side", "まとめて描く", "一起畫"),
    ),
    "SwapSettings.n_samples": SettingWords(
        ("Pairs at once", "同時に描く組数", "同時畫的組數"),
        ("each is a source and its edit", "元の画像と編集後で一組", "原圖與編輯後的圖為一組"),
    ),
    "n_iter": SettingWords(
        ("Rounds", "繰り返し", "輪數"),
        ("how often to draw so many", "その枚数を何回描くか", "這麼多張畫幾輪"),
    ),
    "seed": SettingWords(
        ("Seed", "シード", "種子"),
        (
            "the same one draws the same picture; empty: a random one, shown below the pictures",
            "同じ値なら同じ画像。空欄：乱数で決め、画像の下に表示",
            "相同的值畫出相同的圖；留空：隨機，顯示在圖片下方",
        ),
    ),
    "prompt_lang": SettingWords(
        ("Language of the prompts", "プロンプトの言語", "提示詞的語言"),
        (
            "Japanese and Chinese ones are translated where the model reads English",
            "モデルが英語を読む場合、日本語と中国語は翻訳します",
            "模型讀英文時，會翻譯日文與中文",
        ),
    ),
    "prompt_syntax": SettingWords(
        ("How prompts are read", "プロンプトの読み方", "提示詞的讀法"),
    ),
    "clip_skip": SettingWords(
        ("Layer of the text encoder", "文章エンコーダーの層", "文字編碼器的層"),
        (
            "counted from the last; many models of drawings want 2",
            "最後から数えて。イラスト向けモデルには 2 が多い",
            "從最後數起；許多插畫模型要用 2",
        ),
    ),
    "emphasis": SettingWords(
        ("What weights like (cat:1.3) do", "(cat:1.3) の重みの働き", "(cat:1.3) 權重的作用"),
    ),
    "format": SettingWords(
        ("File format", "ファイル形式", "檔案格式"),
        ("jpg is smaller and lossy", "jpg は小さいが劣化する", "jpg 較小但會失真"),
    ),
    "spacing": SettingWords(
        ("How the steps are spread", "ステップの配分", "步的分布"),
        (
            "uniform, linspace and trailing suit every sampler; the others some of them",
            "uniform・linspace・trailing はどのサンプラーでも使える。他は一部だけ",
            "uniform、linspace、trailing 適用所有取樣器；其他只適用部分",
        ),
    ),
    "ddim_eta": SettingWords(
        ("Noise added in each step", "各ステップで加えるノイズ", "每步加入的雜訊"),
        (
            "0 adds none; for ddim and tcd",
            "0 は加えない。ddim と tcd 用",
            "0 不加；用於 ddim 與 tcd",
        ),
    ),
    "fixed_code": SettingWords(
        ("All rounds start from the same noise", "毎回同じノイズから描く", "每輪都從相同雜訊開始")
    ),
    "seed_mode": SettingWords(
        ("What a seed counts for", "シードの効き方", "種子的作用範圍"),
        (
            "a picture with its own seed does not depend on what is drawn beside it",
            "一枚ごとのシードなら、同時に描く枚数によらず同じ画像になります",
            "每張各有種子時，結果與同時畫的張數無關",
        ),
    ),
    "safety_checker": SettingWords(
        (
            "Black out what the safety checker flags",
            "不適切と判定された画像を黒くする",
            "塗黑被判為不當的圖片",
        ),
        ("where its weights are installed", "判定器がある場合", "若已安裝檢查器"),
    ),
    "watermark": SettingWords(
        ("Invisible watermark", "見えない透かし", "隱形浮水印"),
        (
            "in pictures of 256x256 pixels or more",
            "256x256 以上の画像に入ります",
            "用於 256x256 以上的圖片",
        ),
    ),
    "plain_prompt": SettingWords(
        ("A colon and a number are plain text", "コロンと数字を文章とみなす", "冒號與數字視為文字"),
        (
            "otherwise 'tabby cat:0.25 duck:0.75' mixes both in these proportions",
            "外すと「tabby cat:0.25 duck:0.75」はその割合で混ぜる",
            "不勾選時「tabby cat:0.25 duck:0.75」會依比例混合",
        ),
    ),
}


def words_key(name: str, schema: type) -> str | None:
    """Return under which key of ``SETTING_WORDS`` a setting is explained; None if under none.

    Args:
        name: The setting's.
        schema: The settings class of the page.
    """
    keys = [*(f"{base.__name__}.{name}" for base in schema.__mro__), name]
    return next((key for key in keys if key in SETTING_WORDS), None)
