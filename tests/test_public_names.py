"""An argument of the wrong type is refused in one line that says what is expected."""

import subprocess
import sys

CALLS = {
    "evaluate(object())": "the bundle is object; expected a Bundle or its path",
    "Reader(object())": "dw.train(model) returns a Bundle",
    "open_bundle(None)": "the bundle is NoneType",
    "explain('page.png', 3)": "the bundle is int",
    "export([1])": "the bundle is list",
    "report(3.5)": "the bundle is float",
    "resume(7)": "run is int; expected the folder of a run",
    "load_data(7)": "dataset is int; expected one of mnist, fashion-mnist, kmnist",
    "load_data(path=7)": "path is int; expected the path of a file or folder",
    "train(7)": "a network is a name or a keras.Sequential, not int",
    "train(start=7, path='mine')": "the bundle is int",
    "train(teachers='pretrained')": "teachers is str; expected a list",
    "train(teachers=[7])": "the bundle is int",
    "build_model(7)": "unknown model '7'",
    "add_channel([1])": "x is list; expected an array of images",
    "mean_image('pixels')": "x is str; expected an array of images",
    "normalize(None)": "x is NoneType; expected an array of images",
    "preprocess('pixels', [1])": "images and labels must be arrays",
    "one_hot('labels')": "labels are whole numbers",
    "split(3, 1)": "labels have shape ()",
}
CODE = """
import digitwise as dw
for call in {calls}:
    try:
        eval("dw." + call)
    except dw.DigitwiseError as error:
        print(error)
"""


def test_wrong_types_are_refused_in_one_line() -> None:
    # In a process of its own, where no test hook checks types before the package does.
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(calls=list(CALLS))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(CALLS)
    for line, (call, expected) in zip(said, CALLS.items(), strict=True):
        assert expected in line, call
