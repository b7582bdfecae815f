"""PyTorch's own MNIST example, from its published settings.

    python benchmarks/peers/pytorch_example.py [--seed N] [--epochs N] [--best | --with SPEEDUP...]

The recipe is that of github.com/pytorch/examples, mnist: Adadelta at 1.0, times 0.7 an epoch,
batches of 64, 14 epochs, inputs normalized. The data is in memory, which the example's is not; its
loader would only slow it. It is shuffled each epoch, which the example does on a GPU alone. --with
keeps the recipe, and sets how it is computed; --best is what made it fastest here.
"""

import argparse
from collections.abc import Callable

import mnist
import torch
from torch import nn
from torch.nn import functional

from digitwise.network.settings import bfloat16_is_faster

SPEEDUPS = ("channels-last", "bfloat16", "compile")
BEST = ("channels-last", *(("bfloat16",) if bfloat16_is_faster() else ()))  # for both peers


def network() -> nn.Module:
    """Declares the example's network: log-probabilities of ten classes."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
        nn.LogSoftmax(1),
    )


def options(description: str | None, epochs: int) -> argparse.Namespace:
    """Parses what a peer of PyTorch takes: what each does, and --with."""
    parser = mnist.parser(description, epochs)
    parser.add_argument("--with", nargs="*", default=(), choices=SPEEDUPS, dest="speedups")
    arguments = parser.parse_args()
    if arguments.best:
        arguments.speedups = BEST
    return arguments


def prepare(
    declare: Callable[[], nn.Module], arguments: argparse.Namespace
) -> tuple[torch.memory_format, nn.Module, Callable[..., torch.Tensor]]:
    """Makes a network as the options ask for it.

    Returns:
        How images lie in memory, the network, and what to call in training.
    """
    torch.manual_seed(arguments.seed)
    last = "channels-last" in arguments.speedups
    layout = torch.channels_last if last else torch.contiguous_format
    model = declare().to(memory_format=layout)
    run: Callable[..., torch.Tensor] = model
    if "compile" in arguments.speedups:
        run = torch.compile(model, dynamic=False)  # anew for the last, smaller batch
    if "bfloat16" not in arguments.speedups:
        return layout, model, run

    def run_in_bfloat16(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return run(x).float()

    return layout, model, run_in_bfloat16


def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Tests a network on images (n, 1, 28, 28) and labels (n,)."""
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(part).argmax(1) for part in x.split(1000)])
    return float((found == y).float().mean())


def main() -> None:
    arguments = options(__doc__, epochs=14)
    layout, model, run = prepare(network, arguments)
    x, y, x_test, y_test = (torch.from_numpy(part) for part in mnist.normalized(mnist.load()))
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    clock = mnist.Clock(lambda: accuracy(model, x_test, y_test))
    for _ in range(arguments.epochs):
        model.train()
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            functional.nll_loss(run(x[batch].to(memory_format=layout)), y[batch]).backward()
            optimizer.step()
        schedule.step()
        clock.end_epoch()
    clock.print()


if __name__ == "__main__":
    main()
