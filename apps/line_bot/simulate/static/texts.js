// What the page says, by the language of the user who is chosen.

const TEXTS = {
  ja: {
    panel: "サーバーのスイッチ", errors: "エラー", errorsLeft: "失敗する回数", errorStatus: "コード",
    lostAnswers: "届くが応答は 500（回）", downFor: "停止（秒）", latency: "遅延（秒）",
    limits: "上限", quota: "月間プッシュ数", unlimited: "無制限", tokenLifetime: "返信トークンの寿命（秒）",
    webhook: "接続", tokenValid: "アクセストークンは有効", redelivery: "Webhook を再送する",
    calls: "ボットからの呼び出し", noCalls: "まだありません", send: "送信", photo: "写真を送る", sticker: "スタンプを送る",
    type: "メッセージを入力", block: "ブロック", unblock: "ブロック解除", as: "発言者", read: "既読",
    unsent: "メッセージの送信を取り消しました", unsend: "取消", loading: "入力中", group: "グループ", user: "1対1のトーク",
    empty: "まだメッセージがありません。", badPicture: "画像を表示できません", fault: "ボットに届きませんでした",
    failed: "できませんでした", gone: "スタンドインが応答しません", blocked: "ブロック中：ボットのメッセージは届きません",
    pushed: (n, most) => `今月のプッシュ：${n}${most === null ? "" : ` / ${most}`}`,
    undelivered: (n) => `届いていない Webhook：${n} 件`, stickerText: "スタンプ", picture: "写真",
  },
  "zh-Hant": {
    panel: "伺服器開關", errors: "錯誤", errorsLeft: "失敗次數", errorStatus: "狀態碼",
    lostAnswers: "已送達但回應 500（次）", downFor: "停機（秒）", latency: "延遲（秒）",
    limits: "上限", quota: "每月推播則數", unlimited: "無上限", tokenLifetime: "回覆權杖效期（秒）",
    webhook: "連線", tokenValid: "存取權杖有效", redelivery: "重新傳送 Webhook",
    calls: "機器人的呼叫", noCalls: "尚無呼叫", send: "傳送", photo: "傳送照片", sticker: "傳送貼圖",
    type: "輸入訊息", block: "封鎖", unblock: "解除封鎖", as: "發言者", read: "已讀",
    unsent: "已收回訊息", unsend: "收回", loading: "輸入中", group: "群組", user: "一對一聊天",
    empty: "還沒有訊息。", badPicture: "無法顯示圖片", fault: "機器人沒有收到",
    failed: "無法執行", gone: "模擬伺服器沒有回應", blocked: "已封鎖：收不到機器人的訊息",
    pushed: (n, most) => `本月推播：${n}${most === null ? "" : ` / ${most}`}`,
    undelivered: (n) => `未送達的 Webhook：${n}`, stickerText: "貼圖", picture: "照片",
  },
  en: {
    panel: "The server's switches", errors: "Errors", errorsLeft: "Fail the next calls", errorStatus: "with",
    lostAnswers: "Accepted, but answered 500", downFor: "Down for (seconds)", latency: "Delay (seconds)",
    limits: "Limits", quota: "Pushes in a month", unlimited: "no limit", tokenLifetime: "Reply token lives (seconds)",
    webhook: "Connection", tokenValid: "Access token is valid", redelivery: "Redeliver webhooks",
    calls: "Calls by the bot", noCalls: "None yet", send: "Send", photo: "Send a photo", sticker: "Send a sticker",
    type: "Type a message", block: "Block", unblock: "Unblock", as: "Speaking as", read: "Read",
    unsent: "A message was taken back", unsend: "Unsend", loading: "Typing", group: "group", user: "one-to-one chat",
    empty: "No messages yet.", badPicture: "The picture cannot be shown", fault: "The bot did not take it",
    failed: "Not done", gone: "The stand-in does not answer", blocked: "Blocked: the bot's messages do not arrive",
    pushed: (n, most) => `Pushed this month: ${n}${most === null ? "" : ` of ${most}`}`,
    undelivered: (n) => `Webhooks not delivered: ${n}`, stickerText: "sticker", picture: "photo",
  },
};

let spoken = "en";

// Choose the language, and put its words where the page has places for them.
export function speak(language) {
  spoken = TEXTS[language] ? language : "en";
  document.documentElement.lang = spoken;
  for (const each of document.querySelectorAll("[data-say]")) each.textContent = say(each.dataset.say);
  for (const each of document.querySelectorAll("[data-title]")) {
    each.title = say(each.dataset.title);
    each.setAttribute("aria-label", each.title);
  }
  for (const each of document.querySelectorAll("[data-placeholder]")) each.placeholder = say(each.dataset.placeholder);
}

export function say(key, ...values) {
  const text = TEXTS[spoken][key];
  return typeof text === "function" ? text(...values) : text;
}
