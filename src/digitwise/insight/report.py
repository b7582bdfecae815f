"""One self-contained HTML file about a bundle: how it learned, how well it reads, what it sees."""

import html
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer, UInt8

from digitwise.bundle import Bundle, open_classifier
from digitwise.errors import missing_extra
from digitwise.insight import figures, pages
from digitwise.insight.activations import Explainer
from digitwise.network.evaluation import Evaluation, evaluate
from digitwise.storage import check_output, protected, write_text

try:
    from sklearn.manifold import TSNE
except ImportError as error:
    raise missing_extra("a report", "insight") from error

_BEHIND_A_CELL = 12  # pictures
_ALIKE = 2000  # test images in the map of what is alike
_MAP_SIZE = 900, 620  # pixels
_SPRITES_A_ROW = 50


@dataclass(frozen=True)
class _Tested:
    """A bundle with what it reads its test images as."""

    bundle: Bundle
    explainer: Explainer
    evaluation: Evaluation

    def tells(self, index: int) -> str:
        """Words what a test image is, and what it was read as."""
        found = self.evaluation
        names, is_class, read_as = found.classes, found.y[index], found.read_as[index]
        sure = f"{found.confidence[index]:.1%} sure"
        if is_class == read_as:
            return f"{names[is_class]}, {sure}"
        return f"{names[is_class]} read as {names[read_as]}, {sure}"


def report(
    bundle: Bundle | str | Path,
    output: str | Path = "report.html",
    *,
    dataset: str | None = None,
    path: str | Path | None = None,
    allow_sample: bool = True,
    force: bool = False,
) -> Path:
    """Write a self-contained HTML report about a bundle.

    Args:
        bundle: a bundle, or where one lies.
        output: the file to write. An earlier report is replaced.
        dataset: what to test on, as `evaluate` takes it.
        path: your own data to test on, likewise.
        allow_sample: whether the built-in sample may stand in for MNIST.
        force: whether to replace a file that Digitwise did not write. Neither the bundle's files
            nor the test data's are ever replaced.

    Returns:
        The file.

    Raises:
        DigitwiseError: the file exists and must be kept, the bundle lacks what explaining needs,
            the data is bad, or an extra is missing.
        MachineError: the disk is full or permission is missing.
    """
    file = Path(output)
    opened = open_classifier(bundle)
    with protected([opened.path, path]):
        check_output(file, force=force)
        page = _page(opened, dataset, path, allow_sample)
        write_text(file, page, force=force)
    return file


def _page(opened: Bundle, dataset: str | None, path: str | Path | None, allow_sample: bool) -> str:
    """Test a bundle, and build its report page."""
    explainer = Explainer(opened)
    evaluation = evaluate(opened, dataset=dataset, path=path, allow_sample=allow_sample)
    tested = _Tested(opened, explainer, evaluation)
    sections = {
        "What it is": _what_it_is(tested),
        "How it learned": _how_it_learned(tested),
        "How well it reads": _how_well(tested),
        "Which class is read as which": _confusion(tested),
        "The worst mistakes": _mistakes(tested),
        "What it sees": _maps(tested),
        "What it finds alike": _alike(tested),
    }
    title = f"{opened.architecture}, tested on {evaluation.dataset}"
    entries = "".join(
        f'<li><a href="#part-{number}">{name}</a></li>' for number, name in enumerate(sections, 1)
    )
    parts = "\n".join(
        f'<section id="part-{number}"><h2>{name}</h2>{content}</section>'
        for number, (name, content) in enumerate(sections.items(), 1)
    )
    body = f"<h1>{html.escape(title)}</h1><nav><ol>{entries}</ol></nav>\n{parts}"
    return pages.page(title, body, _STYLE)


def _what_it_is(tested: _Tested) -> str:
    """Tells the network, its data and settings, and what it comes to."""
    evaluation, record = tested.evaluation, tested.bundle.record
    low, high = evaluation.confidence_interval
    architecture, settings = record["architecture"], record["settings"]
    recipe = settings["recipe"]
    held_out = (record["validation"] or {}).get("images", 0)
    left_out = evaluation.left_out
    if left_out is None:
        checked = ", not checked for training images"
    else:
        seen = left_out.trained + left_out.validated
        checked = f", {seen:,} seen images left out" if seen else ""
    told = {
        "test accuracy": f"{evaluation.accuracy:.2%}, 95% interval {low:.2%} to {high:.2%}",
        "tested on": f"{evaluation.images:,} images of {evaluation.dataset}{checked}",
        "trained on": f"{record['dataset']['train_images']:,} images of "
        f"{record['dataset']['name']}, {held_out:,} of them held out for validation",
        "parameters": f"{architecture['parameters']:,}",
        "epochs": f"{len(record.get('history', [])) or settings['epochs']}"
        f" of {settings['batch_size']} images a step",
        "optimizer": f"{recipe['optimizer']}, learning rate {recipe['learning_rate']:g}, "
        f"{recipe['schedule']}",
        "augmentation": recipe["augmentation"] or "none",
        "computed in": settings["precision"],
        "seed": settings["seed"],
        "time of training": _duration(record["seconds"]),
        "made": f"{record['created']}, by digitwise {record['packages']['digitwise']}, "
        f"Keras {record['packages']['keras']}",
    }
    notices = (record.get(name) for name in ("notice", "warning"))
    notice = "".join(f'<p class="notice">{html.escape(text)}</p>' for text in notices if text)
    rows = "".join(
        f"<tr><th scope='row'>{name}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in told.items()
    )
    all_settings = html.escape(json.dumps(settings, indent=2, ensure_ascii=False))
    return (
        f'{notice}<table class="facts">{rows}</table>'
        f"<details><summary>All settings</summary><pre>{all_settings}</pre></details>"
    )


def _duration(seconds: float) -> str:
    """Words a time."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _how_it_learned(tested: _Tested) -> str:
    """Draws loss and accuracy over the epochs."""
    history = tested.bundle.record.get("history")
    if not history:
        return "<p>The bundle does not tell.</p>"
    drawn = pages.figure_data(figures.learning_curves(history))
    return pages.figure(
        drawn,
        "Loss and accuracy after each epoch, on the training images as they "
        "were shown, and on those held out.",
    )


def _how_well(tested: _Tested) -> str:
    """Tables each class, and draws how far confidence can be trusted."""
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(one.name)}</th><td>{one.images:,}</td>"
        + "".join(
            f"<td>{'–' if value is None else f'{value:.2%}'}</td>"
            for value in (one.precision, one.recall, one.f1)
        )
        + "</tr>"
        for one in tested.evaluation.per_class
    )
    curve = pages.figure_data(figures.calibration_curve(tested.evaluation))
    return (
        '<div class="figures"><div class="scroll"><table class="numbers"><thead><tr>'
        "<th>class</th><th>images</th><th>precision</th><th>recall</th><th>F1</th></tr></thead>"
        f"<tbody>{rows}</tbody></table><p class='aside'>Precision: of those read as the class, the "
        "share that are. Recall: of those that are, the share read as it. F1: their harmonic mean."
        f"</p></div>{pages.figure(curve, 'How often it is right, by how sure it is.')}</div>"
    )


def _confusion(tested: _Tested) -> str:
    """Tables the confusion matrix, each cell with pictures to open."""
    evaluation = tested.evaluation
    names = [html.escape(name) for name in evaluation.classes]
    most = max(1, int(evaluation.confusions.max()))
    head = "".join(f'<th scope="col"><span>{name}</span></th>' for name in names)
    rows = []
    for row, is_class in enumerate(names):
        cells = []
        for column, read_as in enumerate(names):
            count = int(evaluation.confusion[row, column])
            if not count:
                cells.append("<td></td>")
                continue
            found = np.flatnonzero((evaluation.y == row) & (tested.evaluation.read_as == column))
            surest = np.argsort(-tested.evaluation.confidence[found], kind="stable")
            right = row == column
            shown = found[surest[::-1] if right else surest][:_BEHIND_A_CELL]
            told = (
                f"{is_class}, read right: the least sure"
                if right
                else (f"{is_class} read as {read_as}: the surest")
            )
            shade = "" if right else f' style="--shade:{0.1 + 0.5 * count / most:.2f}"'
            cells.append(
                f'<td class="{"right" if right else "wrong"}"{shade}>'
                f'<details name="cell"><summary aria-label="{told}, {count:,}">{count:,}</summary>'
                f'<div class="behind"><p>{told}</p>{_pictures(tested, shown)}</div></details></td>'
            )
        rows.append(f'<tr><th scope="row">{is_class}</th>{"".join(cells)}</tr>')
    wide = " named" if max(map(len, evaluation.classes)) > 2 else ""
    return (
        "<p>A row is what the images show, a column what they were read as. "
        "Open a number to see pictures, and open it again to close them.</p>"
        f'<div class="scroll"><table class="confusion{wide}"><thead><tr><td></td>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _mistakes(tested: _Tested) -> str:
    """Shows what was read wrong, the surest first."""
    shown = tested.evaluation.mistakes
    wrong = tested.evaluation.wrong
    if not wrong:
        return "<p>No mistake was made.</p>"
    names = tested.evaluation.classes
    items = "".join(
        f"<li>{_picture(tested, index)}<span>{html.escape(names[tested.evaluation.y[index]])} → "
        f"{html.escape(names[tested.evaluation.read_as[index]])}</span>"
        f"<span class='aside'>{tested.evaluation.confidence[index]:.0%}</span></li>"
        for index in shown.tolist()
    )
    return (
        f"<p>The surest {len(shown)} of {wrong:,}: what it is → what it was read as, and how sure "
        f'the network was.</p><ol class="mistakes">{items}</ol>'
    )


def _pictures(tested: _Tested, indices: Integer[np.ndarray, " k"]) -> str:
    """Shows some test images."""
    return "".join(_picture(tested, index) for index in indices.tolist())


def _picture(tested: _Tested, index: int) -> str:
    """Shows a test image, ink dark."""
    told = html.escape(tested.tells(index), quote=True)
    source = pages.picture_data(255 - tested.evaluation.x[index])
    return f'<img class="digit" src="{source}" alt="{told}" title="{told}">'


def _maps(tested: _Tested) -> str:
    """Draws the first kernels, and every layer's maps of one image a class."""
    evaluation = tested.evaluation
    drawn = []
    kernels = tested.explainer.first_kernels
    if kernels is not None:
        drawn.append(
            pages.figure(
                pages.figure_data(figures.first_kernels(kernels)),
                "What the first layer looks for: orange weighs ink up, blue down.",
            )
        )
    right = np.flatnonzero(evaluation.read_as == evaluation.y)
    chosen = right[np.unique(evaluation.y[right], return_index=True)[1]].tolist()
    names = [evaluation.classes[evaluation.y[index]] for index in chosen]
    outputs = [tested.explainer.outputs(evaluation.x[index]) for index in chosen]
    for layers in zip(*outputs, strict=True):
        if layers[0].is_map:
            caption = f"Layer {layers[0].name}: the brighter, the stronger."
            figure = figures.maps_of_classes(layers, names)
            drawn.append(pages.figure(pages.figure_data(figure), caption))
    inputs = "".join(_picture(tested, index) for index in chosen)
    return (
        f"<p>One image of each class, and what every layer makes of it, a row an image.</p>"
        f'<p class="strip">{inputs}</p><div class="figures">{"".join(drawn)}</div>'
    )


def _alike(tested: _Tested) -> str:
    """Maps test images so that those lie together which the network finds alike."""
    evaluation = tested.evaluation
    random = np.random.default_rng(0)
    count = min(_ALIKE, evaluation.images)
    chosen = np.sort(random.permutation(evaluation.images)[:count])
    if count < 10:
        return "<p>Too few images for a map.</p>"
    places = _places(tested.explainer.embed(evaluation.x[chosen]))
    names = evaluation.classes
    signs = _signs(names)
    points = []
    chosen_wrong = (tested.evaluation.read_as != evaluation.y)[chosen]
    for number in np.argsort(chosen_wrong, kind="stable").tolist():  # mistakes lie on top
        index, (x, y) = int(chosen[number]), places[number]
        label = int(evaluation.y[index])
        wrong = ' class="w"' if chosen_wrong[number] else ""
        points.append(
            f'<text x="{x:.0f}" y="{y:.0f}" data-n="{number}"{wrong}>{html.escape(signs[label])}'
            f"<title>{html.escape(tested.tells(index))}</title></text>"
        )
    legend = ""
    if signs != names:
        pairs = zip(signs, names, strict=True)
        legend = f"<p>{', '.join(f'{sign} {html.escape(name)}' for sign, name in pairs)}.</p>"
    width, height = _MAP_SIZE
    sheet = pages.picture_data(_sprites(255 - evaluation.x[chosen]))
    tile = evaluation.x.shape[2], evaluation.x.shape[1]
    return (
        f"<p>{count:,} test images, each its class’s sign, by what the last layer is given of "
        f"them (t-SNE of their cosine distances). What was read wrong is large and orange. Point "
        f"at a sign to see its image.</p>{legend}"
        f'<svg id="map" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Map of test images">{"".join(points)}</svg>'
        f'<div id="hover" hidden data-across="{_SPRITES_A_ROW}" data-width="{tile[0]}" '
        f'data-height="{tile[1]}"><div></div><span></span></div>'
        f'<style>#hover div {{ background-image: url("{sheet}"); width: {tile[0]}px; '
        f"height: {tile[1]}px; }}</style><script>{_SCRIPT}</script>"
    )


def _signs(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return each class's sign on the map: its name, or 0 to 9, a to Z if a name is longer."""
    if all(len(name) == 1 for name in names):
        return names
    signs = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return tuple(signs[label % len(signs)] for label in range(len(names)))


def _places(vectors: Float[np.ndarray, "n features"]) -> Float[np.ndarray, "n 2"]:
    """Lays vectors out in the map's pixels, near where they are alike.

    The method is t-SNE (van der Maaten and Hinton, "Visualizing data using t-SNE", 2008).
    """
    perplexity = min(30, (len(vectors) - 1) / 3)
    flat = TSNE(
        metric="cosine", init="random", perplexity=perplexity, random_state=0, n_jobs=-1
    ).fit_transform(vectors)
    low, high = flat.min(axis=0), flat.max(axis=0)
    margin = 12
    room = np.array(_MAP_SIZE) - 2 * margin
    return np.asarray((flat - low) / np.maximum(high - low, 1e-9) * room + margin)


def _sprites(images: UInt8[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "rows columns"]:
    """Puts images into one, fifty in a row."""
    count, height, width = images.shape
    rows = -(-count // _SPRITES_A_ROW)
    whole = np.full((rows * _SPRITES_A_ROW, height, width), 255, np.uint8)
    whole[:count] = images
    grid = whole.reshape(rows, _SPRITES_A_ROW, height, width).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(rows * height, _SPRITES_A_ROW * width))


_STYLE = """
nav ol { columns: 2; } table { border-collapse: collapse; }
th, td { padding: .25rem .6rem; text-align: left; }
@media (max-width: 40rem) { nav ol { columns: 1; } th, td { padding: .2rem .3rem; } }
.facts th { font-weight: 600; vertical-align: top; white-space: nowrap; }
.numbers td { text-align: right; } tbody tr { border-top: 1px solid #e5e7eb; }
.scroll { overflow-x: auto; } pre { overflow-x: auto; font-size: .85rem; }
.notice { border-left: 4px solid #e07b39; padding-left: .8rem; }
.confusion td, .confusion thead th { text-align: center; width: 3.1rem; padding: .2rem; }
.confusion { table-layout: fixed; width: max-content; } .confusion thead td { border: none; }
.confusion.named thead span { writing-mode: vertical-rl; transform: rotate(180deg); }
.confusion td { border: 1px solid #e5e7eb; } .confusion .right { font-weight: 700; }
.confusion .wrong { background: rgba(224, 123, 57, var(--shade)); }
.confusion summary { list-style: none; cursor: pointer; padding: .2rem; }
.confusion summary::-webkit-details-marker { display: none; }
.confusion summary:hover, summary:focus-visible { outline: 2px solid #1f3b73; }
.behind { position: fixed; left: 50%; bottom: 1rem; transform: translateX(-50%); z-index: 2;
  width: min(40rem, 92vw); background: #fff; border: 1px solid #6b7280; border-radius: .5rem;
  padding: .6rem 1rem 1rem; box-shadow: 0 4px 24px #0003; font-weight: 400; text-align: left; }
.behind p { margin: .2rem 0 .6rem; }
.digit { width: 56px; height: 56px; image-rendering: pixelated; border: 1px solid #e5e7eb; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.2rem, 1fr));
  gap: .8rem; list-style: none; padding: 0; }
.mistakes li { display: grid; justify-items: center; text-align: center; break-inside: avoid; }
.strip { display: flex; flex-wrap: wrap; gap: .3rem; }
#map { width: 100%; border: 1px solid #e5e7eb; }
#map text { font: 9px system-ui, sans-serif; fill: #1f3b73; text-anchor: middle; }
#map .w { fill: #c2410c; font-weight: 700; font-size: 15px; }
#hover { position: fixed; pointer-events: none; background: #fff; border: 1px solid #6b7280;
  border-radius: .4rem; padding: .4rem; font-size: .85rem; z-index: 3; }
#hover div { zoom: 3; image-rendering: pixelated; } #hover span { display: block; }
@media print { .behind, #hover { display: none; } .confusion .wrong { print-color-adjust: exact; } }
"""

_SCRIPT = """
const map = document.getElementById("map"), hover = document.getElementById("hover");
const picture = hover.firstElementChild, words = hover.lastElementChild;
const { across, width, height } = hover.dataset;
const told = new Map();
for (const sign of map.children) {
  told.set(sign, sign.lastElementChild.textContent);
  sign.lastElementChild.remove();
}
function show(event) {
  hover.hidden = !told.has(event.target);
  if (hover.hidden) return;
  const number = event.target.dataset.n;
  const column = number % across, row = Math.floor(number / across);
  picture.style.backgroundPosition = `${-column * width}px ${-row * height}px`;
  words.textContent = told.get(event.target);
  hover.style.left = `${Math.min(event.clientX + 14, innerWidth - hover.offsetWidth - 4)}px`;
  hover.style.top = `${Math.min(event.clientY + 14, innerHeight - hover.offsetHeight - 4)}px`;
}
map.addEventListener("pointerover", show);
map.addEventListener("pointerleave", () => { hover.hidden = true; });
"""
