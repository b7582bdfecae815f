/** The page's palettes: from weak to strong, and evidence for (orange) and against (blue). */

const FOR = [198, 93, 23];
const AGAINST = [31, 95, 208];

const channels = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));

/** Makes 256 colors between the theme's weakest and strongest, each as an image's four bytes. */
export function mapColors() {
  const style = getComputedStyle(document.documentElement);
  const [low, high] = ["--map-low", "--map-high"].map((name) =>
    channels(style.getPropertyValue(name).trim()),
  );
  const bytes = Uint8ClampedArray.from({ length: 1024 }, (_, at) => {
    const channel = at % 4;
    return channel === 3 ? 255 : low[channel] + ((high[channel] - low[channel]) * (at >> 2)) / 255;
  });
  return new Uint32Array(bytes.buffer);
}

/** Draws values as an image, a color each. */
export function toImage(bytes, width, height, colors) {
  const pixels = new Uint32Array(bytes.length);
  for (let index = 0; index < bytes.length; index++) pixels[index] = colors[bytes[index]];
  return new ImageData(new Uint8ClampedArray(pixels.buffer), width, height);
}

/** Draws a digit's evidence over its ink: {canvas, and the ink's box in it}. */
export function evidenceLayer(packed, image) {
  const [height, width] = packed.shape;
  const drawn = new ImageData(width, height);
  let most = 1e-9;
  for (let index = 0; index < image.length; index++) most = Math.max(most, Math.abs(packed.at(index)));
  let [x, y, right, bottom] = [width, height, 0, 0];
  for (let index = 0; index < image.length; index++) {
    const value = packed.at(index) / most;
    const strength = Math.min(1, 1.3 * Math.sqrt(Math.abs(value)));
    drawn.data.set([...(value > 0 ? FOR : AGAINST), image[index] ? 255 * strength : 0], 4 * index);
    if (image[index] > 60) {
      const [column, row] = [index % width, Math.floor(index / width)];
      x = Math.min(x, column);
      y = Math.min(y, row);
      right = Math.max(right, column + 1);
      bottom = Math.max(bottom, row + 1);
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(drawn, 0, 0);
  return { canvas, x, y, width: Math.max(1, right - x), height: Math.max(1, bottom - y) };
}
