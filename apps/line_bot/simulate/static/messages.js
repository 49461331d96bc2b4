// The messages of a chat. Every text is set as text, never as markup.

import { say } from "./texts.js";

const shown = { key: "", last: 0 };
const list = document.getElementById("messages");
const NEAR = 80; // pixels from the end that still count as reading the newest

// Whoever reads the newest message stays there when a picture or the buttons take their room.
let atEnd = true;
const goToEnd = () => { list.scrollTop = list.scrollHeight; };
list.addEventListener("scroll", () => { atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR; });
new ResizeObserver(() => { if (atEnd) goToEnd(); }).observe(list);

// Make an element with a class and a text.
export function element(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

// Show a chat as its user sees it; `does` says what pressing a quick reply and taking back do.
export function show(news, user, does) {
  const key = JSON.stringify([document.documentElement.lang, user, news.messages, news.loading > 0]);
  if (key === shown.key) return;
  shown.key = key;
  const rows = news.messages.map((message) => kept(message, user) ?? row(message, user, does));
  if (!rows.length) rows.push(element("li", "note", say("empty")));
  if (news.loading > 0) rows.push(dots(news.loading));
  quickReplies(news.messages.at(-1), does.press);
  const last = news.messages.at(-1)?.number ?? 0;
  atEnd = atEnd || last !== shown.last;
  shown.last = last;
  list.replaceChildren(...rows);
  if (atEnd) goToEnd();
}

// Return the row that already shows a message as it is: its picture need not be fetched again.
function kept(message, user) {
  const key = rowKey(message, user);
  return [...list.children].find((each) => each.dataset.key === key);
}

function rowKey(message, user) {
  const { number, unsent, read } = message;
  return JSON.stringify([number, unsent, read, user, document.documentElement.lang]);
}

function row(message, user, does) {
  if (message.unsent) return keyed(element("li", "note", say("unsent")), message, user);
  const mine = message.from === user;
  const line = element("li", mine ? "mine" : "theirs");
  line.dataset.type = message.type;
  if (message.from === null) line.append(element("span", "face bot"));
  const column = element("div", "column");
  if (!mine && message.name) column.append(element("span", "name", message.name));
  column.append(body(message));
  line.append(column, side(message, mine, does.unsend));
  return keyed(line, message, user);
}

function keyed(line, message, user) {
  line.dataset.key = rowKey(message, user);
  return line;
}

function side(message, mine, unsend) {
  const beside = element("div", "side");
  if (mine && message.way === "say") {
    const button = element("button", "quiet", say("unsend"));
    button.type = "button";
    button.addEventListener("click", () => unsend(message.id));
    beside.append(button);
  }
  if (mine && message.read) beside.append(element("span", "", say("read")));
  if (message.from === null) beside.append(element("span", `way ${message.way}`, message.way));
  const time = new Date(message.time * 1000);
  beside.append(element("time", "", time.toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" })));
  return beside;
}

function body(message) {
  if (message.type === "image") return picture(message);
  if (message.type === "sticker") return element("div", "bubble sticker", `☺ ${say("stickerText")}`);
  return element("div", "bubble", message.text || `[${message.type}]`);
}

function picture(message) {
  const link = element("a", "picture");
  link.href = `/page/picture/${message.id}/original`;
  link.target = "_blank";
  link.rel = "noopener";
  const image = element("img");
  image.alt = say("picture");
  image.addEventListener("load", () => { if (atEnd) goToEnd(); });
  image.addEventListener("error", async () => {
    const reason = await fetch(image.src).then((answer) => answer.json()).catch(() => ({}));
    link.replaceWith(element("div", "bubble broken", `${say("badPicture")}: ${reason.message ?? ""}`));
  });
  image.src = `/page/picture/${message.id}/preview`;
  link.append(image);
  return link;
}

function dots(seconds) {
  const line = element("li", "theirs loading");
  const bubble = element("div", "bubble dots");
  bubble.setAttribute("aria-label", say("loading"));
  bubble.append(element("i"), element("i"), element("i"));
  line.append(element("span", "face bot"), bubble);
  setTimeout(() => line.remove(), seconds * 1000);
  return line;
}

// As in LINE, the buttons are there only while their message is the last one.
function quickReplies(last, press) {
  const quick = document.getElementById("quick");
  const items = last && last.from === null ? last.quickReply : [];
  quick.replaceChildren(...items.map(({ action }) => {
    if (action.type === "uri") return outside(action);
    const button = element("button", "", action.label);
    button.type = "button";
    button.addEventListener("click", () => press(action));
    return button;
  }));
  quick.hidden = !items.length;
}

function outside(action) {
  const link = element("a", "", action.label);
  if (/^https:\/\//i.test(action.uri)) link.href = action.uri;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  return link;
}
