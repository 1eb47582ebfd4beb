"""Small Keras models by name, each a configuration that can go wrong, for every importer and target.

`CASES` has one entry a configuration; `built(case)` gives the model with seeded weights in which
every weight, bias and statistic matters; `feeds(model)` gives seeded inputs of batch 2; `agree`
compares. Keras is imported when a case is built, not before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CASES", "Case", "agree", "built", "feeds", "outputs_of", "randomise"]

TOLERANCE = 1e-4
"""Largest error, relative to the spread of the expected output."""


@dataclass(frozen=True)
class Case:
    """A model by name. `refused` is a part of the message of the `UnsupportedOps` it meets, `why` the reason."""

    name: str
    build: Callable[[], Any]
    refused: str | None = None
    sizes: tuple[tuple[int, ...], ...] = ()
    """Shapes (without the batch) of the inputs to run with, where the model leaves sizes open."""

    def __str__(self) -> str:
        return self.name


CASES: dict[str, Case] = {}


def case(
    name: str, build: Callable[[], Any], *, refused: str | None = None, sizes: Sequence[tuple[int, ...]] = ()
) -> None:
    """Add a case; a name is used once."""
    assert name not in CASES, name
    CASES[name] = Case(name, build, refused, tuple(sizes))


def layers() -> Any:
    """`keras.layers`, imported when it is first needed."""
    import keras

    return keras.layers


def one(
    name: str,
    shape: Sequence[int | None],
    make: Callable[[Any], Any],
    *,
    refused: str | None = None,
    size: tuple[int, ...] | None = None,
) -> None:
    """A case of one layer, `make(keras.layers)`, on one input."""

    def build() -> Any:
        import keras

        x = keras.Input(tuple(shape), name="image")
        return keras.Model(x, make(keras.layers)(x), name="net")

    case(name, build, refused=refused, sizes=[size] if size else ())


def many(name: str, shapes: Sequence[Sequence[int]], make: Callable[[Any], Any], *, refused: str | None = None) -> None:
    """A case of one layer on several inputs."""

    def build() -> Any:
        import keras

        xs = [keras.Input(tuple(shape), name=f"input_{i}") for i, shape in enumerate(shapes)]
        return keras.Model(xs, make(keras.layers)(xs), name="net")

    case(name, build, refused=refused)


# -- convolutions ----------------------------------------------------------------------------------

IMAGE = (9, 7, 4)
EVEN = (8, 10, 4)

for _padding in ("valid", "same"):
    for _stride in (1, 2, 3):
        one(f"conv2d {_padding} stride {_stride}", IMAGE, lambda L, p=_padding, s=_stride: L.Conv2D(5, 3, s, p))
        one(
            f"conv2d {_padding} stride {_stride} even", EVEN, lambda L, p=_padding, s=_stride: L.Conv2D(5, (2, 3), s, p)
        )
        one(
            f"depthwise {_padding} stride {_stride}",
            EVEN,
            lambda L, p=_padding, s=_stride: L.DepthwiseConv2D(3, s, p, depth_multiplier=2),
        )
        one(
            f"separable {_padding} stride {_stride}",
            IMAGE,
            lambda L, p=_padding, s=_stride: L.SeparableConv2D(5, 3, s, p),
        )
        one(f"conv1d {_padding} stride {_stride}", (11, 3), lambda L, p=_padding, s=_stride: L.Conv1D(5, 4, s, p))
    for _stride in (1, 2):
        one(
            f"conv3d {_padding} stride {_stride}",
            (5, 6, 7, 2),
            lambda L, p=_padding, s=_stride: L.Conv3D(3, (2, 3, 3), s, p),
        )
        one(f"depthwise1d {_padding} {_stride}", (10, 3), lambda L, p=_padding, s=_stride: L.DepthwiseConv1D(4, s, p))
        one(
            f"separable1d {_padding} {_stride}", (10, 3), lambda L, p=_padding, s=_stride: L.SeparableConv1D(5, 3, s, p)
        )
    one(f"conv2d {_padding} dilated", IMAGE, lambda L, p=_padding: L.Conv2D(5, 3, 1, p, dilation_rate=2))
    one(
        f"conv2d {_padding} dilated by axis",
        EVEN,
        lambda L, p=_padding: L.Conv2D(5, (2, 3), 1, p, dilation_rate=(3, 2)),
    )
    one(f"conv1d {_padding} dilated", (15, 3), lambda L, p=_padding: L.Conv1D(5, 3, 1, p, dilation_rate=3))
    one(f"depthwise {_padding} dilated", EVEN, lambda L, p=_padding: L.DepthwiseConv2D(3, 1, p, dilation_rate=(2, 2)))
    one(
        f"separable {_padding} dilated", EVEN, lambda L, p=_padding: L.SeparableConv2D(3, 3, 1, p, dilation_rate=(2, 2))
    )
    one(f"conv2d {_padding} groups", IMAGE, lambda L, p=_padding: L.Conv2D(6, 3, 2, p, groups=2))

one("conv1d causal", (11, 3), lambda L: L.Conv1D(5, 4, padding="causal"))
one("conv1d causal stride", (11, 3), lambda L: L.Conv1D(5, 4, strides=2, padding="causal"))
one("conv1d causal dilated", (11, 3), lambda L: L.Conv1D(5, 3, padding="causal", dilation_rate=2))
one("conv1d groups", (11, 4), lambda L: L.Conv1D(6, 3, groups=2))
one("conv3d groups", (5, 6, 7, 4), lambda L: L.Conv3D(6, 3, groups=2))
one("conv2d anisotropic strides", IMAGE, lambda L: L.Conv2D(5, (3, 5), (2, 3), "same"))
one("conv2d kernel larger than the image", (3, 4, 2), lambda L: L.Conv2D(3, (7, 5), 2, "same"))
one("conv2d pointwise stride", EVEN, lambda L: L.Conv2D(5, 1, 2, "same"))
one("conv2d without bias", IMAGE, lambda L: L.Conv2D(5, 3, use_bias=False))
one("depthwise without bias", IMAGE, lambda L: L.DepthwiseConv2D(3, use_bias=False))
one("separable without bias", IMAGE, lambda L: L.SeparableConv2D(5, 3, depth_multiplier=3, use_bias=False))
one("conv2d open sizes", (None, None, 4), lambda L: L.Conv2D(5, 3, padding="same"), size=IMAGE)
one("conv2d open sizes stride", (None, None, 4), lambda L: L.Conv2D(5, 3, 2, padding="same"), size=EVEN)
one("conv2d open sizes stride odd", (None, None, 4), lambda L: L.Conv2D(5, 4, 3, padding="same"), size=IMAGE)
one("depthwise open sizes stride", (None, None, 4), lambda L: L.DepthwiseConv2D(3, 2, padding="same"), size=EVEN)
one("conv1d open size stride", (None, 4), lambda L: L.Conv1D(5, 3, 2, padding="same"), size=(10, 4))
one("conv2d one open size", (None, 7, 4), lambda L: L.Conv2D(5, 3, 2, padding="same"), size=IMAGE)
# Keras itself adds the bias along the width where the width is the number of filters: not so here.
one("conv2d channels first", (4, 9, 7), lambda L: L.Conv2D(5, 3, 2, "same", data_format="channels_first"))
one("depthwise channels first", (4, 9, 7), lambda L: L.DepthwiseConv2D(3, data_format="channels_first"))
one("separable channels first", (4, 9, 7), lambda L: L.SeparableConv2D(6, 3, data_format="channels_first"))
one("conv1d channels first", (4, 9), lambda L: L.Conv1D(5, 3, data_format="channels_first"))

for _stride in (1, 2, 3):
    for _padding in ("valid", "same"):
        for _kernel in (1, 2, 3, 4):
            one(
                f"conv2d transpose {_padding} stride {_stride} kernel {_kernel}",
                (5, 4, 3),
                lambda L, p=_padding, s=_stride, k=_kernel: L.Conv2DTranspose(4, k, s, p),
            )
        one(
            f"conv1d transpose {_padding} {_stride}",
            (6, 3),
            lambda L, p=_padding, s=_stride: L.Conv1DTranspose(4, 3, s, p),
        )
    one(f"conv3d transpose {_stride}", (3, 4, 2, 3), lambda L, s=_stride: L.Conv3DTranspose(2, 3, s, "same"))
one("conv2d transpose without bias", (5, 4, 3), lambda L: L.Conv2DTranspose(4, 3, 2, use_bias=False, activation="tanh"))
one("conv2d transpose open sizes", (None, None, 3), lambda L: L.Conv2DTranspose(4, 3, 2, "same"), size=(5, 4, 3))
for _padding in ("valid", "same"):
    for _kernel, _stride, _extra in ((3, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2)):
        one(
            f"conv2d transpose {_padding} kernel {_kernel} stride {_stride} output_padding {_extra}",
            (5, 4, 3),
            lambda L, p=_padding, k=_kernel, s=_stride, e=_extra: L.Conv2DTranspose(4, k, s, p, output_padding=e),
        )
    one(
        f"conv2d transpose {_padding} dilated",
        (5, 4, 3),
        lambda L, p=_padding: L.Conv2DTranspose(4, 3, 1, p, dilation_rate=2),
    )

# -- pooling ----------------------------------------------------------------------------------------

for _kind in ("Max", "Average"):
    for _padding in ("valid", "same"):
        for _size, _stride in ((2, None), (3, 2), (3, 1), (2, 3)):
            for _shape in (IMAGE, EVEN):
                one(
                    f"{_kind.lower()} pooling {_padding} {_size} stride {_stride} on {_shape[0]}x{_shape[1]}",
                    _shape,
                    lambda L, c=f"{_kind}Pooling2D", z=_size, s=_stride, p=_padding: getattr(L, c)(z, s, p),
                )
        one(
            f"{_kind.lower()} pooling 1d {_padding}",
            (9, 3),
            lambda L, c=f"{_kind}Pooling1D", p=_padding: getattr(L, c)(2, None, p),
        )
        one(
            f"{_kind.lower()} pooling 3d {_padding}",
            (5, 6, 7, 2),
            lambda L, c=f"{_kind}Pooling3D", p=_padding: getattr(L, c)((2, 3, 2), 2, p),
        )
        one(
            f"{_kind.lower()} pooling open sizes {_padding}",
            (None, None, 3),
            lambda L, c=f"{_kind}Pooling2D", p=_padding: getattr(L, c)(3, 2, p),
            size=(8, 7, 3),
        )
    one(
        f"{_kind.lower()} pooling open sizes stride 1",
        (None, None, 3),
        lambda L, c=f"{_kind}Pooling2D": getattr(L, c)(2, 1, "same"),
        size=(8, 7, 3),
    )
    one(
        f"{_kind.lower()} pooling channels first",
        (3, 8, 7),
        lambda L, c=f"{_kind}Pooling2D": getattr(L, c)(3, 2, "valid", data_format="channels_first"),
    )
    for _n, _shape in ((1, (9, 3)), (2, (9, 7, 3)), (3, (5, 6, 7, 3))):
        for _keep in (False, True):
            one(
                f"global {_kind.lower()} pooling {_n}d keepdims {_keep}",
                _shape,
                lambda L, c=f"Global{_kind}Pooling{_n}D", k=_keep: getattr(L, c)(keepdims=k),
            )
    one(
        f"global {_kind.lower()} pooling channels first",
        (3, 8, 7),
        lambda L, c=f"Global{_kind}Pooling2D": getattr(L, c)(data_format="channels_first"),
    )
    one(
        f"global {_kind.lower()} pooling open sizes",
        (None, None, 3),
        lambda L, c=f"Global{_kind}Pooling2D": getattr(L, c)(),
        size=(8, 7, 3),
    )

# -- padding, cropping, upsampling, reshaping ---------------------------------------------------------

one("zero padding 2d asymmetric", IMAGE, lambda L: L.ZeroPadding2D(((1, 0), (2, 3))))
one("zero padding 2d one number", IMAGE, lambda L: L.ZeroPadding2D(2))
one("zero padding 2d by axis", IMAGE, lambda L: L.ZeroPadding2D((1, 2)))
one(
    "zero padding 2d channels first",
    (4, 9, 7),
    lambda L: L.ZeroPadding2D(((1, 0), (2, 3)), data_format="channels_first"),
)
one("zero padding 1d", (9, 3), lambda L: L.ZeroPadding1D(2))
one("zero padding 1d asymmetric", (9, 3), lambda L: L.ZeroPadding1D((1, 3)))
one("zero padding 3d", (4, 5, 6, 2), lambda L: L.ZeroPadding3D(((1, 0), (0, 2), (3, 1))))
one("cropping 2d from the beginning", IMAGE, lambda L: L.Cropping2D(((1, 0), (1, 0))))
one("cropping 2d from the end", IMAGE, lambda L: L.Cropping2D(((0, 2), (0, 1))))
one("cropping 2d one number", IMAGE, lambda L: L.Cropping2D(2))
one("cropping 2d nothing", IMAGE, lambda L: L.Cropping2D(0))
one("cropping 2d open sizes", (None, None, 3), lambda L: L.Cropping2D(((1, 2), (0, 3))), size=(8, 7, 3))
one("cropping 2d channels first", (4, 9, 7), lambda L: L.Cropping2D(((1, 2), (0, 3)), data_format="channels_first"))
one("cropping 1d", (9, 3), lambda L: L.Cropping1D((2, 1)))
one("cropping 1d one number", (9, 3), lambda L: L.Cropping1D(2))
one("cropping 3d", (6, 5, 6, 2), lambda L: L.Cropping3D(((1, 0), (0, 2), (3, 1))))
one("upsampling 2d nearest", IMAGE, lambda L: L.UpSampling2D((2, 3)))
one("upsampling 2d bilinear", IMAGE, lambda L: L.UpSampling2D((2, 3), interpolation="bilinear"))
one(
    "upsampling 2d bicubic",
    IMAGE,
    lambda L: L.UpSampling2D(2, interpolation="bicubic"),
    refused="interpolation 'bicubic'",
)
one(
    "upsampling 2d lanczos",
    IMAGE,
    lambda L: L.UpSampling2D(2, interpolation="lanczos3"),
    refused="interpolation 'lanczos3'",
)
one("upsampling 2d channels first", (4, 9, 7), lambda L: L.UpSampling2D((2, 3), data_format="channels_first"))
one("upsampling 2d open sizes", (None, None, 3), lambda L: L.UpSampling2D(2, interpolation="bilinear"), size=(8, 7, 3))
one("upsampling 1d", (9, 3), lambda L: L.UpSampling1D(3))
one("upsampling 3d", (3, 2, 4, 2), lambda L: L.UpSampling3D((2, 1, 3)))
one("flatten", IMAGE, lambda L: L.Flatten())
one("flatten a vector", (5,), lambda L: L.Flatten())
one("flatten channels first", (4, 9, 7), lambda L: L.Flatten(data_format="channels_first"))
one("reshape", (6, 4, 3), lambda L: L.Reshape((8, 9)))
one("reshape with -1", (6, 4, 3), lambda L: L.Reshape((-1, 2, 3)))
one("reshape to an image", (24,), lambda L: L.Reshape((2, 3, 4)))
one("reshape of open sizes", (None, 4, 3), lambda L: L.Reshape((-1, 6)), size=(5, 4, 3))
one("permute", (6, 4, 3), lambda L: L.Permute((2, 3, 1)))
one("repeat vector", (5,), lambda L: L.RepeatVector(3))
one("identity", IMAGE, lambda L: L.Identity())

# -- activations --------------------------------------------------------------------------------------

ACTIVATIONS = (
    "linear relu relu6 sigmoid tanh softmax log_softmax elu selu softplus softsign exponential gelu silu swish "
    "hard_sigmoid hard_silu hard_swish mish leaky_relu log_sigmoid celu glu hard_shrink hard_tanh "
    "soft_shrink sparse_plus sparsemax squareplus tanh_shrink"
).split()
for _name in ACTIVATIONS:
    _refused = "activation 'sparsemax'" if _name == "sparsemax" else None
    one(f"activation {_name}", IMAGE, lambda L, a=_name: L.Activation(a), refused=_refused)
for _name in ("relu", "relu6", "softmax", "selu", "gelu", "hard_sigmoid", "leaky_relu", "elu", "swish", "mish"):
    one(f"conv2d with activation {_name}", IMAGE, lambda L, a=_name: L.Conv2D(5, 3, 2, "same", activation=a))
    one(f"dense with activation {_name}", (6,), lambda L, a=_name: L.Dense(5, activation=a))
one(
    "conv2d channels first with softmax",
    (4, 9, 7),
    lambda L: L.Conv2D(6, 3, activation="softmax", data_format="channels_first"),
)
one("depthwise with activation", IMAGE, lambda L: L.DepthwiseConv2D(3, activation="softmax"))
one("separable with activation", IMAGE, lambda L: L.SeparableConv2D(5, 3, activation="relu6"))
one("dense with an activation layer", (6,), lambda L: L.Dense(5, activation=L.LeakyReLU(negative_slope=0.4)))
one("dense with a configured ReLU", (6,), lambda L: L.Dense(5, activation=L.ReLU(max_value=2.0)))
one("ReLU", IMAGE, lambda L: L.ReLU())
one("ReLU6", IMAGE, lambda L: L.ReLU(max_value=6.0))
one("ReLU with a maximum", IMAGE, lambda L: L.ReLU(max_value=0.7))
one("ReLU with a slope", IMAGE, lambda L: L.ReLU(negative_slope=0.3))
one("ReLU with a slope and a maximum", IMAGE, lambda L: L.ReLU(max_value=1.0, negative_slope=0.3))
one("ReLU with a threshold", IMAGE, lambda L: L.ReLU(threshold=0.5))
one("ReLU with a slope and a threshold", IMAGE, lambda L: L.ReLU(negative_slope=0.3, threshold=0.5))
one("ReLU with a maximum and a threshold", IMAGE, lambda L: L.ReLU(max_value=1.0, threshold=0.5))
one("ReLU with everything", IMAGE, lambda L: L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.5))
one("LeakyReLU", IMAGE, lambda L: L.LeakyReLU())
one("LeakyReLU with a slope", IMAGE, lambda L: L.LeakyReLU(negative_slope=0.05))
one("ELU", IMAGE, lambda L: L.ELU(alpha=0.7))
one("PReLU", IMAGE, lambda L: L.PReLU())
one("PReLU shared over the image", IMAGE, lambda L: L.PReLU(shared_axes=[1, 2]))
one("PReLU shared over one axis", IMAGE, lambda L: L.PReLU(shared_axes=[1]))
one("PReLU shared over the channels", IMAGE, lambda L: L.PReLU(shared_axes=[3]))
one("PReLU of a vector", (5,), lambda L: L.PReLU())
one("PReLU of a sequence", (7, 5), lambda L: L.PReLU(shared_axes=[1]))
one("Softmax", IMAGE, lambda L: L.Softmax())
one("Softmax over the height", IMAGE, lambda L: L.Softmax(axis=1))
one("Softmax over two axes", IMAGE, lambda L: L.Softmax(axis=[1, 2]))

# -- normalisation -------------------------------------------------------------------------------------

one("batch norm", IMAGE, lambda L: L.BatchNormalization())
one("batch norm epsilon", IMAGE, lambda L: L.BatchNormalization(epsilon=0.1))
one("batch norm without scale", IMAGE, lambda L: L.BatchNormalization(scale=False))
one("batch norm without centre", IMAGE, lambda L: L.BatchNormalization(center=False))
one("batch norm with neither", IMAGE, lambda L: L.BatchNormalization(center=False, scale=False))
one("batch norm of a vector", (5,), lambda L: L.BatchNormalization())
one("batch norm of a sequence", (7, 5), lambda L: L.BatchNormalization())
one("batch norm of a volume", (4, 3, 5, 2), lambda L: L.BatchNormalization())
one("batch norm axis 1", (4, 9, 7), lambda L: L.BatchNormalization(axis=1))
one("batch norm axis 2", IMAGE, lambda L: L.BatchNormalization(axis=2))
one("layer norm", IMAGE, lambda L: L.LayerNormalization())
one("layer norm over the image", IMAGE, lambda L: L.LayerNormalization(axis=[1, 2, 3]))
one("layer norm axis 1", IMAGE, lambda L: L.LayerNormalization(axis=1))
one("layer norm axes 1 and 2", IMAGE, lambda L: L.LayerNormalization(axis=[1, 2]))
one("layer norm without scale", IMAGE, lambda L: L.LayerNormalization(scale=False, epsilon=0.01))
one("layer norm without centre", IMAGE, lambda L: L.LayerNormalization(center=False))
one("layer norm of a vector", (5,), lambda L: L.LayerNormalization())
one("rescaling", IMAGE, lambda L: L.Rescaling(1 / 127.5, offset=-1))
one("rescaling by channel", (9, 7, 3), lambda L: L.Rescaling([0.5, 2.0, 3.0], offset=[1.0, -1.0, 0.5]))
one("rescaling without offset", IMAGE, lambda L: L.Rescaling(0.25))
one("normalization", IMAGE, lambda L: L.Normalization())
one(
    "normalization of given statistics",
    (9, 7, 3),
    lambda L: L.Normalization(mean=[1.0, -2.0, 0.5], variance=[0.5, 2.0, 0.3]),
)
one("normalization axis None", (9, 7, 3), lambda L: L.Normalization(axis=None, mean=0.3, variance=2.0))
one(
    "normalization inverted",
    (9, 7, 3),
    lambda L: L.Normalization(mean=[1.0, -2.0, 0.5], variance=[0.5, 2.0, 0.3], invert=True),
)
one("normalization axis 1", IMAGE, lambda L: L.Normalization(axis=1))
one("group norm", IMAGE, lambda L: L.GroupNormalization(2), refused="not supported yet")
one("unit norm", IMAGE, lambda L: L.UnitNormalization(), refused="not supported yet")

for _name in ("Dropout", "SpatialDropout2D", "AlphaDropout", "GaussianNoise", "GaussianDropout"):
    one(f"{_name}", IMAGE, lambda L, c=_name: getattr(L, c)(0.4))
one("SpatialDropout1D", (9, 3), lambda L: L.SpatialDropout1D(0.4))
one("SpatialDropout3D", (4, 3, 5, 2), lambda L: L.SpatialDropout3D(0.4))
one("ActivityRegularization", (5,), lambda L: L.ActivityRegularization(l1=0.1))

# -- dense and merges -------------------------------------------------------------------------------------

one("dense", (6,), lambda L: L.Dense(5))
one("dense without bias", (6,), lambda L: L.Dense(5, use_bias=False))
one("dense on a sequence", (7, 6), lambda L: L.Dense(5, activation="softmax"))
one("dense on an image", IMAGE, lambda L: L.Dense(5, use_bias=False))
for _name in ("Add", "Multiply", "Maximum", "Minimum", "Average", "Subtract"):
    many(f"{_name} of two", [IMAGE, IMAGE], lambda L, c=_name: getattr(L, c)())
    many(f"{_name} broadcast", [IMAGE, (1, 1, 4)], lambda L, c=_name: getattr(L, c)())
    if _name != "Subtract":
        many(f"{_name} of three", [IMAGE, IMAGE, IMAGE], lambda L, c=_name: getattr(L, c)())
        many(f"{_name} of three with one broadcast", [(5,), (1,), (5,)], lambda L, c=_name: getattr(L, c)())
many("Add of an image and a vector", [IMAGE, (4,)], lambda L: L.Add(), refused="inputs of 2 and 4 axes")
many("Concatenate", [IMAGE, (9, 7, 2)], lambda L: L.Concatenate())
many("Concatenate of three", [(5,), (2,), (3,)], lambda L: L.Concatenate())
many("Concatenate over the height", [IMAGE, (3, 7, 4)], lambda L: L.Concatenate(axis=1))
many("Concatenate over the width", [IMAGE, (9, 2, 4)], lambda L: L.Concatenate(axis=-2))
many("Dot", [(5, 3), (4, 3)], lambda L: L.Dot(axes=2), refused="not supported yet")

# -- recurrent layers ------------------------------------------------------------------------------------------

STEPS = (7, 5)

for _name in ("LSTM", "GRU", "SimpleRNN"):
    for _way in ("forwards", "backwards"):
        for _what in ("last", "sequences"):
            one(
                f"{_name} {_way} {_what}",
                STEPS,
                lambda L, c=_name, w=_way, s=_what: getattr(L, c)(
                    4, go_backwards=w == "backwards", return_sequences=s == "sequences"
                ),
            )
    one(f"{_name} without bias", STEPS, lambda L, c=_name: getattr(L, c)(4, use_bias=False))
    one(f"{_name} unrolled", STEPS, lambda L, c=_name: getattr(L, c)(4, unroll=True))
    one(f"{_name} with dropout", STEPS, lambda L, c=_name: getattr(L, c)(4, dropout=0.3, recurrent_dropout=0.2))
    one(f"{_name} open steps", (None, 5), lambda L, c=_name: getattr(L, c)(4), size=STEPS)
    one(
        f"{_name} open steps backwards",
        (None, 5),
        lambda L, c=_name: getattr(L, c)(4, go_backwards=True, return_sequences=True),
        size=STEPS,
    )
    one(f"{_name} with its states", STEPS, lambda L, c=_name: getattr(L, c)(4, return_state=True))
    one(
        f"{_name} with its states backwards",
        STEPS,
        lambda L, c=_name: getattr(L, c)(4, return_state=True, return_sequences=True, go_backwards=True),
    )
    for _activation in ("relu", "softsign", "softplus", "linear", "hard_sigmoid", "elu", "leaky_relu"):
        one(
            f"{_name} with activation {_activation}",
            STEPS,
            lambda L, c=_name, a=_activation: getattr(L, c)(4, activation=a),
        )
        # A gate without a limit lets the numbers of a GRU grow beyond all.
        if _name == "LSTM" or (_name == "GRU" and _activation not in ("linear", "softplus")):
            one(
                f"{_name} with recurrent activation {_activation}",
                STEPS,
                lambda L, c=_name, a=_activation: getattr(L, c)(4, recurrent_activation=a),
            )
    one(
        f"{_name} with activation gelu",
        STEPS,
        lambda L, c=_name: getattr(L, c)(4, activation="gelu"),
        refused="activation 'gelu' is none",
    )
    for _mode in ("concat", "sum", "mul", "ave", None):
        for _what in ("last", "sequences"):
            one(
                f"bidirectional {_name} {_mode} {_what}",
                STEPS,
                lambda L, c=_name, m=_mode, s=_what: L.Bidirectional(
                    getattr(L, c)(4, return_sequences=s == "sequences"), merge_mode=m
                ),
            )
    one(
        f"bidirectional {_name} with its states",
        STEPS,
        lambda L, c=_name: L.Bidirectional(getattr(L, c)(4, return_state=True, return_sequences=True)),
    )
    one(
        f"bidirectional {_name} open steps",
        (None, 5),
        lambda L, c=_name: L.Bidirectional(getattr(L, c)(4, return_sequences=True)),
        size=STEPS,
    )
    one(f"RNN of a {_name}Cell", STEPS, lambda L, c=_name: L.RNN(getattr(L, f"{c}Cell")(4), return_sequences=True))
    one(
        f"RNN of two {_name}Cells backwards",
        STEPS,
        lambda L, c=_name: L.RNN([getattr(L, f"{c}Cell")(n) for n in (4, 3)], go_backwards=True),
    )
    one(
        f"RNN of two {_name}Cells with their states",
        STEPS,
        lambda L, c=_name: L.RNN([getattr(L, f"{c}Cell")(n) for n in (4, 3)], return_state=True),
        refused="the states of stacked cells",
    )

one("GRU with the reset before", STEPS, lambda L: L.GRU(4, reset_after=False, return_sequences=True))
one("GRU with the reset before, without bias", STEPS, lambda L: L.GRU(4, reset_after=False, use_bias=False))
one("bidirectional GRU with the reset before", STEPS, lambda L: L.Bidirectional(L.GRU(4, reset_after=False)))
one("RNN of an LSTM and a GRU", STEPS, lambda L: L.RNN([L.LSTMCell(4), L.GRUCell(3), L.LSTMCell(2)]))
one(
    "bidirectional of different layers",
    STEPS,
    lambda L: L.Bidirectional(
        L.LSTM(4, return_sequences=True),
        backward_layer=L.GRU(3, activation="relu", return_sequences=True, go_backwards=True),
    ),
)
one(
    "bidirectional that begins at the end",
    STEPS,
    lambda L: L.Bidirectional(L.LSTM(4, go_backwards=True), backward_layer=L.LSTM(4)),
    refused="runs backwards",
)


def _with_states(make: Callable[[Any], Any], count: int) -> Callable[[], Any]:
    def build() -> Any:
        import keras

        x = keras.Input(STEPS, name="sequence")
        states = [keras.Input((4,), name=f"state_{i}") for i in range(count)]
        return keras.Model([x, *states], make(keras.layers)(x, initial_state=states), name="net")

    return build


for _name, _count in (("LSTM", 2), ("GRU", 1), ("SimpleRNN", 1)):
    for _way in (False, True):
        case(
            f"{_name} from given states{' backwards' if _way else ''}",
            _with_states(lambda L, c=_name, w=_way: getattr(L, c)(4, return_sequences=True, go_backwards=w), _count),
        )
    case(
        f"bidirectional {_name} from given states",
        _with_states(lambda L, c=_name: L.Bidirectional(getattr(L, c)(4)), 2 * _count),
    )

one("time distributed dense", STEPS, lambda L: L.TimeDistributed(L.Dense(4, activation="softmax")))
one("time distributed dense open steps", (None, 5), lambda L: L.TimeDistributed(L.Dense(4)), size=STEPS)
one("time distributed dense of images", (3, 4, 5), lambda L: L.TimeDistributed(L.Dense(4)))
one("time distributed conv", (3, 6, 7, 2), lambda L: L.TimeDistributed(L.Conv2D(4, 3, 2, "same")))
one("time distributed conv open steps", (None, 6, 7, 2), lambda L: L.TimeDistributed(L.Conv2D(4, 3)), size=(3, 6, 7, 2))
one("time distributed batch norm", (3, 6, 7, 2), lambda L: L.TimeDistributed(L.BatchNormalization()))
one("time distributed flatten", (3, 4, 2, 2), lambda L: L.TimeDistributed(L.Flatten()))
one("time distributed LSTM", (3, 6, 4), lambda L: L.TimeDistributed(L.LSTM(3)))
one(
    "time distributed of an unknown layer",
    (3, 6, 7, 2),
    lambda L: L.TimeDistributed(L.UnitNormalization()),
    refused="(UnitNormalization): this layer class is not supported yet",
)
one("ConvLSTM1D", (3, 6, 2), lambda L: L.ConvLSTM1D(2, 3), refused="ConvLSTM1D x1: this layer class is not supported")
one("Masking", STEPS, lambda L: L.Masking(), refused="hub does not follow masks")

# -- embeddings and attention ------------------------------------------------------------------------------------------


def words(name: str, make: Callable[[Any], Any], *, dtype: str = "int32", steps: int | None = 7, **more: Any) -> None:
    """A case of one layer on numbers of words."""

    def build() -> Any:
        import keras

        x = keras.Input((steps,), dtype=dtype, name="words")
        return keras.Model(x, make(keras.layers)(x), name="net")

    case(name, build, **more)


words("embedding", lambda L: L.Embedding(9, 4))
words("embedding of int64", lambda L: L.Embedding(9, 4), dtype="int64")
words("embedding of floats", lambda L: L.Embedding(9, 4), dtype="float32")
words("embedding open steps", lambda L: L.Embedding(9, 4), steps=None, sizes=[(5,)])
words("embedding with a mask that nothing uses", lambda L: L.Embedding(9, 4, mask_zero=True))


def attended(
    name: str,
    make: Callable[..., Any],
    shapes: Sequence[Sequence[int | None]] = ((6, 5), (4, 3)),
    *,
    mask: Sequence[int | None] | None = None,
    mask_type: str = "bool",
    refused: str | None = None,
    sizes: Sequence[tuple[int, ...]] = (),
) -> None:
    """A case of `make(layers, *inputs)`, the last input a mask, if there is one."""

    def build() -> Any:
        import keras

        xs = [keras.Input(tuple(shape), name=f"input_{i}") for i, shape in enumerate(shapes)]
        if mask is not None:
            xs.append(keras.Input(tuple(mask), dtype=mask_type, name="mask"))
        return keras.Model(xs, make(keras.layers, *xs), name="net")

    case(name, build, refused=refused, sizes=sizes)


SAME = ((6, 5),)
OPEN = ((None, 5),)
ALIKE = ((6, 5), (4, 5))

attended("attention in heads", lambda L, q, v: L.MultiHeadAttention(3, 4)(q, v))
attended("attention in heads to itself", lambda L, x: L.MultiHeadAttention(2, 4)(x, x), SAME)
attended(
    "attention in heads with keys", lambda L, q, v, k: L.MultiHeadAttention(3, 4)(q, v, key=k), ((6, 5), (4, 3), (4, 2))
)
attended(
    "attention in heads by position", lambda L, q, v, k: L.MultiHeadAttention(3, 4)(q, v, k), ((6, 5), (4, 3), (4, 2))
)
attended("attention in heads of other values", lambda L, q, v: L.MultiHeadAttention(3, 4, value_dim=2)(q, v))
attended("attention in heads without bias", lambda L, q, v: L.MultiHeadAttention(3, 4, use_bias=False)(q, v))
attended("attention in heads with dropout", lambda L, q, v: L.MultiHeadAttention(3, 4, dropout=0.4)(q, v))
attended("attention in heads to another size", lambda L, q, v: L.MultiHeadAttention(3, 4, output_shape=7)(q, v))
attended(
    "attention in heads to several sizes",
    lambda L, q, v: L.MultiHeadAttention(3, 4, output_shape=(2, 7))(q, v),
    refused="output_shape [2, 7]",
)
attended("attention in heads with a gate", lambda L, q, v: L.MultiHeadAttention(3, 4, use_gate=True)(q, v))
attended(
    "attention in heads in a window",
    lambda L, x: L.MultiHeadAttention(3, 4, sliding_window=2)(x, x),
    SAME,
    refused="sliding_window",
)
attended(
    "attention in heads over an image",
    lambda L, x: L.MultiHeadAttention(3, 4, attention_axes=(1, 2))(x, x),
    ((4, 3, 5),),
    refused="attention over the axes [1, 2]",
)
for _name, _make in (
    ("attention in heads", lambda L: L.MultiHeadAttention(2, 4)),
    ("grouped attention", lambda L: L.GroupQueryAttention(4, 6, 2)),
):
    attended(f"{_name} causal", lambda L, x, m=_make: m(L)(x, x, use_causal_mask=True), SAME)
    attended(f"{_name} causal open steps", lambda L, x, m=_make: m(L)(x, x, use_causal_mask=True), OPEN, sizes=[(6, 5)])
    attended(f"{_name} causal of others", lambda L, q, v, m=_make: m(L)(q, v, use_causal_mask=True), ALIKE)
    attended(f"{_name} with scores", lambda L, q, v, m=_make: m(L)(q, v, return_attention_scores=True), ALIKE)
    attended(f"{_name} masked", lambda L, q, v, k, m=_make: m(L)(q, v, attention_mask=k), ALIKE, mask=(6, 4))
    attended(
        f"{_name} masked and causal",
        lambda L, x, k, m=_make: m(L)(x, x, attention_mask=k, use_causal_mask=True),
        SAME,
        mask=(6, 6),
    )
    attended(
        f"{_name} masked by numbers",
        lambda L, q, v, k, m=_make: m(L)(q, v, attention_mask=k),
        ALIKE,
        mask=(6, 4),
        mask_type="float32",
        refused="attention_mask that is not boolean",
    )
attended(
    "attention in heads masked each",
    lambda L, q, v, k: L.MultiHeadAttention(3, 4)(q, v, attention_mask=k),
    mask=(3, 6, 4),
)
attended("grouped attention", lambda L, q, v: L.GroupQueryAttention(4, 6, 2)(q, v), ALIKE)
attended(
    "grouped attention without bias, gated",
    lambda L, q, v: L.GroupQueryAttention(4, 6, 3, use_bias=False, use_gate=True)(q, v),
    ALIKE,
)

for _name, _make in (
    ("attention", lambda L: L.Attention()),
    ("attention with a scale", lambda L: L.Attention(use_scale=True, dropout=0.3)),
    ("attention by sums", lambda L: L.Attention(score_mode="concat", use_scale=True)),
    ("attention by sums without a scale", lambda L: L.Attention(score_mode="concat")),
    ("additive attention", lambda L: L.AdditiveAttention()),
    ("additive attention without a scale", lambda L: L.AdditiveAttention(use_scale=False)),
):
    attended(f"{_name} of two", lambda L, q, v, m=_make: m(L)([q, v]), ALIKE)
    attended(f"{_name} of three", lambda L, q, v, k, m=_make: m(L)([q, v, k]), ((6, 5), (4, 2), (4, 5)))
    attended(f"{_name} causal", lambda L, x, m=_make: m(L)([x, x], use_causal_mask=True), SAME)
    attended(
        f"{_name} causal open steps, with scores",
        lambda L, x, m=_make: m(L)([x, x], use_causal_mask=True, return_attention_scores=True),
        OPEN,
        sizes=[(6, 5)],
    )

for _name, _make in (
    ("attention in heads", lambda L, d: L.MultiHeadAttention(2, 4, dropout=d)),
    ("grouped attention", lambda L, d: L.GroupQueryAttention(4, 6, 2, dropout=d)),
):
    attended(
        f"{_name} masked with dropout",
        lambda L, q, v, k, m=_make: m(L, 0.4)(q, v, attention_mask=k, use_causal_mask=True),
        ALIKE,
        mask=(6, 4),
    )
    attended(
        f"{_name} masked with scores",
        lambda L, q, v, k, m=_make: m(L, 0.0)(q, v, attention_mask=k, return_attention_scores=True),
        ALIKE,
        mask=(6, 4),
    )
attended(
    "conv, attention with scores",
    lambda L, x: L.MultiHeadAttention(2, 4)(L.Conv1D(4, 3)(x), x, return_attention_scores=True),
    SAME,
)


def _with_constant(L: Any) -> Callable[[Any], Any]:
    table = np.random.default_rng(5).standard_normal((1, 7, 4)).astype(np.float32)
    return lambda x: L.Embedding(9, 4)(x) + table


words("embedding and constant positions", _with_constant)

one("rms norm", STEPS, lambda L: L.RMSNormalization())
one("rms norm of an image", IMAGE, lambda L: L.RMSNormalization(axis=[2, 3], epsilon=0.1))
one("layer norm by the deviation", IMAGE, lambda L: L.LayerNormalization(rms_scaling=True))
one("layer norm by the deviation over the image", IMAGE, lambda L: L.LayerNormalization(axis=[1, 2], rms_scaling=True))

# -- layers of keras.applications -----------------------------------------------------------------------------


def _layer_scale() -> Any:
    import keras
    from keras.src.applications.convnext import LayerScale

    x = keras.Input(IMAGE, name="image")
    return keras.Model(x, LayerScale(0.1, 4, name="scale")(x), name="net")


def _custom_scale() -> Any:
    import keras
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    xs = [keras.Input(IMAGE, name=f"input_{i}") for i in range(2)]
    return keras.Model(xs, CustomScaleLayer(0.17)(xs), name="net")


def _stochastic_depth() -> Any:
    import keras
    from keras.src.applications.convnext import StochasticDepth

    x = keras.Input(IMAGE, name="image")
    return keras.Model(x, StochasticDepth(0.3)(x), name="net")


case("LayerScale", _layer_scale)
case("CustomScaleLayer", _custom_scale)
case("StochasticDepth", _stochastic_depth)

# -- several layers ------------------------------------------------------------------------------------------


def chain(name: str, shape: Sequence[int | None], *makes: Callable[[Any], Any], **options: Any) -> None:
    """A case of layers one after the other."""

    def build() -> Any:
        import keras

        x = y = keras.Input(tuple(shape), name="image")
        for make in makes:
            y = make(keras.layers)(y)
        return keras.Model(x, y, name="net")

    case(name, build, **options)


chain("conv, flatten, dense", IMAGE, lambda L: L.Conv2D(5, 3), lambda L: L.Flatten(), lambda L: L.Dense(3))
chain(
    "pool, flatten, batch norm, dense",
    IMAGE,
    lambda L: L.MaxPooling2D(),
    lambda L: L.Flatten(),
    lambda L: L.BatchNormalization(),
    lambda L: L.Dense(3),
)
chain("conv, flatten, softmax", IMAGE, lambda L: L.Conv2D(5, 3), lambda L: L.Flatten(), lambda L: L.Softmax())
chain("conv, reshape, conv1d", IMAGE, lambda L: L.Conv2D(6, 3), lambda L: L.Reshape((-1, 6)), lambda L: L.Conv1D(4, 3))
chain(
    "conv, reshape of channels",
    IMAGE,
    lambda L: L.Conv2D(6, 3),
    lambda L: L.Reshape((7, 5, 2, 3)),
    lambda L: L.Permute((1, 2, 4, 3)),
    lambda L: L.Reshape((7, 5, 6)),
    lambda L: L.Conv2D(3, 3),
)
chain(
    "conv, permute, flatten, dense",
    IMAGE,
    lambda L: L.Conv2D(6, 3),
    lambda L: L.Permute((3, 1, 2)),
    lambda L: L.Flatten(),
    lambda L: L.Dense(3),
)
chain(
    "conv, PReLU, pool",
    IMAGE,
    lambda L: L.Conv2D(6, 3),
    lambda L: L.PReLU(),
    lambda L: L.AveragePooling2D(2, padding="same"),
)
chain(
    "conv, batch norm axis 1, flatten, dense",
    IMAGE,
    lambda L: L.Conv2D(6, 3),
    lambda L: L.BatchNormalization(axis=1),
    lambda L: L.Flatten(),
    lambda L: L.Dense(2),
)
chain(
    "conv, softmax over the height, conv",
    IMAGE,
    lambda L: L.Conv2D(6, 3),
    lambda L: L.Softmax(axis=1),
    lambda L: L.Conv2D(3, 3),
)
chain(
    "conv, layer norm, conv",
    IMAGE,
    lambda L: L.Conv2D(6, 3),
    lambda L: L.LayerNormalization(),
    lambda L: L.Conv2D(3, 3),
)
chain(
    "padding, conv, cropping",
    IMAGE,
    lambda L: L.ZeroPadding2D(((2, 1), (0, 3))),
    lambda L: L.Conv2D(6, 3, 2),
    lambda L: L.Cropping2D(((1, 0), (1, 0))),
)
chain(
    "vector to image to vector",
    (12,),
    lambda L: L.Dense(24),
    lambda L: L.Reshape((2, 3, 4)),
    lambda L: L.Conv2DTranspose(5, 3, 2, "same"),
    lambda L: L.Flatten(),
    lambda L: L.Dense(3),
)
chain(
    "channels first network",
    (3, 9, 7),
    lambda L: L.Conv2D(6, 3, data_format="channels_first", activation="relu"),
    lambda L: L.BatchNormalization(axis=1),
    lambda L: L.AveragePooling2D(2, data_format="channels_first"),
    lambda L: L.Flatten(data_format="channels_first"),
    lambda L: L.Dense(3),
)
chain(
    "global pool keepdims, conv",
    IMAGE,
    lambda L: L.GlobalAveragePooling2D(keepdims=True),
    lambda L: L.Conv2D(3, 1, activation="sigmoid"),
)

# -- weights, inputs, comparison -----------------------------------------------------------------------------------


def randomise(model: Any, seed: int = 0) -> Any:
    """Give every variable of a Keras model seeded values at which it matters."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        name, shape = variable.path.split("/")[-1], tuple(variable.shape)
        if "variance" in name:
            value = rng.uniform(0.3, 2.0, shape)
        elif name in ("gamma",):
            value = rng.uniform(0.5, 1.5, shape)
        elif name in ("count", "seed_generator_state"):
            continue
        elif "kernel" in name and len(shape) > 1:
            fan = math.prod(shape[:-1])
            value = rng.standard_normal(shape) * (1.6 / math.sqrt(fan))
        else:
            value = rng.standard_normal(shape) * 0.5
        variable.assign(value.astype(np.float32))
    for layer in model._flatten_layers():
        if type(layer).__name__ == "Normalization" and getattr(layer, "adapt_mean", None) is not None:
            layer.finalize_state()
    return model


def calibrate(model: Any, seed: int = 0) -> Any:
    """Give normalizations the statistics of a seeded batch, so that no layer's numbers vanish or grow with depth."""
    normalizations = [layer for layer in model._flatten_layers() if type(layer).__name__ == "BatchNormalization"]
    for layer in normalizations:
        layer.momentum = 0.0
    shapes = [(4, *tensor.shape[1:]) for tensor in model.inputs]
    batch = [np.random.default_rng(seed).standard_normal(shape).astype(np.float32) for shape in shapes]
    model(batch[0] if len(batch) == 1 else batch, training=True)
    return model


@lru_cache(maxsize=8)
def built(case: Case) -> Any:
    """The model of a case, with its weights."""
    import keras

    keras.utils.clear_session(free_memory=False)
    return randomise(case.build())


def feeds(model: Any, sizes: Sequence[tuple[int, ...]] = (), seed: int = 1, batch: int = 2) -> list[npt.NDArray[Any]]:
    """Seeded inputs of a Keras model, in its order."""
    rng = np.random.default_rng(seed)
    shapes = sizes or [tuple(int(d) for d in x.shape[1:]) for x in model.inputs]
    return [_feed(rng, x, (batch, *shape)) for x, shape in zip(model.inputs, shapes, strict=True)]


def _feed(rng: np.random.Generator, tensor: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if tensor.dtype == "bool":
        seen = np.asarray(rng.random(shape) < 0.6)
        seen[0, ..., 0, :] = False  # of which one query sees nothing
        return seen
    if tensor.dtype in ("int32", "int64") or tensor.name == "words":
        return rng.integers(0, 9, shape).astype(tensor.dtype)
    return rng.uniform(-2, 2, shape).astype(np.float32)


def outputs_of(model: Any, arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """What Keras itself computes, one array an output."""
    import keras

    result = model([keras.ops.convert_to_tensor(a) for a in arrays] if len(arrays) > 1 else arrays[0], training=False)
    flat = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else [result]
    return [keras.ops.convert_to_numpy(value) for value in flat]


def agree(expected: npt.NDArray[Any], got: npt.NDArray[Any], tolerance: float = TOLERANCE) -> None:
    """Same shape and type, finite, and the largest difference below `tolerance` of the expected spread."""
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    assert got.dtype == expected.dtype, f"type {got.dtype}, expected {expected.dtype}"
    assert np.isfinite(expected).all(), "the expected output is not finite: the test proves nothing"
    spread = float(expected.max() - expected.min()) if expected.size else 0.0
    assert expected.size <= 1 or spread > 0, "the expected output is constant: the test proves nothing"
    error = float(np.abs(got.astype(np.float64) - expected).max()) / (spread or 1.0)
    assert error <= tolerance, f"the largest error is {error:.3g} of the spread {spread:.3g}"
