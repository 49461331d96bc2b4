"""What the tabs Gallery, Sweep, Learn and Feedback, the menu and the shelf say; see ``words``."""

from __future__ import annotations

from collections.abc import Mapping

# Key -> English, Japanese, Traditional Chinese; {names} are filled in.
PHRASES: Mapping[str, tuple[str, str, str]] = {
    "feedback": ("Feedback", "感想", "意見"),
    # The gallery.
    "gallery_hint": (
        "All pictures of the studio. Click one to see how it was made.",
        "このスタジオの絵がすべてあります。クリックすると作り方が出ます。",
        "這裡有畫室的所有圖片。點一張就能看到做法。",
    ),
    "search": ("Search", "さがす", "搜尋"),
    "search_info": (
        'words of the recipe: cat -fog "red hat" sampler:ddim seed:42',
        '作り方のことば：cat -fog "red hat" sampler:ddim seed:42',
        '配方裡的文字：cat -fog "red hat" sampler:ddim seed:42',
    ),
    "find": ("Find", "さがす", "搜尋"),
    "newer": ("◀ Newer", "◀ 新しい", "◀ 較新"),
    "older": ("Older ▶", "古い ▶", "較舊 ▶"),
    "found": (
        "{n}, page {page} of {pages}",
        "{n}、{page} / {pages} ページ",
        "{n}，第 {page} / {pages} 頁",
    ),
    "album": ("Pictures", "絵", "圖片"),
    "again": ("Draw it again", "もう一度描く", "再畫一次"),
    "use_recipe": ("Use its settings", "この設定を使う", "使用它的設定"),
    "throw": ("🗑 Throw away", "🗑 捨てる", "🗑 丟掉"),
    "thrown": (
        "{name} is in the bin.",
        "{name} をごみ箱に入れました。",
        "{name} 已放進垃圾桶。",
    ),
    "bin": ("Bin", "ごみ箱", "垃圾桶"),
    "bin_list": ("Pictures in the bin", "ごみ箱の絵", "垃圾桶裡的圖"),
    "bin_count": ("{n} in the bin.", "ごみ箱に{n}。", "垃圾桶裡有{n}。"),
    "restore": ("Put it back", "元に戻す", "放回去"),
    "restored": ("{name} is back.", "{name} を戻しました。", "{name} 已放回。"),
    "empty": ("Delete all of them for good", "すべて完全に消す", "全部永久刪除"),
    "sure": (
        "Yes, delete them: nobody can bring them back",
        "はい、消します（元に戻せません）",
        "是的，刪除（無法復原）",
    ),
    "not_sure": (
        "Nothing was deleted: tick the box first.",
        "何も消していません。先にチェックを入れてください。",
        "沒有刪除任何東西：請先勾選。",
    ),
    "emptied": ("{n} deleted.", "{n}を消しました。", "已刪除{n}。"),
    "none_chosen": (
        "Choose a picture first.",
        "先に絵を選んでください。",
        "請先選一張圖。",
    ),
    # A dropped picture.
    "drop": (
        "Drop a picture: its recipe fills the fields",
        "絵をここに置くと、作り方が欄に入ります",
        "把圖片放到這裡，配方會填入欄位",
    ),
    "read_by": (
        "Made by {source}; {n} settings are in the tab {tab}.",
        "{source} の絵です。「{tab}」タブに設定を {n} 個入れました。",
        "由 {source} 製作；已把 {n} 個設定填入「{tab}」分頁。",
    ),
    "not_understood": ("What was not taken over:", "引き継げなかったもの：", "沒有帶過來的："),
    # A sweep.
    "sweep_hint": (
        "One picture for each combination of settings, on one sheet. An axis is a setting and "
        "its "
        "values: `scale: 1-9 [5]`, `seed: 1-10 (+3)`, `sampler: ddim, DPM++ 2M`, "
        "`prompt: panda, cat` (the first is replaced).",
        "設定の組み合わせごとに 1 枚描き、1 枚の表に並べます。軸は設定と値です：`scale: 1-9 [5]"
        "`、"
        "`seed: 1-10 (+3)`、`sampler: ddim, DPM++ 2M`、`prompt: panda, cat`（最初の語を置き換え"
        "）。",
        "每種設定組合各畫一張，排成一張表。軸是設定和它的值：`scale: 1-9 [5]`、`seed: 1-10 (+3)"
        "`、"
        "`sampler: ddim, DPM++ 2M`、`prompt: panda, cat`（取代第一個詞）。",
    ),
    "axis_x": ("X: from column to column", "X：列ごとに", "X：逐欄變化"),
    "axis_y": ("Y: from row to row", "Y：行ごとに", "Y：逐列變化"),
    "axis_z": ("Z: from block to block", "Z：ブロックごとに", "Z：逐區變化"),
    "estimate": (
        "{n} ({sides}), {steps} steps, about {s} s.",
        "{n}（{sides}）、{steps} ステップ、約 {s} 秒。",
        "{n}（{sides}），{steps} 步，約 {s} 秒。",
    ),
    "estimate_unknown": (
        "{n} ({sides}), {steps} steps; how long that takes is known after the first sweep.",
        "{n}（{sides}）、{steps} ステップ。かかる時間は最初の比較のあとで分かります。",
        "{n}（{sides}），{steps} 步；所需時間在第一次比較後才知道。",
    ),
    "table": ("Table of the sheet", "表のデータ", "表格資料"),
    "save_table": ("Save the table (CSV)", "表を保存（CSV）", "儲存表格（CSV）"),
    # The lessons.
    "learn_hint": (
        "Six short lessons; each draws its example when you press the button. Change the prompt "
        "and the seed, and look again.",
        "短いレッスンが六つあります。ボタンを押すと例を描きます。プロンプトやシードを変えて、見"
        "比べてください。",
        "六個短課程；按下按鈕就會畫出例子。改變提示詞和種子，再看一次。",
    ),
    "lesson": ("Lesson", "レッスン", "課程"),
    "show_me": ("Show me", "描いて見せる", "畫給我看"),
    "no_preview": (
        "this model has no factors for small pictures of its latents; expected some in its YAML "
        "(preview); choose another lesson, or another model",
        "このモデルには潜在表現を色に直す係数がありません（YAML の preview）。ほかのレッスンか"
        "モデルを"
        "選んでください",
        "這個模型沒有把潛在表示換成顏色的係數（YAML 的 preview）；請選別的課程或模型",
    ),
    # Feedback.
    "feedback_hint": (
        "Thumbs, stars and notes are given below each picture. Here they are counted, and handed "
        "on: as a table, or as a folder of good pictures that a model can be trained on.",
        "親指・星・メモは、それぞれの絵の下で付けます。ここでは数を見て、表として、または学習に"
        "使える"
        "「良い絵」のフォルダーとして取り出せます。",
        "大拇指、星星和備註都在每張圖下面填寫。這裡可以看統計，並匯出成表格，或匯出成可用來訓練"
        "模型的好圖資料夾。",
    ),
    "your_name": ("Your name", "お名前", "你的名字"),
    "your_name_info": (
        "each person has one opinion of a picture; empty: nobody in particular",
        "一人につき、絵ごとに感想は一つです。空欄は名前なし",
        "每個人對一張圖只有一個意見；留空表示不具名",
    ),
    "opinion": ("What do you think of it?", "この絵はどうですか？", "你覺得這張圖如何？"),
    "stars": ("Stars", "星", "星星"),
    "note": ("Note", "メモ", "備註"),
    "keep_note": ("Keep the note", "メモを残す", "保留備註"),
    "thumb_up": ("👍 Good", "👍 良い", "👍 好"),
    "thumb_down": ("👎 Bad", "👎 良くない", "👎 不好"),
    "kept_opinion": ("Kept: {signs}", "残しました：{signs}", "已保留：{signs}"),
    "judged": (
        "Opinions: {opinions}, about {n}; good: {good}.",
        "{n}に感想が {opinions} 件、良い絵は {good} 枚。",
        "{n}共有 {opinions} 則意見，好圖 {good} 張。",
    ),
    "refresh": ("⟳ Count again", "⟳ 数え直す", "⟳ 重新統計"),
    "least_stars": ("Stars that are good", "良いとする星の数", "幾顆星算好"),
    "export_table": ("Make the table", "表を作る", "製作表格"),
    "export_folder": ("Copy the good ones", "良い絵を集める", "複製好圖"),
    "exported": (
        "{n} with their prompts are in {folder}. To train on them (the bundled model):",
        "{n}をプロンプトと一緒に {folder} に入れました。学習するには（同梱モデル）：",
        "{n}與提示詞已放進 {folder}。要用它們訓練（內附模型）：",
    ),
    # The menu of models, and the shelf.
    "model": ("Model", "モデル", "模型"),
    "load_model": ("Load", "読み込む", "載入"),
    "loading": ("Loading {name} …", "{name} を読み込んでいます …", "正在載入 {name} …"),
    "loaded": ("{name} is loaded.", "{name} を読み込みました。", "已載入 {name}。"),
    "shelf": ("LoRA and embeddings", "LoRA と埋め込み", "LoRA 與嵌入"),
    "shelf_info": ("what lies in models/", "models/ にあるもの", "models/ 裡的檔案"),
    "insert": ("Put it into the prompt", "プロンプトに入れる", "加入提示詞"),
    "made_for": ("made for {base}", "対象：{base}", "適用：{base}"),
    "wakes": ("trigger words: {words}", "トリガーワード：{words}", "觸發詞：{words}"),
}
