/** The feature maps of every layer, and the dialog that shows one map and what made a cell. */

import { mapColors, toImage } from "./colors.js";
import { bytesOf, unpack } from "./service.js";
import { WORDS, fill } from "./words.js";

const TILE = 42; // pixels of a map's side
const GAP = 4;
const PAUSE = 250; // milliseconds between two paintings at least, so that bars come first
const IDLE = 6; // times as long as a painting takes until the next, on a slow machine
const STRIP = 14; // pixels of a number's side
const number = (value) => value.toFixed(2).replace(/^-(?=.*[1-9])/, "−").replace("-", "");

/** Takes one map out of a layer, whose channels lie together. */
function mapOf(layer, channel) {
  const [height, width, channels] = layer.shape;
  const bytes = new Uint8Array(height * width);
  for (let cell = 0; cell < bytes.length; cell++) bytes[cell] = layer.bytes[cell * channels + channel];
  return bytes;
}

export class Layers {
  /**
   * @param {HTMLElement} home where the layers are shown
   * @param {HTMLDialogElement} dialog what shows one map
   */
  constructor(home, dialog) {
    this.home = home;
    this.dialog = dialog;
    this.model = null;
    this.digit = null;
    this.shown = [];
    this.painted = 0; // when, in milliseconds
    this.pause = PAUSE;
    this.waiting = null;
    this.open = null; // {layer, channel, row, column}
    const canvas = dialog.querySelector("canvas");
    canvas.addEventListener("click", (event) => this.#pick(event, canvas));
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && event.buttons) this.#pick(event, canvas);
    });
    canvas.addEventListener("keydown", (event) => this.#steer(event));
    dialog.querySelector("button").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => (this.open = null));
    new ResizeObserver(() => this.paint()).observe(home);
    this.watcher = new IntersectionObserver((seen) => this.#notice(seen), { rootMargin: "200px" });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  /** Shows the layers of a digit, or none. */
  show(digit) {
    const layers = digit ? digit.layers.map((layer) => ({ ...layer, ...unpack(layer) })) : [];
    this.digit = digit && { image: bytesOf(digit.image), layers };
    const wait = Math.max(0, this.painted + this.pause - performance.now());
    this.waiting ??= setTimeout(() => {
      this.waiting = null;
      this.paint();
      if (this.open && this.digit) this.#paintMap();
    }, wait);
  }

  paint() {
    const layers = this.digit?.layers ?? [];
    while (this.shown.length > layers.length) {
      const { part } = this.shown.pop();
      this.watcher.unobserve(part);
      part.remove();
    }
    const colors = mapColors();
    this.painted = performance.now();
    layers.forEach((layer, index) => {
      const shown = (this.shown[index] ??= this.#add(index));
      if (shown.inView) this.#paintLayer(layer, index, colors);
      else shown.stale = true;
    });
    this.pause = Math.max(PAUSE, IDLE * (performance.now() - this.painted));
  }

  /** Paints what comes into view and was left out meanwhile. */
  #notice(seen) {
    for (const { target, isIntersecting } of seen) {
      const index = this.shown.findIndex(({ part }) => part === target);
      if (index < 0) continue;
      this.shown[index].inView = isIntersecting;
      if (isIntersecting && this.shown[index].stale) {
        this.#paintLayer(this.digit.layers[index], index, mapColors());
      }
    }
  }

  #add(index) {
    const part = document.createElement("div");
    part.className = "layer";
    const heading = document.createElement("h3");
    const canvas = document.createElement("canvas");
    part.append(heading, canvas);
    this.home.append(part);
    const shown = { part, heading, canvas, chosen: 0, columns: 1, inView: true, stale: false };
    this.watcher.observe(part);
    canvas.addEventListener("click", (event) => {
      const frame = canvas.getBoundingClientRect();
      const zoom = canvas.width / shown.density / frame.width;
      const column = Math.floor(((event.clientX - frame.left) * zoom) / (TILE + GAP));
      const row = Math.floor(((event.clientY - frame.top) * zoom) / (TILE + GAP));
      this.#choose(index, row * shown.columns + column, true);
    });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: shown.columns, ArrowUp: -shown.columns };
      if (event.key === "Enter" || event.key === " ") this.#choose(index, shown.chosen, true);
      else if (moves[event.key]) this.#choose(index, shown.chosen + moves[event.key], false);
      else return;
      event.preventDefault();
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.paint());
    return shown;
  }

  #paintLayer(layer, index, colors) {
    const shown = this.shown[index];
    shown.stale = false;
    const isMap = layer.shape.length === 3;
    const [height, width, count] = isMap ? layer.shape : [1, 1, layer.shape[0]];
    const kind = WORDS.kinds[layer.kind] ?? layer.kind;
    const { kernel } = this.model?.layers[index] ?? {};
    const size = fill(isMap ? WORDS.maps : WORDS.units, { count, height, width });
    const below = kernel ? fill(WORDS.window, { height: kernel[0], width: kernel[1] }) : "";
    const title = document.createElement("span");
    title.textContent = ` ${size}${below}`;
    shown.heading.replaceChildren(fill(WORDS.layer, { number: index + 1, kind }), title);
    const { canvas } = shown;
    const tile = isMap ? TILE : STRIP;
    const gap = isMap ? GAP : 1;
    const columns = Math.max(1, Math.min(count, Math.floor((this.home.clientWidth + gap) / (tile + gap))));
    const rows = Math.ceil(count / columns);
    const density = pixelDensity();
    Object.assign(shown, { columns, density });
    const [wide, high] = [columns, rows].map((tiles) => (tiles * (tile + gap) - gap) * density);
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    canvas.style.width = `${canvas.width / density}px`;
    const pen = canvas.getContext("2d");
    pen.setTransform(density, 0, 0, density, 0, 0);
    pen.clearRect(0, 0, wide, high);
    pen.imageSmoothingEnabled = false;
    const small = new OffscreenCanvas(width, height);
    for (let channel = 0; channel < count; channel++) {
      const bytes = isMap ? mapOf(layer, channel) : layer.bytes.subarray(channel, channel + 1);
      small.getContext("2d").putImageData(toImage(bytes, width, height, colors), 0, 0);
      const x = (channel % columns) * (tile + gap);
      const y = Math.floor(channel / columns) * (tile + gap);
      pen.drawImage(small, x, y, tile, tile);
      pen.strokeStyle = "rgb(128 128 128 / 45%)";
      pen.strokeRect(x + 0.5, y + 0.5, tile - 1, tile - 1);
    }
    if (!isMap) {
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${kind}, ${size}`);
      return;
    }
    canvas.className = "maps";
    canvas.tabIndex = 0;
    const told = {
      role: "slider",
      "aria-label": fill(WORDS.mapLabel, { number: index + 1 }),
      "aria-valuemin": 1,
      "aria-valuemax": count,
      "aria-valuenow": shown.chosen + 1,
      "aria-valuetext": fill(WORDS.mapChosen, { map: shown.chosen + 1, count }),
    };
    for (const [name, value] of Object.entries(told)) canvas.setAttribute(name, value);
    if (canvas.matches(":focus-visible")) {
      pen.strokeStyle = getComputedStyle(canvas).getPropertyValue("--focus");
      pen.lineWidth = 3;
      const x = (shown.chosen % columns) * (tile + gap);
      const y = Math.floor(shown.chosen / columns) * (tile + gap);
      pen.strokeRect(x + 1, y + 1, tile - 2, tile - 2);
    }
  }

  #choose(index, channel, opens) {
    const layer = this.digit?.layers[index];
    if (!layer || channel < 0 || channel >= layer.shape[2]) return;
    this.shown[index].chosen = channel;
    this.paint();
    if (!opens) return;
    const [height, width] = layer.shape;
    this.open = { index, channel, row: Math.floor(height / 2), column: Math.floor(width / 2) };
    this.#goToStrongest();
    this.#paintMap();
    this.dialog.showModal();
  }

  #goToStrongest() {
    const layer = this.digit.layers[this.open.index];
    const bytes = mapOf(layer, this.open.channel);
    const strongest = bytes.indexOf(bytes.reduce((most, value) => Math.max(most, value), 0));
    this.open.row = Math.floor(strongest / layer.shape[1]);
    this.open.column = strongest % layer.shape[1];
  }

  #pick(event, canvas) {
    const [height, width] = this.digit.layers[this.open.index].shape;
    const frame = canvas.getBoundingClientRect();
    const inside = (value, side) => Math.min(side - 1, Math.max(0, Math.floor(value)));
    this.open.column = inside(((event.clientX - frame.left) / frame.width) * width, width);
    this.open.row = inside(((event.clientY - frame.top) / frame.height) * height, height);
    this.#paintMap();
  }

  #steer(event) {
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (!moves[event.key]) return;
    const [height, width] = this.digit.layers[this.open.index].shape;
    this.open.row = Math.min(height - 1, Math.max(0, this.open.row + moves[event.key][0]));
    this.open.column = Math.min(width - 1, Math.max(0, this.open.column + moves[event.key][1]));
    this.#paintMap();
    event.preventDefault();
  }

  #paintMap() {
    const { index, channel, row, column } = this.open;
    const layer = this.digit.layers[index];
    const [height, width, channels] = layer.shape;
    const heading = fill(WORDS.mapHeading, { number: index + 1, map: channel + 1 });
    this.dialog.querySelector("h2").textContent = heading;
    const canvas = this.dialog.querySelector("canvas");
    const zoom = Math.max(1, Math.floor(616 / width));
    canvas.width = width * zoom;
    canvas.height = height * zoom;
    const small = new OffscreenCanvas(width, height);
    small.getContext("2d").putImageData(toImage(mapOf(layer, channel), width, height, mapColors()), 0, 0);
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
    pen.strokeStyle = "#e0701f";
    pen.lineWidth = 5;
    pen.strokeRect(column * zoom + 2.5, row * zoom + 2.5, zoom - 5, zoom - 5);
    const value = layer.at((row * width + column) * channels + channel);
    const { low, high } = layer;
    const told = document.createElement("p");
    const places = { row: row + 1, column: column + 1, low: number(low), high: number(high) };
    told.textContent = fill(WORDS.cell, { ...places, value: number(value) });
    const first = this.model?.first_layer;
    const isFirst = first && layer.name === first.layer;
    this.dialog.querySelector("#cell").replaceChildren(told, ...(isFirst ? this.#arithmetic(layer) : []));
  }

  /** Shows what a cell of the first layer was computed from. */
  #arithmetic(layer) {
    const { channel, row, column } = this.open;
    const { kernels, padding, scale, shift } = this.model.first_layer;
    const { strides } = this.model.layers[this.open.index];
    const top = row * strides[0] - padding[0];
    const left = column * strides[1] - padding[1];
    const pixel = (y, x) => (y < 0 || x < 0 || y > 27 || x > 27 ? 0 : this.digit.image[28 * y + x] / 255);
    const patch = kernels.map((line, y) => line.map((_, x) => pixel(top + y, left + x)));
    const weights = kernels.map((line) => line.map((channels) => channels[0][channel]));
    const products = patch.map((line, y) => line.map((value, x) => value * weights[y][x]));
    const sum = products.flat().reduce((all, value) => all + value, 0);
    const scaled = sum * scale[channel] + shift[channel];
    const grids = document.createElement("div");
    grids.className = "grids";
    grids.append(
      table(WORDS.patch, patch, (value) => `rgb(128 128 128 / ${80 * value}%)`),
      table(WORDS.weights, weights, signed(weights)),
      table(WORDS.products, products, signed(products)),
    );
    const words = [
      fill(WORDS.sum, { sum: number(sum) }),
      fill(WORDS.scaled, {
        scale: number(scale[channel]), shift: number(shift[channel]), scaled: number(scaled),
      }),
    ];
    if (layer.kind === "relu") words.push(fill(WORDS.activated, { value: number(Math.max(0, scaled)) }));
    const told = document.createElement("p");
    told.textContent = words.join(" ");
    return [grids, told];
  }
}

const pixelDensity = () => Math.min(2, window.devicePixelRatio || 1);

/** Colors numbers by sign and size: orange above 0, blue below. */
function signed(values) {
  const most = Math.max(1e-9, ...values.flat().map(Math.abs));
  return (value) => {
    const strength = (55 * Math.abs(value)) / most;
    return value > 0 ? `rgb(224 112 31 / ${strength}%)` : `rgb(31 95 208 / ${strength}%)`;
  };
}

/** Makes a table of numbers, colored. */
function table(caption, values, color) {
  const made = document.createElement("table");
  made.createCaption().textContent = caption;
  for (const line of values) {
    const row = made.insertRow();
    for (const value of line) {
      const cell = row.insertCell();
      cell.textContent = number(value);
      cell.style.backgroundColor = color(value);
    }
  }
  return made;
}
