"""One training on several machines: Keras on JAX, each machine with a share of the images.

On each of N machines, K from 0 to N-1; the first one's address is everybody's coordinator:

    python train_on_several_machines.py --coordinator HOST:PORT --machines N --number K

Every step takes a batch's share on each machine, and the gradients' mean over all of them, so that
all hold the same weights at any time. The first machine saves the network at the end.
"""

import argparse
import hashlib
import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

import digitwise as dw


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--coordinator", required=True, help="host:port of the first machine")
    parser.add_argument("--machines", type=int, required=True, help="how many there are")
    parser.add_argument("--number", type=int, required=True, help="this one's, from 0")
    parser.add_argument("--model", default="fast", help="a network that digitwise knows")
    parser.add_argument("--data", help="as for digitwise train; left out, MNIST")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128, help="over all machines")
    parser.add_argument("--output", default="several-machines.keras", help="a .keras file")
    arguments = parser.parse_args()

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    keras.distribution.initialize(arguments.coordinator, arguments.machines, arguments.number)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    keras.utils.set_random_seed(0)  # the same first weights on all machines

    (x, y), (x_test, y_test) = dw.load_data(path=arguments.data)
    x, y = dw.preprocess(x, y)
    x_test, y_test = dw.preprocess(x_test, y_test)

    batch = arguments.batch_size // arguments.machines
    order = np.random.default_rng(0).permutation(len(x))
    share = order[: len(x) // arguments.batch_size * arguments.batch_size]
    share = share[arguments.number :: arguments.machines]
    network = dw.build_model(arguments.model)
    network.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    network.fit(x[share], y[share], batch_size=batch, epochs=arguments.epochs, verbose=2)

    weights = network.get_weights()
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest()
    print(f"weights {digest[:16]}", flush=True)
    tested = len(x_test) // arguments.machines
    mine = slice(arguments.number * tested, (arguments.number + 1) * tested)
    figures = network.evaluate(
        x_test[mine], y_test[mine], batch_size=tested, return_dict=True, verbose=0
    )
    print(f"accuracy {figures['accuracy']:.4f}", flush=True)
    jax.distributed.shutdown()
    if arguments.number == 0:
        keras.distribution.set_distribution(None)
        network = dw.build_model(arguments.model)
        network.set_weights(weights)
        network.save(arguments.output)


if __name__ == "__main__":
    main()
