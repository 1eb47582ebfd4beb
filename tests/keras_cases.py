"""Small Keras models by name, each a configuration that can go wrong, for every importer and target.

`CASES` has one entry a configuration, with those of `keras_sequences`; `built(case)` gives the model.
"""

from __future__ import annotations

from typing import Any

import keras_sequences  # noqa: F401  (adds its cases)
from keras_case import CASES, EVEN, IMAGE, Case, built, case, chain, many, one

__all__ = ["CASES", "Case", "built"]

# -- convolutions ----------------------------------------------------------------------------------

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
