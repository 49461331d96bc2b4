// The chat page: who is chosen, what is typed, and news from the stand-in as it comes.

import { element, show } from "./messages.js";
import { fill, readSwitch } from "./panel.js";
import { say, speak } from "./texts.js";

const one = (id) => document.getElementById(id);
const state = { bot: "", chats: [], chat: null, version: -1, news: null, seen: {}, asking: null };

async function call(path, body, type = "application/json") {
  const content = type === "application/json" ? JSON.stringify(body) : body;
  const answer = await fetch(`/page/${path}`, { method: "POST", headers: { "content-type": type }, body: content });
  const said = await answer.json();
  if (!answer.ok) throw new Error(typeof said.message === "string" ? said.message : JSON.stringify(said));
  return said;
}

// Do what a button asks; say on the page what went wrong.
async function act(path, body, type) {
  try {
    const became = await call(path, body, type);
    notice(became.arrived === false ? `${say("fault")}: ${became.fault}` : "");
    return true;
  } catch (error) {
    notice(`${say("failed")}: ${error.message}`);
    return false;
  }
}

function notice(text) {
  one("notice").textContent = text;
  one("notice").hidden = text === "";
}

const speaker = () => state.chat.members.find((each) => each.id === one("speaker").value);
const here = () => ({ user: speaker().id, chat: state.chat.id });

function faceOf(name, place) {
  const face = element("span", "face", [...name][0]);
  face.dataset.colour = place % 6;
  face.setAttribute("aria-hidden", "true");
  return face;
}

function listChats() {
  one("people").replaceChildren(...state.chats.map((chat, place) => {
    const button = element("button", chat === state.chat ? "chosen" : "");
    button.type = "button";
    button.dataset.chat = chat.id;
    const words = element("span", "words");
    const languages = chat.members.map((each) => each.language ?? "–").join(", ");
    words.append(element("b", "", chat.name), element("small", "", chat.kind === "user" ? languages : `${say("group")}, ${chat.members.length}`));
    button.append(faceOf(chat.name, place), words);
    const last = state.news?.last[chat.id] ?? 0;
    if (chat !== state.chat && last > (state.seen[chat.id] ?? 0)) button.append(element("i", "unread"));
    button.addEventListener("click", () => choose(chat));
    return button;
  }));
}

function choose(chat) {
  state.chat = chat;
  state.version = -1;
  one("speaker").replaceChildren(...chat.members.map((each) => new Option(each.name, each.id)));
  const alone = chat.kind === "user";
  one("speaker-row").hidden = alone;
  one("mention-row").hidden = alone;
  one("block").hidden = !alone;
  notice("");
  address();
  state.asking?.abort();
}

// Speak the language of whoever speaks.
function address() {
  speak(speaker().language);
  one("bot").textContent = state.bot;
  one("mention-name").textContent = `@${state.bot}`;
  one("place").textContent = state.chat.kind === "user" ? `${state.chat.name} · ${say("user")}` : `${state.chat.name} · ${say("group")}`;
  one("text").placeholder = say("type");
  listChats();
  if (state.news) draw();
}

function draw() {
  const { news, chat } = state;
  show(news, here().user, {
    press: (action) => press(action),
    unsend: (message) => act("act", { ...here(), act: "unsend", message }),
  });
  fill(news);
  one("block").textContent = say(news.blocked ? "unblock" : "block");
  one("place").classList.toggle("warning", news.blocked);
  if (news.blocked) one("place").textContent = say("blocked");
  else one("place").textContent = `${chat.name} · ${say(chat.kind === "user" ? "user" : "group")}`;
  state.seen[chat.id] = news.last[chat.id] ?? 0;
  listChats();
}

function press(action) {
  if (action.type === "message") return act("say", { ...here(), text: action.text });
  if (action.type === "postback") return act("press", { ...here(), data: action.data, shown: action.displayText ?? null });
  if (action.type === "cameraRoll" || action.type === "camera") return one("photo").click();
  return notice(`${say("failed")}: ${action.type}`);
}

// Ask for news for as long as the page is open; choosing another chat asks anew.
async function follow() {
  for (;;) {
    const chat = state.chat;
    state.asking = new AbortController();
    try {
      const address = `/page/news?chat=${chat.id}&version=${state.version}`;
      const answer = await fetch(address, { signal: state.asking.signal });
      const news = await answer.json();
      if (chat !== state.chat) continue;
      if (one("notice").dataset.gone) { delete one("notice").dataset.gone; notice(""); }
      state.news = news;
      state.version = news.version;
      draw();
    } catch (error) {
      if (error.name === "AbortError") continue;
      notice(say("gone"));
      one("notice").dataset.gone = "yes";
      await new Promise((wake) => setTimeout(wake, 1000));
    }
  }
}

async function send() {
  const text = one("text").value;
  if (!text.trim()) return;
  one("text").value = "";
  grow();
  const mention = state.chat.kind !== "user" && one("mention").checked;
  if (!(await act("say", { ...here(), text, mention })) && !one("text").value) one("text").value = text;
}

function grow() {
  one("text").style.height = "auto";
  one("text").style.height = `${Math.min(one("text").scrollHeight, 160)}px`;
}

function listen() {
  one("compose").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  one("text").addEventListener("input", grow);
  one("text").addEventListener("keydown", (event) => {
    // Enter that ends a Japanese or Chinese conversion is not meant to send.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  one("photo").addEventListener("change", async () => {
    const [file] = one("photo").files;
    const { user, chat } = here();
    if (file) await act(`photo?user=${user}&chat=${chat}`, file, file.type);
    one("photo").value = "";
  });
  one("sticker").addEventListener("click", () => act("act", { ...here(), act: "sticker" }));
  one("block").addEventListener("click", () => act("act", { ...here(), act: state.news?.blocked ? "follow" : "unfollow" }));
  one("speaker").addEventListener("change", address);
  one("switches").addEventListener("submit", (event) => event.preventDefault());
  one("switches").addEventListener("change", (event) => act("switches", readSwitch(event.target)));
}

async function begin() {
  const known = await (await fetch("/page/people")).json();
  state.bot = known.bot;
  state.chats = known.chats;
  listen();
  choose(state.chats[0]);
  follow();
}

begin();
