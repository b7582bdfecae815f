/** The drawing box: strokes by mouse, pen, finger and keyboard, or a picture in their place. */

export const WIDTH = 600;
export const HEIGHT = 400;
const STEP = 10;
const FINE_STEP = 2;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const round = (value) => Math.round(10 * value) / 10;

export class DrawingBox {
  /**
   * @param {HTMLCanvasElement} canvas what is drawn on
   * @param {() => void} onChange told when strokes change
   */
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.strokes = [];
    this.strokeWidth = 18;
    this.picture = null; // {bitmap, width, height} that lies in the box instead of strokes
    this.boxes = []; // {box, chosen, evidence, isOther}, in the reading's pixels
    this.reading = { width: WIDTH, height: HEIGHT };
    this.pen = null; // of the keyboard: {x, y, down}
    this.held = new Set();
    this.pointer = null;
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.#lift(event));
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("keyup", (event) => this.held.delete(event.key));
    canvas.addEventListener("blur", () => this.#leave());
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  get isEmpty() {
    return !this.strokes.length && !this.picture;
  }

  /** What the service is sent of the strokes. */
  toRequest() {
    return { strokes: this.strokes, width: WIDTH, height: HEIGHT, stroke_width: this.strokeWidth };
  }

  undo() {
    if (this.picture) this.picture = null;
    else this.strokes.pop();
    this.#lose();
    this.#changed();
  }

  clear() {
    this.picture = null;
    this.strokes = [];
    this.#lose();
    this.#changed();
  }

  /** Lays a picture in the box; strokes are cleared. */
  show(picture) {
    this.strokes = [];
    this.#lose();
    this.picture = picture;
    this.#changed();
  }

  /** Shows what was read: boxes around digits and what is none, evidence over ink. */
  showReading(reading, boxes) {
    this.reading = reading;
    this.boxes = boxes;
    this.paint();
  }

  /** Where the picture lies in the box: its pixels' size there, and its corner. */
  placement() {
    if (!this.picture) return { scale: 1, left: 0, top: 0 };
    const { width, height } = this.reading;
    const scale = Math.min(WIDTH / width, HEIGHT / height);
    return { scale, left: (WIDTH - width * scale) / 2, top: (HEIGHT - height * scale) / 2 };
  }

  /** Finds the digit whose box a place of the screen lies in, -1 where there is none. */
  digitAt(event) {
    const [x, y] = this.#place(event);
    const { scale, left, top } = this.placement();
    return this.boxes.findIndex(({ box, isOther }) => {
      const [bx, by, width, height] = box;
      return (
        !isOther && x >= left + bx * scale && x <= left + (bx + width) * scale &&
        y >= top + by * scale && y <= top + (by + height) * scale
      );
    });
  }

  /** Cuts a digit out of what is drawn, as a PNG. */
  async cut(box) {
    const { scale, left, top } = this.placement();
    const margin = 0.15 * Math.max(box[2], box[3]);
    const [x, y] = [box[0] - margin, box[1] - margin];
    const [width, height] = [box[2] + 2 * margin, box[3] + 2 * margin];
    const cut = document.createElement("canvas");
    cut.width = Math.max(1, Math.round(width));
    cut.height = Math.max(1, Math.round(height));
    const pen = cut.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, cut.width, cut.height);
    if (this.picture) {
      const zoom = this.picture.width / this.reading.width;
      pen.drawImage(
        this.picture.bitmap, x * zoom, y * zoom, width * zoom, height * zoom,
        0, 0, cut.width, cut.height,
      );
    } else {
      pen.translate(-(left + x * scale), -(top + y * scale));
      this.#drawStrokes(pen);
    }
    return new Promise((done) => cut.toBlob(done, "image/png"));
  }

  /** Draws all anew. */
  paint() {
    const { clientWidth } = this.canvas;
    if (!clientWidth) return;
    const density = window.devicePixelRatio || 1;
    const wide = Math.round(clientWidth * density);
    const high = Math.round((wide * HEIGHT) / WIDTH);
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      this.canvas.width = wide;
      this.canvas.height = high;
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(wide / WIDTH, 0, 0, wide / WIDTH, 0, 0);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, WIDTH, HEIGHT);
    const { scale, left, top } = this.placement();
    if (this.picture?.bitmap) {
      const { width, height } = this.reading;
      pen.drawImage(this.picture.bitmap, left, top, width * scale, height * scale);
    }
    this.#drawStrokes(pen);
    for (const { box, chosen, evidence, isOther } of this.boxes) {
      const [x, y, width, height] = box.map((value) => value * scale);
      if (evidence) this.#drawEvidence(pen, evidence, left + x, top + y, width, height);
      pen.strokeStyle = isOther ? "#707070" : chosen ? "#c65d17" : "#1f5fd0";
      pen.lineWidth = chosen ? 2.5 : 1.25;
      pen.setLineDash(isOther ? [4, 4] : []);
      pen.strokeRect(left + x - 4, top + y - 4, width + 8, height + 8);
    }
    pen.setLineDash([]);
    if (this.pen) {
      pen.strokeStyle = this.pen.down ? "#c65d17" : "#1f5fd0";
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(this.pen.x, this.pen.y, this.strokeWidth / 2 + 3, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  /** Lays a digit's evidence over its ink, turned back if the page was turned for reading. */
  #drawEvidence(pen, evidence, x, y, width, height) {
    const { canvas, turned } = evidence;
    const lies = Math.abs((turned % 180) / 90) > 0.5 && Math.abs((turned % 180) / 90) < 1.5;
    const [wide, high] = lies ? [height, width] : [width, height];
    const across = wide / evidence.width;
    const down = high / evidence.height;
    pen.save();
    pen.imageSmoothingEnabled = true;
    pen.translate(x + width / 2, y + height / 2);
    pen.rotate((turned * Math.PI) / 180);
    pen.drawImage(
      canvas, -wide / 2 - evidence.x * across, -high / 2 - evidence.y * down,
      canvas.width * across, canvas.height * down,
    );
    pen.restore();
  }

  #drawStrokes(pen) {
    pen.strokeStyle = pen.fillStyle = "#000";
    pen.lineCap = pen.lineJoin = "round";
    for (const stroke of this.strokes) {
      let last = stroke[0];
      for (const point of stroke.length > 1 ? stroke.slice(1) : stroke) {
        pen.lineWidth = this.strokeWidth * ((last[2] ?? 0.5) + (point[2] ?? 0.5));
        pen.beginPath();
        pen.moveTo(last[0], last[1]);
        pen.lineTo(point[0], point[1]);
        pen.stroke();
        last = point;
      }
    }
  }

  #place(event) {
    const frame = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - frame.left) * WIDTH) / frame.width,
      ((event.clientY - frame.top) * HEIGHT) / frame.height,
    ];
  }

  #point(event) {
    const [x, y] = this.#place(event).map(round);
    const pressed = event.pointerType === "pen" && event.pressure > 0;
    return pressed ? [x, y, round(10 * event.pressure) / 10] : [x, y];
  }

  #press(event) {
    if (event.button !== 0 || this.pointer !== null || this.picture) return;
    this.pen = null;
    this.pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.strokes.push([this.#point(event)]);
    this.#changed();
  }

  #move(event) {
    if (event.pointerId !== this.pointer) return;
    const together = event.getCoalescedEvents?.() ?? [];
    const stroke = this.strokes.at(-1);
    for (const part of together.length ? together : [event]) stroke.push(this.#point(part));
    this.#changed();
  }

  #lift(event) {
    if (event.pointerId === this.pointer) this.pointer = null;
  }

  #key(event) {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") this.undo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else if (this.picture) return;
    else if (event.key === " ") this.#setDown();
    else if (ARROWS[event.key]) this.#steer(event);
    else return;
    event.preventDefault();
  }

  #setDown() {
    this.pen ??= { x: WIDTH / 2, y: HEIGHT / 4, down: false };
    this.pen.down = !this.pen.down;
    if (this.pen.down) this.strokes.push([[this.pen.x, this.pen.y]]);
    this.#changed();
  }

  #steer(event) {
    this.pen ??= { x: WIDTH / 2, y: HEIGHT / 4, down: false };
    this.held.add(event.key);
    const step = event.shiftKey ? FINE_STEP : STEP;
    for (const key of this.held) {
      this.pen.x = Math.min(WIDTH, Math.max(0, this.pen.x + step * ARROWS[key][0]));
      this.pen.y = Math.min(HEIGHT, Math.max(0, this.pen.y + step * ARROWS[key][1]));
    }
    if (this.pen.down) {
      this.strokes.at(-1).push([this.pen.x, this.pen.y]);
      this.#changed();
    } else this.paint();
  }

  #leave() {
    this.pen = null;
    this.held.clear();
    this.paint();
  }

  /** Ends a stroke that undo or clear took away under the pen. */
  #lose() {
    this.pointer = null;
    if (this.pen) this.pen.down = false;
    this.boxes = [];
    this.reading = { width: WIDTH, height: HEIGHT };
  }

  #changed() {
    this.paint();
    this.onChange();
  }
}
