/** All words of the page. What stands in {braces} is filled in. */
export const WORDS = {
  tagline: "Draw a digit, or a whole number, and watch a convolutional network read it.",
  links: "More",
  service: "The service",
  drawHeading: "Draw",
  hint: "Draw here",
  box: "Drawing box",
  boxHelp:
    "Mouse, pen or finger; or drop, paste or take a picture. By keyboard: arrow keys move the pen " +
    "(Shift: finely), Space sets it down and lifts it, Ctrl+Z undoes, Delete clears.",
  undo: "Undo",
  clear: "Clear",
  strokeWidth: "Pen",
  openPicture: "Picture or photo…",
  answerHeading: "Read as",
  nothing: "–",
  notDigit: "Not a digit",
  besides: "Besides digits: {count}, in grey boxes",
  digits: "The digits that were read: choose one to look inside",
  digitChoice: "{digit}, {percent} sure",
  seenCaption: "The 28×28 pixels that the network sees",
  seenLabel: "The {digit} as the network sees it",
  nothingSeen: "Nothing was drawn yet",
  bars: "How probable each digit is",
  noDigit: "no digit",
  evidence: "Color the ink by evidence: orange for the digit, blue against it",
  wrong: "That was wrong. It is a",
  save: "Save",
  saved: "Saved, thank you.",
  networkHeading: "Inside the network",
  networkHelp:
    "What each layer makes of the digit, a small picture a map: the darker (on a dark page the " +
    "brighter), the stronger. Choose a map to enlarge it; in the first layer, choose a cell to " +
    "see the pixels and weights that made it.",
  layer: "{number}. {kind}",
  maps: "{count} maps of {height}×{width}",
  units: "{count} numbers",
  window: ", each cell from {height}×{width} below",
  mapLabel: "Maps of layer {number}: arrow keys choose, Enter enlarges",
  mapChosen: "map {map} of {count}",
  kinds: {
    relu: "Convolution and ReLU",
    tanh: "Convolution and tanh",
    Conv2D: "Convolution",
    MaxPooling2D: "Max pooling",
    AveragePooling2D: "Average pooling",
    GlobalAveragePooling2D: "Global average pooling",
    GlobalMaxPooling2D: "Global max pooling",
    Dense: "Dense",
    softmax: "Softmax",
  },
  mapHeading: "Layer {number}, map {map}",
  mapCells: "Cells of the map: arrow keys move",
  close: "Close",
  cell: "Row {row}, column {column}: {value}, in a map from {low} to {high}.",
  patch: "Pixels below",
  weights: "Weights",
  products: "Products",
  sum: "Their sum is {sum}.",
  scaled: "Times {scale} plus {shift} (batch normalization, or the bias) is {scaled}.",
  activated: "ReLU keeps what is above 0: {value}.",
  gone: "The server does not answer. What you drew is kept; it is tried again every second.",
  busy: "The server has much to do; it is tried again in a second.",
  tokenAsked: "This server asks for its token:",
  tokenSend: "Send",
  announced: "Read as {text}",
  announcedNone: "Not a digit",
  picture: "{name}, {width}×{height} pixels",
  noPicture: "{name} is no picture.",
  unshown: "Your browser cannot show this picture; the server reads it all the same.",
  model:
    "The network “{architecture}” has {parameters} parameters; on {dataset}'s test images it is " +
    "right {accuracy} of the time. Digitwise {version}.",
};

/** Fills a sentence's braces. */
export function fill(sentence, values) {
  return sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Words a share. */
export function percent(share) {
  return `${(100 * share).toFixed(share < 0.9995 && share > 0.0005 ? 1 : 0)}%`;
}
