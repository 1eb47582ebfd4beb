"""Embeddings, and attention as matrix products: scores of queries and keys, their softmax, what it weighs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hub.errors import InvalidModel, Refusal
from hub.tensors import ViewTensor
from importers.keras.layers import Context, Part, layer

__all__: list[str] = []

Both = list[ir.Value]
"""What attention gives: the result, and the scores where they are asked for."""

HIDDEN = -0.7 * float(np.finfo(np.float32).max)
"""The score of what heads must not see, as Keras has it: rows that see nothing see everything alike."""


@layer("Embedding")
def embedding(
    keras: Context,
    x: ir.Value,
    *,
    input_dim: int,
    output_dim: int,
    mask_zero: bool = False,
    lora_rank: int | None = None,
) -> ir.Value:
    """Rows of a table; numbers that are not whole are cut off. A mask is refused where a layer uses it."""
    if keras.version == 1:
        raise Refusal("Embedding of Keras 1 is not supported", "load the model with Keras 2 and save it again")
    if lora_rank is not None:
        raise Refusal("lora_rank of an embedding is not supported", "merge it: save a model without lora")
    (table,) = keras.weights(embeddings=(input_dim, output_dim))
    if x.dtype not in (ir.DataType.INT32, ir.DataType.INT64):
        x = keras.op("Cast", x, to=int(ir.DataType.INT32))
    return keras.op("Gather", keras.weight("embeddings", table), x, axis=0)


# -- heads ------------------------------------------------------------------------------------------------------------


@layer(
    "MultiHeadAttention",
    call=["value", "key", "attention_mask", "use_causal_mask", "return_attention_scores"],
)
def multi_head_attention(
    keras: Context,
    query: ir.Value,
    value: ir.Value,
    key: ir.Value | None = None,
    attention_mask: ir.Value | None = None,
    use_causal_mask: bool = False,
    return_attention_scores: bool = False,
    *,
    num_heads: int,
    key_dim: int,
    value_dim: int | None = None,
    dropout: float = 0.0,
    use_bias: bool = True,
    use_gate: bool = False,
    output_shape: int | Sequence[int] | None = None,
    attention_axes: int | Sequence[int] | None = None,
    sliding_window: int | None = None,
    flash_attention: bool | None = None,
) -> Both:
    """Over the steps of (batch, steps, features); masks are boolean inputs, or causal."""
    axes = [attention_axes] if isinstance(attention_axes, int) else list(attention_axes or [1])
    if axes not in ([1], [-2]):
        raise Refusal(f"attention over the axes {axes} is not supported yet")
    size = [output_shape] if isinstance(output_shape, int) else list(output_shape or [])
    if len(size) > 1:
        raise Refusal(f"output_shape {size} of several axes is not supported yet")
    return _heads(
        keras,
        (query, value, value if key is None else key),
        attention_mask,
        causal=use_causal_mask,
        scores=return_attention_scores,
        heads=(num_heads, num_heads),
        sizes=(key_dim, value_dim or key_dim),
        features=size[0] if size else None,
        use_bias=use_bias,
        use_gate=use_gate,
        window=sliding_window,
        dropout=dropout,
    )


@layer(
    "GroupQueryAttention",
    "GroupedQueryAttention",
    call=["value", "key", "attention_mask", "use_causal_mask", "return_attention_scores"],
)
def grouped_query_attention(
    keras: Context,
    query: ir.Value,
    value: ir.Value,
    key: ir.Value | None = None,
    attention_mask: ir.Value | None = None,
    use_causal_mask: bool = False,
    return_attention_scores: bool = False,
    *,
    head_dim: int,
    num_query_heads: int,
    num_key_value_heads: int,
    dropout: float = 0.0,
    use_bias: bool = True,
    use_gate: bool = False,
    sliding_window: int | None = None,
    flash_attention: bool | None = None,
) -> Both:
    """Several heads of queries share one of keys and values."""
    if num_key_value_heads < 1 or num_query_heads % num_key_value_heads:
        raise InvalidModel(f"{num_query_heads} heads of queries do not share {num_key_value_heads} of keys")
    return _heads(
        keras,
        (query, value, value if key is None else key),
        attention_mask,
        causal=use_causal_mask,
        scores=return_attention_scores,
        heads=(num_query_heads, num_key_value_heads),
        sizes=(head_dim, head_dim),
        features=None,
        use_bias=use_bias,
        use_gate=use_gate,
        window=sliding_window,
        dropout=dropout,
    )


def _heads(
    keras: Context,
    inputs: tuple[ir.Value, ir.Value, ir.Value],
    mask: Any,
    *,
    causal: Any,
    scores: Any,
    heads: tuple[int, int],
    sizes: tuple[int, int],
    features: int | None,
    use_bias: bool,
    use_gate: bool,
    window: int | None,
    dropout: float,
) -> Both:
    """softmax(q k / sqrt(size)) v, each a projection in heads, and the projection of what comes out."""
    _floats(keras, inputs)
    if window is not None:
        raise Refusal("sliding_window is not supported yet")
    query, value, key = inputs
    (asked, kept), (size, width) = heads, sizes
    features = features or keras.size(query, 2)
    projections = {"query": (query, asked, size), "key": (key, kept, size)}
    if use_gate:
        projections["gate"] = (query, asked, width)
    projections["value"] = (value, kept, width)
    parts = [
        Part(f"{name}_dense", name, {"kernel": (keras.size(x, 2), n, s), "bias": (n, s) if use_bias else None})
        for name, (x, n, s) in projections.items()
    ]
    shapes = {"kernel": (asked, width, features), "bias": (features,) if use_bias else None}
    *found, last = keras.weights_of([*parts, Part("output_dense", "attention_output", shapes)])
    made = {}
    for (name, (x, n, s)), tensors in zip(projections.items(), found, strict=True):
        y = _projected(keras, x, name, tensors, n * s)
        if name == "gate":
            made[name] = keras.op("Sigmoid", y)
            continue
        y = keras.op("Reshape", y, keras.ints([0, 0, n, s], "heads"))
        if n != asked:
            apart = keras.op("Unsqueeze", y, keras.ints([3], "axes"))
            tiled = keras.op("Tile", apart, keras.ints([1, 1, 1, asked // n, 1], "repeats"))
            y = keras.op("Reshape", tiled, keras.ints([0, 0, asked, s], "heads"))
        made[name] = keras.op("Transpose", y, perm=[0, 2, 3, 1] if name == "key" else [0, 2, 1, 3])
    product = keras.op("MatMul", made["query"], made["key"])
    logits = keras.op("Mul", product, keras.constant(1 / math.sqrt(size), "scale"))
    hidden, seen = _hidden(keras, logits, query, value, mask, causal)
    weights = keras.op("Softmax", hidden, axis=-1)
    given = _flag(scores, "return_attention_scores")
    if seen is not None and mask is not None and keras.version >= 3 and (dropout > 0 or given):
        # Keras 3 then goes by its Softmax layer: who sees nothing gets nothing. Otherwise, and before, all alike.
        weights = keras.op("Where", seen, weights, keras.constant(0.0, "nothing"))
    y = keras.op("Transpose", keras.op("MatMul", weights, made["value"]), perm=[0, 2, 1, 3])
    y = keras.op("Reshape", y, keras.ints([0, 0, asked * width], "shape"))
    if use_gate:
        y = keras.op("Mul", y, made["gate"])
    y = _projected(keras, y, "output", last, features)
    return [y, weights] if given else [y]


def _projected(keras: Context, x: ir.Value, name: str, tensors: list[ViewTensor], width: int) -> ir.Value:
    """x times a kernel, the heads side by side."""
    kernel, *bias = tensors
    y = keras.op("MatMul", x, keras.weight(f"{name}_kernel", kernel, [0, 1], (keras.size(x, 2), width)))
    return keras.op("Add", y, keras.weight(f"{name}_bias", bias[0], [0], (width,))) if bias else y


# -- masks ------------------------------------------------------------------------------------------------------------


def _flag(value: Any, name: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Refusal(f"{name}={str(value)[:40]} is not known before it runs")


def _floats(keras: Context, inputs: Sequence[Any]) -> None:
    """Refuse what is no sequence of features."""
    for value in inputs:
        if not isinstance(value, ir.Value):
            raise Refusal(f"it is called with {str(value)[:40]}")
        if value.dtype != ir.DataType.FLOAT:
            raise Refusal("computing with integers is not supported yet", "make the input float32")
        if len(keras.shape(value)) != 3:
            raise Refusal(f"inputs of {len(keras.shape(value))} axes are not supported yet")


def _hidden(
    keras: Context,
    logits: ir.Value,
    query: ir.Value,
    value: ir.Value,
    mask: Any,
    causal: Any,
) -> tuple[ir.Value, ir.Value | None]:
    """The scores of heads, (batch, heads, queries, keys), low where a mask does not let them see; and the mask."""
    seen = _causal(keras, query, value) if _flag(causal, "use_causal_mask") else None
    if mask is not None:
        if not isinstance(mask, ir.Value) or mask.dtype != ir.DataType.BOOL:
            raise Refusal("an attention_mask that is not boolean is not supported", 'make it an Input(dtype="bool")')
        rank = len(keras.shape(mask))
        if not 2 <= rank <= 4:
            raise Refusal(f"an attention_mask of {rank} axes is not supported")
        if rank < 4:  # the heads are missing, and the batch may be
            mask = keras.op("Unsqueeze", mask, keras.ints([1] if rank == 3 else [0, 1], "axes"))
        seen = mask if seen is None else keras.op("And", mask, seen)
    if seen is None:
        return logits, None
    return keras.op("Where", seen, logits, keras.constant(HIDDEN, "hidden")), seen


def _causal(keras: Context, query: ir.Value, value: ir.Value) -> ir.Value:
    """(queries, keys): whether the key is not later than the query."""
    sizes = [keras.shape(query)[1], keras.shape(value)[1]]
    if sizes[0] is not None and sizes[1] is not None:
        return keras.builder.constant(np.tri(sizes[0], sizes[1], dtype=np.bool_), "causal")
    ranges = []
    for x in (query, value):
        zero, one = keras.ints(0, "start"), keras.ints(1, "step")
        length = keras.op("Squeeze", keras.op("Shape", x, start=1, end=2), keras.ints([0], "axes"))
        ranges.append(keras.op("Range", zero, length, one))
    rows = keras.op("Unsqueeze", ranges[0], keras.ints([1], "axes"))
    return keras.op("GreaterOrEqual", rows, ranges[1])


# -- one head, without projections ------------------------------------------------------------------------------------


@layer("Attention", call=["use_causal_mask", "return_attention_scores"])
def attention(
    keras: Context,
    query: ir.Value,
    value: ir.Value,
    key: ir.Value | None = None,
    use_causal_mask: bool = False,
    return_attention_scores: bool = False,
    *,
    use_scale: bool = False,
    score_mode: str = "dot",
    dropout: float = 0.0,
    causal: bool = False,
) -> Both:
    """Products of queries and keys, or, by `score_mode`, sums of the tanh of theirs."""
    key = value if key is None else key
    _floats(keras, (query, value, key))
    if score_mode not in ("dot", "concat"):
        raise Refusal(f"score_mode {score_mode!r} is not supported")
    concat = score_mode == "concat"
    tensors = keras.weights(scale=() if use_scale else None, concat_score_weight=() if concat else None)
    scale = keras.weight("scale", tensors.pop(0)) if use_scale else None
    if concat:
        logits = keras.op("Mul", _sums(keras, query, key, scale, None), keras.weight("concat_score_weight", tensors[0]))
    else:
        logits = keras.op("MatMul", query, keras.op("Transpose", key, perm=[0, 2, 1]))
        logits = logits if scale is None else keras.op("Mul", logits, scale)
    return _weighed(keras, logits, query, value, use_causal_mask or causal, return_attention_scores)


@layer("AdditiveAttention", call=["use_causal_mask", "return_attention_scores"])
def additive_attention(
    keras: Context,
    query: ir.Value,
    value: ir.Value,
    key: ir.Value | None = None,
    use_causal_mask: bool = False,
    return_attention_scores: bool = False,
    *,
    use_scale: bool = True,
    dropout: float = 0.0,
    causal: bool = False,
) -> Both:
    """Sums of scale * tanh(query + key)."""
    key = value if key is None else key
    _floats(keras, (query, value, key))
    tensors = keras.weights(scale=(keras.size(query, 2),) if use_scale else None)
    scale = keras.weight("scale", tensors[0]) if tensors else None
    logits = _sums(keras, query, key, None, scale)
    return _weighed(keras, logits, query, value, use_causal_mask or causal, return_attention_scores)


def _sums(keras: Context, query: ir.Value, key: ir.Value, inner: ir.Value | None, outer: ir.Value | None) -> ir.Value:
    """The sum over the features of outer * tanh(inner * (query + key)), for each query and key."""
    rows = keras.op("Unsqueeze", query, keras.ints([2], "axes"))
    y = keras.op("Add", rows, keras.op("Unsqueeze", key, keras.ints([1], "axes")))
    y = keras.op("Tanh", y if inner is None else keras.op("Mul", y, inner))
    y = y if outer is None else keras.op("Mul", y, outer)
    return keras.op("ReduceSum", y, keras.ints([3], "axes"), keepdims=0)


def _weighed(keras: Context, logits: ir.Value, query: ir.Value, value: ir.Value, causal: Any, scores: Any) -> Both:
    if _flag(causal, "use_causal_mask"):
        low = keras.op("Sub", logits, keras.constant(1e9, "hidden"))
        logits = keras.op("Where", _causal(keras, query, value), logits, low)
    weights = keras.op("Softmax", logits, axis=-1)
    y = keras.op("MatMul", weights, value)
    return [y, weights] if _flag(scores, "return_attention_scores") else [y]
