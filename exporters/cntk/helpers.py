"""The functions that a written file defines, as text; `layers` composes the same of primitives."""

from __future__ import annotations

from exporters.cntk.recurrent_helpers import RECURRENT

__all__ = ["HELPERS", "NEEDS", "TRAINED"]

TRAINED = ("W", "R", "Rn", "b", "bn", "P", "scale", "bias", "weight")
"""The last part of the names of what training changes."""

NEEDS = {
    "convolution": ("complete",),
    "convolution_transpose": ("complete",),
    "dense": ("complete",),
    "batch_normalization": ("complete",),
    "erf": ("sign",),
    "lstm": ("complete", "gates", "unpack"),
    "gru": ("complete", "gates", "unpack"),
    "rnn": ("complete", "unpack"),
}
"""Which functions use which others."""

HELPERS = {
    "complete": '''def complete(y, b=None, activation=None, name=""):
    """`y` plus the bias `b`, through the activation; the last of them has the name."""
    if b is not None:
        y = C.plus(y, b, name="" if activation else name)
    return activation(y, name=name) if activation else y
''',
    "convolution": '''def convolution(x, w, key, strides=(1,), pads=None, groups=1, activation=None, name=None):
    """Convolution without or, given pads (before, behind) for each axis, with zeros around `x`."""
    name = key if name is None else name
    if pads:
        x = C.pad(x, [(0, 0)] + list(pads))
    b = w.get(key + ".b")
    y = C.convolution(
        w[key + ".W"],
        x,
        strides=strides,
        auto_padding=[False],
        groups=groups,
        name=name if b is None and activation is None else "",
    )
    return complete(y, b, activation, name)
''',
    "convolution_transpose": '''def convolution_transpose(
    x, w, key, output_shape, strides=(1,), crops=None, activation=None, name=None
):
    """Transposed convolution, of whose result so much is cut off before and behind on each axis."""
    name = key if name is None else name
    y = C.convolution_transpose(
        w[key + ".W"], x, strides=strides, auto_padding=[False], output_shape=output_shape
    )
    for axis, (before, behind) in enumerate(crops or [], 1):
        if before or behind:
            y = C.slice(y, axis, before, output_shape[axis] - behind)
    b = w.get(key + ".b")
    if b is None and activation is None:
        return C.alias(y, name=name)
    return complete(y, b, activation, name)
''',
    "dense": '''def dense(x, w, key, activation=None, name=None):
    """The last axis of `x` times a matrix, plus a bias where there is one."""
    name = key if name is None else name
    b = w.get(key + ".b")
    y = C.times(x, w[key + ".W"], name=name if b is None and activation is None else "")
    return complete(y, b, activation, name)
''',
    "batch_normalization": '''def batch_normalization(x, w, key, epsilon, activation=None, name=None):
    """Normalization by channel, the first axis of `x`."""
    name = key if name is None else name
    y = C.batch_normalization(
        x,
        w[key + ".scale"],
        w[key + ".bias"],
        w[key + ".mean"],
        w[key + ".variance"],
        running_count=C.constant(0),
        spatial=len(x.shape) > 1,
        epsilon=epsilon,
        use_cudnn_engine=False,
        name="" if activation else name,
    )
    return complete(y, None, activation, name)
''',
    "max_pooling": '''def max_pooling(x, window, strides=(1,), pads=None, name=""):
    """The greatest in each window; what is around `x` is less than anything."""
    if pads:
        x = C.pad(x, [(0, 0)] * (len(x.shape) - len(pads)) + list(pads), constant_value=-np.inf)
    return C.pooling(x, C.MAX_POOLING, window, strides, [False], name=name)
''',
    "average_pooling": '''def average_pooling(x, window, strides=(1,), pads=None, name=""):
    """The mean of each window, with zeros around `x`."""
    if pads:
        x = C.pad(x, [(0, 0)] * (len(x.shape) - len(pads)) + list(pads))
    return C.pooling(x, C.AVG_POOLING, window, strides, [False], name=name)
''',
    "normalize": '''def normalize(x, axes, epsilon, name=""):
    """(x - mean) / sqrt(variance + epsilon) over axes."""
    centered = x - C.reduce_mean(x, axis=axes)
    variance = C.reduce_mean(centered * centered, axis=axes)
    return C.element_divide(centered, C.sqrt(variance + epsilon), name=name)
''',
    "local_response_normalization": '''def local_response_normalization(x, size, alpha, beta, bias, name=""):
    """x / (bias + alpha / size * sum of squares of the `size` channels around) ** beta."""
    before = (size - 1) // 2
    squares = C.reshape(x * x, (1, x.shape[0], int(np.prod(x.shape[1:]))))
    squares = C.pad(squares, [(0, 0), (before, size - 1 - before), (0, 0)])
    mean = C.reshape(C.pooling(squares, C.AVG_POOLING, (size, 1), (1, 1), [False]), x.shape)
    return C.element_divide(x, C.pow(mean * alpha + bias, beta), name=name)
''',
    "round_half_even": '''def round_half_even(x, name=""):
    """The nearest whole number, of two the even one."""
    low = C.floor(x)
    rest = x - low
    odd = low - C.floor(low * 0.5) * 2.0
    return C.plus(low + C.greater(rest, 0.5), C.equal(rest, 0.5) * odd, name=name)
''',
    "swish": '''def swish(x, name=""):
    """x * sigmoid(x)."""
    return C.element_times(x, C.sigmoid(x), name=name)
''',
    "hard_swish": '''def hard_swish(x, name=""):
    """x * clip(x / 6 + 0.5, 0, 1)."""
    return C.element_times(x, C.clip(x * (1 / 6) + 0.5, 0.0, 1.0), name=name)
''',
    "sign": '''def sign(x, name=""):
    """-1, 0 or 1."""
    return C.minus(C.greater(x, 0.0), C.less(x, 0.0), name=name)
''',
    "erf": '''def erf(x, name=""):
    """The error function within 3e-7: Abramowitz and Stegun, 7.1.26."""
    t = C.reciprocal(C.abs(x) * 0.3275911 + 1.0)
    y = t * 1.061405429 - 1.453152027
    for factor in (1.421413741, -0.284496736, 0.254829592):
        y = y * t + factor
    return C.element_times(sign(x), 1.0 - y * t * C.exp(-(x * x)), name=name)
''',
    **RECURRENT,
}
