"""What the tab Learn teaches: short texts in three languages, each with something to draw.

A lesson's pictures are a sweep of one setting, the way of one picture from noise, or where the
words of one picture look. Imports no torch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["sweep", "way", "looks"]
PARTS = 4  # of a prompt whose words come one after the other
SEEDS = 6


@dataclass(frozen=True)
class Lesson:
    """Something to learn.

    Attributes:
        name: Its name among the others.
        titles: Its heading in English, Japanese and Traditional Chinese.
        texts: What it says, likewise.
        kind: What is drawn.
        axis: Of a sweep: from the prompt and the seed to what varies.
        begins: From the prompt to the one that the first picture is of.
    """

    name: str
    titles: tuple[str, str, str]
    texts: tuple[str, str, str]
    kind: Kind = "sweep"
    axis: Callable[[str, int], str] | None = None
    begins: Callable[[str], str] = str


def parts(prompt: str) -> list[str]:
    """Return a prompt's first words, more and more of them; the last is the prompt.

    Example:
        >>> parts("a red cat")
        ['a', 'a red', 'a red cat']
    """
    words = prompt.split()
    pieces = words if len(words) > 1 else list(prompt.strip())  # Japanese has no spaces
    gap = " " if len(words) > 1 else ""
    ends = sorted({-(-len(pieces) * k // PARTS) for k in range(1, PARTS)})
    shorter = [gap.join(pieces[:end]) for end in ends if 0 < end < len(pieces)]
    return [*shorter, prompt.strip()]


def _listed(texts: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(texts)
    return line.getvalue()


LESSONS: Mapping[str, Lesson] = {
    each.name: each
    for each in (
        Lesson(
            "way",
            ("1. From noise to a picture", "1. ノイズから絵へ", "1. 從雜訊到圖"),
            (
                "The model never draws a line. It starts from pure noise and, at each step, "
                "guesses "
                "which clean picture hides in it; then it removes a little of the noise. The "
                "pictures "
                "below are those guesses, made from the small **latent** that it works on and "
                "shown "
                "large: the autoencoder turns the last one into the finished picture.\n\n"
                "*Look for: what is settled first, places and colours, or outlines?*",
                "モデルは線を引きません。ただのノイズから始め、1 ステップごとに「この中に隠れて"
                "いるきれいな"
                "絵」を推測し、ノイズを少しだけ取り除きます。下に並ぶのはその推測です。モデルが"
                "扱う小さな"
                "**潜在表現**を色に直し、大きく見せています。最後の潜在表現をオートエンコーダー"
                "が絵に仕上げます。\n\n"
                "*観察：先に決まるのは場所と色ですか、輪郭ですか。*",
                "模型並不會畫線。它從純粹的雜訊開始，每一步都猜測「裡面藏著怎樣的乾淨圖片」，再"
                "去掉一點雜訊。"
                "下面排列的就是這些猜測：把模型處理的小小**潛在表示**換成顏色並放大。"
                "最後由自動編碼器把潛在表示變成完成的圖。\n\n"
                "*觀察：先確定的是位置和顏色，還是輪廓？*",
            ),
            "way",
        ),
        Lesson(
            "steps",
            ("2. How many steps?", "2. ステップは何回？", "2. 要走幾步？"),
            (
                "Each step costs the same time. With one step the guess is blurred, as it has "
                "to suit "
                "everything that the noise could become. More steps correct it; at some point "
                "nothing "
                "changes any more, and further ones are wasted.\n\n"
                "*Look for: from which number on can you no longer tell the pictures apart?*",
                "1 ステップにかかる時間は同じです。1 回だけでは、ノイズがなり得るすべてに合わせ"
                "るため、"
                "推測はぼやけます。増やすほど直りますが、ある所からは変わらず、残りは無駄になり"
                "ます。\n\n"
                "*観察：何回目から見分けがつかなくなりますか。*",
                "每一步花的時間相同。只走一步時，猜測必須顧及雜訊可能變成的一切，所以模糊。"
                "步數越多修正越好；到某個程度後不再變化，多走也是浪費。\n\n"
                "*觀察：從幾步開始就分不出差別了？*",
            ),
            axis=lambda prompt, seed: "ddim_steps: 1, 2, 4, 8, 16, 32",  # noqa: ARG005
        ),
        Lesson(
            "guidance",
            ("3. Guidance", "3. ガイダンス", "3. 引導強度"),
            (
                "At each step the model guesses twice: with your prompt, and without. "
                "**Guidance** "
                "goes further in the direction from the one to the other. At 1 the prompt is "
                "only "
                "asked; higher values insist on it, until colours burn and pictures look alike."
                "\n\n"
                "*Look for: where is the subject clearest before the colours break?*",
                "モデルは毎ステップ、プロンプトありとなしで 2 回推測します。**ガイダンス**は、"
                "なしからありへの"
                "方向にさらに進めます。1 では軽く参考にするだけ、上げるほど強く従い、やがて色が"
                "焼けて"
                "どれも似た絵になります。\n\n"
                "*観察：色が壊れる前で、いちばんはっきり描けているのはどれですか。*",
                "模型每一步都猜兩次：有提示詞，以及沒有提示詞。**引導**會沿著兩者的差別方向走得"
                "更遠。"
                "1 只是參考，越高越堅持，直到顏色過飽和、圖片都變得相似。\n\n"
                "*觀察：在顏色壞掉之前，哪一張的主題最清楚？*",
            ),
            axis=lambda prompt, seed: "scale: 1, 2, 3, 5, 9, 16",  # noqa: ARG005
        ),
        Lesson(
            "seeds",
            ("4. Seeds", "4. シード", "4. 種子"),
            (
                "The noise at the start is made from a number, the **seed**. Everything else is "
                "arithmetic: the same seed, prompt and settings give the same picture, to the "
                "last "
                "bit. Another seed is another noise, and another picture for the same words.\n\n"
                "*Look for: what do all of them share? That comes from your words.*",
                "最初のノイズは**シード**という数から作られます。あとはすべて計算なので、同じシ"
                "ード・"
                "プロンプト・設定なら最後の 1 ビットまで同じ絵になります。シードを変えるとノイ"
                "ズが変わり、"
                "同じことばでも別の絵になります。\n\n"
                "*観察：全部に共通するものは何ですか。それがことばから来たものです。*",
                "一開始的雜訊是由一個數字「**種子**」產生的。其餘都是計算：種子、提示詞和設定相"
                "同，"
                "畫出來的圖就完全相同。換一個種子就是另一份雜訊，同樣的文字也會變成另一張圖。\n\n"
                "*觀察：它們有什麼共通點？那就是來自文字的部分。*",
            ),
            axis=lambda prompt, seed: f"seed: {seed}-{seed + SEEDS - 1}",  # noqa: ARG005
        ),
        Lesson(
            "words",
            ("5. Word by word", "5. ことばを一つずつ", "5. 逐字增加"),
            (
                "Your prompt is cut into **tokens**, and each becomes a list of numbers that the "
                "model looks at while it draws. Here the prompt grows from its first words to "
                "all of "
                "them, from the same noise.\n\n"
                "*Look for: which word changes most? What does the model draw where you say lit"
                "tle?*",
                "プロンプトは**トークン**に分けられ、それぞれが数の並びになり、モデルは描きなが"
                "らそれを見ます。"
                "ここでは同じノイズから、最初のことばだけのプロンプトを少しずつ全文まで伸ばしま"
                "す。\n\n"
                "*観察：いちばん絵を変えたことばは何ですか。少ししか言わないと何が描かれますか"
                "。*",
                "提示詞會被切成**詞元**，每個詞元變成一串數字，模型一邊畫一邊看。"
                "這裡用同一份雜訊，讓提示詞從開頭幾個字逐漸增加到全部。\n\n"
                "*觀察：哪個詞的影響最大？說得少的時候，模型會畫什麼？*",
            ),
            axis=lambda prompt, seed: f"prompt: {_listed(parts(prompt))}",  # noqa: ARG005
            begins=lambda prompt: parts(prompt)[0],
        ),
        Lesson(
            "looks",
            ("6. Where words look", "6. ことばはどこを見る", "6. 文字在看哪裡"),
            (
                "In its **attention** layers every place of the picture asks every word how "
                "much it "
                "matters there. The maps show the answers, averaged over all steps: bright "
                "where a "
                "word matters. The tab Edit uses this to change one word and keep the rest.\n\n"
                "*Look for: do nouns light up where the thing is? And colours, and small words?*",
                "**アテンション**層では、絵のそれぞれの場所が、どのことばがどれだけ関係するかを"
                "問い合わせます。"
                "図は全ステップの平均で、ことばが効いている所が明るくなります。「編集」タブはこ"
                "れを使い、"
                "一つのことばだけを変えて残りを保ちます。\n\n"
                "*観察：名詞は物のある所で光りますか。色や小さなことばはどうですか。*",
                "在**注意力**層裡，圖的每個位置都會問每個詞在那裡有多重要。圖上是所有步驟的平均，"
                "詞起作用的地方會發亮。「編輯」分頁就是靠這個只改一個詞、保留其他部分。\n\n"
                "*觀察：名詞會在物體所在處發亮嗎？顏色和小詞呢？*",
            ),
            "looks",
        ),
    )
}
