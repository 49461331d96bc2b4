// What a page does by itself: keeps what was entered and drawn over a reload, draws at Ctrl+Enter,
// and says what the server cannot: that an upload is no picture, or that the server is gone.
//
// `window.page` holds { kept: the name to keep under, texts: { language: { key: text } } }.
(() => {
  "use strict";
  const page = window.page;
  const EVERY = 3000; // milliseconds between two looks whether the server is there
  const PATIENCE = 5000; // milliseconds that an answer may take
  const language = (navigator.languages || [navigator.language])
    .map((each) => each.slice(0, 2).toLowerCase())
    .find((each) => each in page.texts) || "en";

  document.documentElement.lang = { zh: "zh-Hant" }[language] || language;

  const said = (key, values = {}) =>
    page.texts[language][key].replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

  // --- what is kept ---

  const read = () => {
    try {
      return JSON.parse(localStorage.getItem(page.kept)) || {};
    } catch {
      return {}; // storage is off, or holds something else
    }
  };
  const keep = (more) => {
    try {
      localStorage.setItem(page.kept, JSON.stringify({ ...read(), ...more }));
    } catch {
      // storage is off or full: the page works as before, it only forgets
    }
  };
  // A picture of before may be gone: the server was started anew, or its folder was tidied.
  const isThere = async (file) => {
    try {
      return file?.url && (await ask(file.url, { method: "HEAD" })).ok;
    } catch {
      return false;
    }
  };
  const still = async (gallery) => {
    const there = await Promise.all((gallery || []).map((each) => isThere(each?.image)));
    return (gallery || []).filter((_, number) => there[number]);
  };

  let first = null; // what the controls hold on a page that was never used
  page.keep = (names, held) => {
    if (!first) return []; // not yet brought back
    keep({ controls: Object.fromEntries(names.map((name, number) => [name, held[number]])) });
    return [];
  };
  page.keepDrawn = (gallery, seed, parameters) => {
    if (first && gallery?.length) keep({ drawn: { gallery, seed, parameters } });
    return [];
  };
  page.bringBack = async (names, held) => {
    const { controls = {}, drawn = null } = read();
    const values = names.map((name, number) => controls[name] ?? held[number]);
    const [gallery, seed, parameters] = held.slice(names.length);
    const pictures = drawn ? await still(drawn.gallery) : [];
    first = held.slice(0, names.length);
    if (!pictures.length) return [...values, gallery, seed, parameters];
    return [...values, pictures, drawn.seed, drawn.parameters];
  };
  page.reset = () => first;

  // Uploads stay on the server for a while. What is brought back is the picture: with what was
  // painted on it where that is part of it; a mask's strokes would come back in other places.
  const untouched = (picture, masked) => {
    const file = masked ? picture.background : picture.composite ?? picture.background;
    return { background: file, layers: [], composite: file };
  };
  page.keepGiven = (names, held) => {
    if (first) keep({ given: Object.fromEntries(names.map((name, k) => [name, held[k]])) });
    return held;
  };
  page.bringGiven = async (names) => {
    const { given = {} } = read();
    const values = names.map((name) =>
      given[name]?.background ? untouched(given[name], names.includes("mask")) : given[name]);
    const there = await Promise.all(values.map((value) => isThere(value?.background ?? value)));
    return values.map((value, k) => (there[k] ? value : null));
  };

  // --- what is said ---

  const tell = (where, text, reload = false) => {
    const place = document.querySelector(`#${where} [role=alert]`);
    if (!place) return;
    place.replaceChildren();
    if (!text) return;
    const box = document.createElement("div");
    box.className = "told";
    box.append(Object.assign(document.createElement("span"), { textContent: text }));
    const button = document.createElement("button");
    button.textContent = reload ? said("reload") : "✕";
    if (!reload) button.setAttribute("aria-label", said("close"));
    button.onclick = () => (reload ? location.reload() : tell(where, ""));
    box.append(button);
    place.append(box);
  };

  // --- uploads ---

  const check = async (files) => {
    for (const file of files) {
      try {
        (await createImageBitmap(file)).close();
        tell("upload-trouble", "");
      } catch {
        tell("upload-trouble", said("no_picture", { name: file.name }));
      }
    }
  };
  document.addEventListener("change", (event) => {
    if (event.target.type === "file") check([...event.target.files]);
  }, true);
  document.addEventListener("drop", (event) => check([...event.dataTransfer.files]), true);

  // --- whether the server is there ---

  const ask = window.fetch.bind(window);
  const isUpload = (url) => url.includes("/gradio_api/upload?") || url.endsWith("/gradio_api/upload");
  let gone = false;
  window.fetch = async (what, how) => {
    const url = String(what?.url ?? what);
    try {
      const answer = await ask(what, how);
      if (isUpload(url) && !answer.ok) refused(answer.clone(), how);
      return answer;
    } catch (error) {
      if (error.name !== "AbortError" && url.includes("/gradio_api/")) look();
      throw error;
    }
  };
  const refused = async (answer, how) => {
    const name = how?.body?.get?.("files")?.name ?? "";
    let why = answer.statusText;
    try {
      why = (await answer.json()).detail ?? why;
    } catch {
      // a proxy answered in its own words
    }
    tell("upload-trouble", said("not_taken", { name, why }));
  };
  const look = async () => {
    let server = null;
    try {
      const address = new URL("gradio_api/app_id", location.href);
      const answer = await ask(address, { signal: AbortSignal.timeout(PATIENCE) });
      if (answer.ok) server = String((await answer.json()).app_id);
    } catch {
      // nobody answers
    }
    const anew = server !== null && server !== String(window.gradio_config?.app_id);
    if (server === null && !gone) tell("trouble", said("gone"));
    else if (anew) tell("trouble", said("anew"), true);
    else if (server !== null && gone) tell("trouble", "");
    gone = server === null;
    document.body.classList.toggle("gone", gone || anew);
  };
  // The studio has one of each on every tab, of which one tab is seen.
  const shown = (name) =>
    [...document.querySelectorAll(`#${name}, .${name}`)].find((each) => each.offsetParent);
  setInterval(() => {
    if (gone || shown("cancel")) look();
  }, EVERY);

  // --- for who listens to the page ---

  // gradio names some of its elements by other words than stand on them, or gives them none that
  // a screen reader may use.
  const name = (element) => {
    const label = element.getAttribute("aria-label");
    const text = element.textContent.trim();
    if (element.matches("div:not([role])")) element.setAttribute("role", "img");
    else if (element.matches("button.upload-container") && text) element.removeAttribute("aria-label");
    else if (element.matches("button.thumbnail-item") && text && !label.includes(text)) {
      element.setAttribute("aria-label", `${text}, ${label}`);
    }
  };
  const listened = "div.empty[aria-label], button.upload-container, button.thumbnail-item";
  const nameAll = () => document.querySelectorAll(listened).forEach((each) => {
    if (each.hasAttribute("aria-label")) name(each);
  });
  const watched = { subtree: true, childList: true, attributeFilter: ["aria-label"] };
  new MutationObserver(nameAll).observe(document, watched);

  // --- keys ---

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !shown("draw")) return;
    event.preventDefault();
    event.target.blur?.(); // so that what is typed is sent
    setTimeout(() => shown("draw")?.click(), 50);
  }, true);
})();
