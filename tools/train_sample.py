"""Train the sample that ships in the package: a small convolutional network on scikit-learn's digits.

    python -m tools.train_sample

Needs the extra [tensorflow] and scikit-learn. Writes to `hub/samples/`: `digits.keras` and
`digits.h5` (the same network), `digits.npz` (test images and Keras's own outputs for them,
the proof that `hub demo` checks) and `digits.json` (labels, accuracy, what the recorded
images show, how it was made).
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from parity.golden import save_golden

FOLDER = Path(__file__).resolve().parent.parent / "hub" / "samples"
SEED = 20261122
SHOWN = 32
"""Test images whose outputs are recorded."""


def block(x: keras.KerasTensor, name: str, filters: int, stride: int) -> keras.KerasTensor:
    """Two convolutions beside a shortcut, as in a residual network."""
    y = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv1")(x)
    y = layers.BatchNormalization(name=f"{name}_bn1")(y)
    y = layers.ReLU(name=f"{name}_relu1")(y)
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv2")(y)
    y = layers.BatchNormalization(name=f"{name}_bn2")(y)
    shortcut = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_shortcut")(x)
    y = layers.Add(name=f"{name}_add")([y, shortcut])
    return layers.ReLU(name=f"{name}_out")(y)


def network() -> keras.Model:
    """8x8 grey images to 10 digits, about 28,000 parameters."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="stem")(image)
    x = block(x, "block1", 16, 1)
    x = block(x, "block2", 32, 2)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    digit = layers.Dense(10, activation="softmax", name="digit")(x)
    return keras.Model(image, digit, name="digits")


def _text(record: dict[str, object]) -> str:
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    return f"{{\n{lines}\n}}\n"


def main() -> None:
    """Train, measure, save, record."""
    keras.utils.set_random_seed(SEED)
    digits = load_digits()
    images = (digits.images[..., None] / 16.0).astype(np.float32)
    x_train, x_test, y_train, y_test = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    model = network()
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=30, batch_size=64, verbose=2, validation_data=(x_test, y_test))
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    clean = keras.models.clone_model(model)  # without the optimizer
    clean.set_weights(model.get_weights())

    FOLDER.mkdir(exist_ok=True)
    clean.save(FOLDER / "digits.keras")
    clean.save(FOLDER / "digits.h5")
    shown = x_test[:SHOWN]
    logits = keras.Model(clean.input, clean.get_layer("pool").output).predict(shown, verbose=0)
    kernel, bias = clean.get_layer("digit").get_weights()
    save_golden(
        FOLDER / "digits.npz",
        {"image": shown},
        {"digit": clean.predict(shown, verbose=0), "before:digit": logits @ kernel + bias},
        runtime="Keras",
        version=keras.version(),
    )
    record = {
        "description": "Residual network for 8x8 grey images of handwritten digits, values 0 to 1",
        "data": "scikit-learn digits, 1347 for training and 450 for testing",
        "test_accuracy": round(float(accuracy), 4),
        "labels": [str(i) for i in range(10)],
        "recorded": [int(label) for label in y_test[:SHOWN]],
        "parameters": clean.count_params(),
        "keras": keras.version(),
        "seed": SEED,
    }
    (FOLDER / "digits.json").write_text(_text(record))


if __name__ == "__main__":
    main()
