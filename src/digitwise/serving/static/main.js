/** The page: what is drawn goes to the service, and what it says is shown. */

import { evidenceLayer } from "./colors.js";
import { DrawingBox } from "./drawing.js";
import { Layers } from "./layers.js";
import { LaterError, RefusedError, TokenError, bytesOf, call, token, unpack } from "./service.js";
import { WORDS, fill, percent } from "./words.js";

const HEARTBEAT = 5000; // milliseconds
const PDF = "application/pdf";
const QUIET = 700; // milliseconds without a change until a screen reader is told
const LAST = -1; // of the digits: the newest that was drawn
const LONGEST_NAME = 14; // characters of a class name beside its bar
const LONG = 14; // signs that do not fit in the largest letters

const at = (id) => document.getElementById(id);
const box = new DrawingBox(at("box"), changed);
const layers = new Layers(at("layers"), at("map"));
const state = {
  file: null, // the picture that lies in the box
  chosen: LAST,
  answer: null,
  model: null,
  isReading: false,
  isStale: false,
  announcing: 0,
};

start();

function start() {
  for (const part of document.querySelectorAll("[data-word]")) {
    part.textContent = WORDS[part.dataset.word];
  }
  for (const part of document.querySelectorAll("[data-label]")) {
    part.setAttribute("aria-label", WORDS[part.dataset.label]);
  }
  at("undo").addEventListener("click", undo);
  at("clear").addEventListener("click", clear);
  at("stroke-width").addEventListener("input", (event) => {
    box.strokeWidth = Number(event.target.value);
    changed();
    box.paint();
  });
  at("picture").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) openPicture(file);
    event.target.value = "";
  });
  at("evidence").addEventListener("change", showBoxes);
  at("wrong").addEventListener("submit", saveCorrection);
  at("token-form").addEventListener("submit", takeToken);
  at("box").addEventListener("click", (event) => {
    const digit = state.file ? box.digitAt(event) : -1;
    if (digit >= 0) choose(digit);
  });
  document.addEventListener("paste", (event) => takeFirst(event.clipboardData));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    at("box").parentElement.classList.add("over");
  });
  document.addEventListener("dragleave", () => at("box").parentElement.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    at("box").parentElement.classList.remove("over");
    takeFirst(event.dataTransfer);
  });
  show(null);
  box.paint();
  learnModel();
  setInterval(() => {
    if (!document.hidden && !state.isReading) call("healthz").then(hasAnswered, complain);
  }, HEARTBEAT);
}

/** Asks what reads; again and again until it is told. */
async function learnModel() {
  try {
    state.model = layers.model = await call("api/model");
  } catch (error) {
    complain(error);
    if (!(error instanceof TokenError)) setTimeout(learnModel, 1000);
    return;
  }
  hasAnswered();
  const { accuracy, architecture, collects, classes, dataset, parameters, version } = state.model;
  if (accuracy !== null && parameters !== null) {
    const figures = { parameters: parameters.toLocaleString("en"), accuracy: `${(100 * accuracy).toFixed(2)}%` };
    at("model").textContent = fill(WORDS.model, { architecture, dataset, version, ...figures });
  }
  at("right-digit").replaceChildren(...classes.map((name) => new Option(name)));
  at("wrong").dataset.collects = collects;
  layers.paint();
}

function undo() {
  if (state.file) state.file = null;
  box.undo();
}

function clear() {
  state.file = null;
  box.clear();
}

/** Takes the first picture of what is dropped or pasted. */
function takeFirst(transfer) {
  const file = [...(transfer?.files ?? [])].find(({ type }) => !type || type.startsWith("image/"));
  if (file) openPicture(file);
}

async function openPicture(file) {
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    if (file.type && !file.type.startsWith("image/") && file.type !== PDF) {
      at("note").textContent = fill(WORDS.noPicture, { name: file.name });
      return;
    }
    // such as HEIC or PDF: the service reads it all the same
  }
  state.file = file;
  state.chosen = 0;
  box.show({ bitmap, width: bitmap?.width ?? 0 });
  if (bitmap) {
    const { width, height } = bitmap;
    box.showReading({ width, height }, []);
    at("note").textContent = fill(WORDS.picture, { name: file.name, width, height });
  } else at("note").textContent = WORDS.unshown;
}

/** Something was drawn, taken back, or laid in the box. */
function changed() {
  if (!state.file) state.chosen = LAST;
  at("hint").hidden = !box.isEmpty;
  at("undo").disabled = at("clear").disabled = box.isEmpty;
  at("saved").textContent = "";
  state.isStale = true;
  read();
}

/** Sends what lies in the box, once more if it changed meanwhile: one call at a time. */
async function read() {
  if (state.isReading) return;
  state.isReading = true;
  at("result").setAttribute("aria-busy", "true");
  while (state.isStale) {
    state.isStale = false;
    if (box.isEmpty) {
      show(null);
      continue;
    }
    try {
      const body = state.file ?? box.toRequest();
      const answer = await call(`api/explain?digit=${state.chosen}`, body);
      hasAnswered();
      if (!box.isEmpty) show(answer);
    } catch (error) {
      complain(error);
      if (error instanceof LaterError) {
        await new Promise((done) => setTimeout(done, 1000 * error.seconds));
        state.isStale = true;
      } else if (error instanceof TokenError) break;
    }
  }
  state.isReading = false;
  at("result").setAttribute("aria-busy", "false");
}

function choose(index) {
  state.chosen = index;
  state.isStale = true;
  read();
}

function hasAnswered() {
  at("banner").hidden = true;
  at("token-form").hidden = true;
}

/** Says what went wrong. */
function complain(error) {
  if (error instanceof TokenError) {
    at("token-form").hidden = false;
    return;
  }
  if (error instanceof RefusedError) {
    hasAnswered();
    show(null);
    at("note").textContent = error.message;
    return;
  }
  if (!(error instanceof LaterError)) throw error;
  at("banner").textContent = error.isGone ? WORDS.gone : WORDS.busy;
  at("banner").hidden = false;
}

function takeToken(event) {
  event.preventDefault();
  token.set(at("token").value);
  at("token-form").hidden = true;
  learnModel();
  state.isStale = true;
  read();
}

/** Shows an answer, or that there is none. */
function show(answer) {
  state.answer = answer;
  const digit = answer?.digits[0] ?? null;
  if (answer && !digit && state.chosen !== LAST && answer.lines.length) {
    choose(LAST); // the chosen one is there no more
    return;
  }
  const text = answer?.text || (answer?.others.length ? WORDS.notDigit : WORDS.nothing);
  const result = at("result");
  result.textContent = text;
  result.classList.toggle("none", !answer?.text);
  result.classList.toggle("long", text.length > LONG);
  if (answer) at("note").textContent = [answer.notice, besides(answer)].filter(Boolean).join(". ");
  else if (!state.file) at("note").textContent = "";
  showBars(digit);
  requestAnimationFrame(() => {
    showChoices(answer, digit);
    showSeen(digit);
    showBoxes();
    layers.show(digit);
  });
  at("wrong").hidden = !(digit && at("wrong").dataset.collects === "true");
  announce(answer);
}

/** Words what stands among the digits and is none, so that 12.5 is no 125 in silence. */
function besides({ text, others }) {
  return text && others.length ? fill(WORDS.besides, { count: others.length }) : "";
}

/** Tells a screen reader what was read, once it stays. */
function announce(answer) {
  clearTimeout(state.announcing);
  state.announcing = setTimeout(() => {
    const none = answer?.others.length ? WORDS.announcedNone : "";
    const texts = (answer?.lines ?? []).flatMap((line) => line.digits.map(({ text }) => text));
    const read = texts.length && fill(WORDS.announced, { text: texts.join(" ") });
    at("announcement").textContent = read ? [read, besides(answer)].filter(Boolean).join(". ") : none;
  }, QUIET);
}

function showBars(digit) {
  const home = at("bars");
  const names = state.model?.classes ?? [..."0123456789"];
  const shown = { ...Object.fromEntries(names.map((name) => [name, 0])), ...digit?.probabilities };
  const entries = names.map((name) => [name, shown[name]]);
  if ("no digit" in shown) entries.push([WORDS.noDigit, shown["no digit"]]);
  const longest = Math.max(...entries.map(([name]) => name.length));
  home.style.setProperty("--longest-name", `${0.6 * Math.min(longest, LONGEST_NAME)}em`);
  const most = digit ? Math.max(...entries.map(([, share]) => share)) : 2;
  while (home.children.length > entries.length) home.lastChild.remove();
  while (home.children.length < entries.length) home.append(makeBar());
  entries.forEach(([name, share], index) => {
    const bar = home.children[index];
    bar.classList.toggle("most", share === most);
    bar.children[0].textContent = bar.children[0].title = name;
    bar.querySelector("rect").setAttribute("width", `${100 * share}%`);
    bar.children[2].textContent = digit ? percent(share) : "";
  });
}

function makeBar() {
  const bar = document.createElement("div");
  bar.className = "bar";
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rect.setAttribute("height", "100%");
  picture.append(rect);
  bar.append(document.createElement("span"), picture, document.createElement("span"));
  return bar;
}

/** Shows a button for each digit. */
function showChoices(answer, chosen) {
  const home = at("digits");
  const all = (answer?.lines ?? []).flatMap((line) => line.digits);
  while (home.children.length > all.length) home.lastChild.remove();
  while (home.children.length < all.length) {
    const index = home.children.length;
    const button = document.createElement("button");
    button.type = "button";
    button.append("", document.createElement("small"));
    button.addEventListener("click", () => choose(index));
    home.append(button);
  }
  all.forEach(({ text, confidence }, index) => {
    const button = home.children[index];
    const sure = percent(confidence);
    button.firstChild.data = text;
    button.lastChild.textContent = sure;
    button.setAttribute("aria-pressed", String(index === chosen?.index));
    button.setAttribute("aria-label", fill(WORDS.digitChoice, { digit: text, percent: sure }));
  });
}

/** Shows the 28×28 pixels that the network sees. */
function showSeen(digit) {
  const canvas = at("seen");
  const pixels = new ImageData(28, 28);
  const image = digit ? bytesOf(digit.image) : new Uint8Array(784);
  image.forEach((value, index) => pixels.data.set([value, value, value, 255], 4 * index));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const label = digit ? fill(WORDS.seenLabel, { digit: digit.text }) : WORDS.nothingSeen;
  canvas.setAttribute("aria-label", label);
}

/** Draws boxes around what was read, and the chosen digit's evidence over its ink. */
function showBoxes() {
  const { answer } = state;
  if (!answer) {
    if (!state.file) box.showReading(box.reading, []);
    return;
  }
  const [digit] = answer.digits;
  const all = answer.lines.flatMap((line) => line.digits);
  const boxes = all.map(({ box: place }, index) => {
    const chosen = index === digit?.index;
    const has = chosen && digit.class_activation && at("evidence").checked;
    const layer = has && evidenceLayer(unpack(digit.class_activation), bytesOf(digit.image));
    return { box: place, chosen, evidence: layer && { ...layer, turned: answer.turned } };
  });
  const others = answer.others.map(({ box: place }) => ({ box: place, isOther: true }));
  box.showReading({ width: answer.width, height: answer.height }, [...boxes, ...others]);
}

/** Saves the chosen digit with what it is. */
async function saveCorrection(event) {
  event.preventDefault();
  const [digit] = state.answer?.digits ?? [];
  if (!digit) return;
  try {
    await call(`api/collect?digit=${at("right-digit").value}`, await box.cut(digit.box));
    at("saved").textContent = WORDS.saved;
  } catch (error) {
    if (error instanceof RefusedError) at("saved").textContent = error.message;
    else complain(error);
  }
}
