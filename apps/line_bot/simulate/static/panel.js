// The side panel: switches as they stand, the quota used, and the bot's calls.

import { element } from "./messages.js";
import { say } from "./texts.js";

// Show the stand-in's switches; what is being edited is left alone.
export function fill(news) {
  const form = document.getElementById("switches");
  for (const field of form.elements) {
    if (!field.name || field === document.activeElement) continue;
    const value = news.switches[field.name];
    if (field.type === "checkbox") field.checked = value;
    else field.value = value === null ? "" : field.name === "down_for" ? Math.ceil(value) : value;
  }
  const most = news.switches.quota;
  document.getElementById("pushed").textContent = say("pushed", news.pushed, most);
  document.getElementById("used").hidden = most === null;
  document.getElementById("used").max = Math.max(1, most ?? 1);
  document.getElementById("used").value = news.pushed;
  document.getElementById("undelivered").textContent = say("undelivered", news.undelivered);
  document.getElementById("undelivered").hidden = news.undelivered === 0;
  fillCalls(news.calls);
}

function fillCalls(calls) {
  const rows = calls.toReversed().map((call) => {
    const row = element("li", call.status < 300 ? "good" : "bad");
    const path = call.path.replace("/v2/bot/", "");
    row.append(element("b", "", String(call.status)), element("span", "", path));
    row.title = `${call.method} ${call.path}`;
    return row;
  });
  document.getElementById("calls").replaceChildren(...(rows.length ? rows : [element("li", "note", say("noCalls"))]));
}

// Return the change that a field of the panel means.
export function readSwitch(field) {
  if (field.type === "checkbox") return { [field.name]: field.checked };
  if (field.name === "quota" && field.value === "") return { quota: null };
  return { [field.name]: Number(field.value) };
}
