// What a page does by itself: keeps what was entered and drawn over a reload, draws at Ctrl+Enter,
// and says what the server cannot: that an upload is no picture, or that the server is gone.
//
// `window.page` holds { kept: the name to keep under, texts: { language: { key: text } } }.
(() => {
  "use strict";
  const page = window.page;
  const EVERY = 3000; // milliseconds between two looks whether the server is there
  const HALF = 128; // from this opacity on, what is painted marks a pixel
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
  // painted on it where that is part of it. A mask's strokes come back in the field for masks: the
  // editor would show them, and lose them at the next stroke.
  let brought = false; // what is kept until then is of before
  const untouched = (picture, masked) => {
    const file = masked ? picture.background : picture.composite ?? picture.background;
    return { background: file, layers: [], composite: file };
  };
  page.keepGiven = (names, held) => {
    const files = Object.fromEntries(names.map((name, k) => [name, held[k]]));
    if (brought) keep({ given: { ...read().given, ...files } });
    return held;
  };
  page.bringGiven = async (names) => {
    const { given = {} } = read();
    for (const name of names.filter((each) => each.endsWith("picture"))) {
      const mask = maskOf(name);
      if (names.includes(mask)) given[mask] = await withStrokes(given[name], given[mask]);
    }
    const values = names.map((name) =>
      given[name]?.background ? untouched(given[name], names.includes(maskOf(name))) : given[name]);
    const there = await Promise.all(values.map((value) => isThere(value?.background ?? value)));
    brought = true;
    return values.map((value, k) => (there[k] ? value : null));
  };

  const maskOf = (name) => name.replace(/picture$/, "mask");
  const bitmap = async (file) => createImageBitmap(await (await ask(file.url)).blob());
  // A mask, white where something is painted and where the one from before is white.
  const withStrokes = async (picture, before) => {
    const layers = (picture?.layers || []).filter((each) => each?.url);
    try {
      const strokes = await Promise.all(layers.map(bitmap));
      if (!strokes.length || !(await isThere(picture.background))) return before;
      const { width, height } = strokes[0];
      const canvas = Object.assign(document.createElement("canvas"), { width, height });
      const pen = canvas.getContext("2d", { willReadFrequently: true });
      strokes.forEach((each) => pen.drawImage(each, 0, 0));
      const painted = pen.getImageData(0, 0, width, height);
      pen.fillRect(0, 0, width, height);
      if (await isThere(before)) pen.drawImage(await bitmap(before), 0, 0, width, height);
      const mask = pen.getImageData(0, 0, width, height);
      let any = false;
      for (let k = 3; k < painted.data.length; k += 4) {
        if (painted.data[k] < HALF) continue;
        mask.data.fill(255, k - 3, k + 1);
        any = true;
      }
      if (!any) return before;
      pen.putImageData(mask, 0, 0);
      const made = await uploaded(await new Promise((done) => canvas.toBlob(done, "image/png")));
      tell("upload-trouble", said("strokes"));
      return made;
    } catch {
      return before; // a file is gone, or the server is
    }
  };
  const uploaded = async (blob) => {
    const form = new FormData();
    form.append("files", blob, "mask.png");
    const place = new URL("gradio_api/upload", location.href);
    const [path] = await (await ask(place, { method: "POST", body: form })).json();
    const url = String(new URL(`gradio_api/file=${path}`, location.href));
    return { path, url, mime_type: "image/png", meta: { _type: "gradio.FileData" } };
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
