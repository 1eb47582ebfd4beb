"""Keras models of sequences, as in `keras_cases`: recurrent layers, embeddings, attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras_case import IMAGE, STEPS, case, one

__all__: list[str] = []

# -- recurrent layers ------------------------------------------------------------------------------------------

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
