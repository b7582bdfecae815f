"""Keras's own MNIST example, from its published settings.

    python benchmarks/peers/keras_example.py [--seed N] [--epochs N] [--best]

The recipe is that of keras.io/examples/vision/mnist_convnet: a tenth of the training images held
out, Adam at 1e-3, batches of 128, 15 epochs. --best keeps it, and sets how it is computed: 50 steps
an execution, bfloat16 where the processor is faster in it, freed memory kept as our trainings keep
it, and no look at the images held out.
"""

import keras
import mnist
import numpy as np

from digitwise.network.settings import bfloat16_is_faster

HELD_OUT = 6_000


def network() -> keras.Sequential:
    """Declares the example's network."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax", dtype="float32"),
        ]
    )


def main() -> None:
    arguments = mnist.parser(__doc__, epochs=15).parse_args()
    if arguments.best:
        from digitwise.network.process import keep_freed_memory

        keep_freed_memory()
    x, y, x_test, y_test = mnist.load()
    x, x_test = (np.expand_dims(part.astype("float32") / 255, -1) for part in (x, x_test))
    y, hot_test = keras.utils.to_categorical(y, 10), keras.utils.to_categorical(y_test, 10)
    keras.utils.set_random_seed(arguments.seed)
    tester = network()  # in float32, whatever the other computes in
    if arguments.best and bfloat16_is_faster():
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = network()
    model.compile(
        optimizer="adam",
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=50 if arguments.best else 1,
    )
    tester.compile(loss="categorical_crossentropy", metrics=["accuracy"])

    def test() -> float:
        tester.set_weights(model.get_weights())
        return float(tester.evaluate(x_test, hot_test, 1000, verbose=0)[1])

    clock = mnist.Clock(test)
    after_epoch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: clock.end_epoch())
    seen, held_out = slice(-HELD_OUT), slice(-HELD_OUT, None)
    model.fit(
        x[seen],
        y[seen],
        batch_size=128,
        epochs=arguments.epochs,
        validation_data=None if arguments.best else (x[held_out], y[held_out]),
        verbose=0,
        callbacks=[after_epoch],
    )
    clock.print()


if __name__ == "__main__":
    main()
