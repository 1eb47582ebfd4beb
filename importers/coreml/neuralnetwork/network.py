"""The layers of one network, said one after another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx_ir as ir

from hub.builder import GraphBuilder
from hub.errors import HubError, InvalidModel, Refusal
from importers.coreml.neuralnetwork import ops  # noqa: F401 - registers the layers
from importers.coreml.neuralnetwork.layers import Context, call
from importers.coreml.neuralnetwork.ops.control import leaves
from importers.coreml.neuralnetwork.weights import Weights

__all__ = ["Scope", "rank_of", "sequential"]

PLAIN = frozenset(
    """convolution pooling activation innerProduct embedding batchnorm mvn l2normalize softmax lrn crop padding
    upsample resizeBilinear unary add multiply average scale bias max min dot reduce loadConstant flatten split
    reorganizeData slice copy ceil floor sign round exp2 sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh
    erf gelu clip clampedReLU equal notEqual lessThan lessEqual greaterThan greaterEqual logicalAnd logicalOr
    logicalXor logicalNot whereBroadcastable addBroadcastable subtractBroadcastable multiplyBroadcastable
    divideBroadcastable maxBroadcastable minBroadcastable powBroadcastable floorDivBroadcastable
    modBroadcastable""".split()
)
"""Layers for which the sequence, the first of five axes, is like a batch, so that they can do without."""

SEQUENTIAL = frozenset(
    "simpleRecurrent gru uniDirectionalLSTM biDirectionalLSTM sequenceRepeat concat reshape permute cropResize".split()
)
"""Layers of five axes which are used with sequences."""

MOST_DEPTH = 16


def sequential(message: Any) -> bool:
    """Whether a layer moves numbers along the sequence."""
    kind = message.WhichOneof("layer")
    if kind == "concat":
        return bool(message.concat.sequenceConcat)
    if kind == "reshape":
        target = message.reshape.targetShape
        return len(target) == 4 and target[0] != 1
    if kind == "permute":
        return list(message.permute.axis[:1]) != [0]
    return kind not in PLAIN


def rank_of(layers: Iterable[Any]) -> tuple[int, bool]:
    """How many axes the blobs of a network with five have here: four, without the sequence, where nothing needs it.

    And whether sequence and batch may be of any size: other layers count on their being 1.
    """
    moving = [message.WhichOneof("layer") for message in layers if sequential(message)]
    if not moving:
        return 4, True
    return 5, all(kind in SEQUENTIAL for kind in moving)


class Scope:
    """Says layers: blobs by name in `values`; what is refused in `refused`, for the one error at the end.

    `rank`: how many axes the blobs of a network with sequence and batch have; None where shapes are exact.
    """

    def __init__(
        self,
        builder: GraphBuilder,
        weights: Weights,
        rank: int | None,
        warnings: list[str],
        refused: list[tuple[str, str, Refusal]],
        depth: int = 0,
    ) -> None:
        self.builder = builder
        self.weights = weights
        self.rank = rank
        self.warnings = warnings
        self.refused = refused
        self.started = len(refused)
        self.depth = depth
        self.values: dict[str, ir.Value] = {}
        self.narrow: dict[int, ir.Value] = {}
        """Batches of vectors, by the values that are the same with height and width of 1."""

        self.lost: set[str] = set()
        """Blobs of layers that are refused."""

    def inner(self, builder: GraphBuilder) -> Scope:
        """The scope of a network inside of this one."""
        if self.depth > MOST_DEPTH:
            raise InvalidModel(f"more than {MOST_DEPTH} networks are inside of one another")
        scope = Scope(builder, self.weights, self.rank, self.warnings, self.refused, self.depth + 1)
        scope.values, scope.lost, scope.narrow = dict(self.values), set(self.lost), self.narrow
        return scope

    def warn(self, text: str) -> None:
        """Tell the user once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def run(self, layers: Iterable[Any]) -> None:
        """Say the layers in their order."""
        messages = list(layers)
        for position, message in enumerate(messages):
            if leaves(message) and position + 1 < len(messages):
                kind = message.WhichOneof("layer") or "layer"
                self._refuse(message, kind, Refusal("layers follow it, which it leaves out at times"))
                continue
            self.say(message)

    def say(self, message: Any) -> None:
        """Say one layer."""
        kind = message.WhichOneof("layer")
        name = message.name or (message.output[0] if message.output else "layer")
        where = f"layer {name[:100]!r} ({kind or 'of an unknown type'})"
        if kind is None:
            self._refuse(message, "unknown layer", Refusal("its type is not known: it is newer than this, or damaged"))
            return
        if any(blob in self.lost for blob in message.input):
            self.lost.update(message.output)
            self._check_kind(message, kind)
            return
        missing = [blob for blob in message.input if blob not in self.values]
        if missing:
            raise InvalidModel(f"{where} reads {missing[0][:100]!r}, which nothing before it writes")
        if message.isUpdatable:
            self.warn("layers are marked as updatable; their training on the device is left out")
        first = len(self.builder.nodes)
        context = Context(self.builder, message, kind, self.weights, self)
        try:
            with self.builder.layer(name, kind):
                params = getattr(message, kind)
                given = [self.values[blob] for blob in message.input]
                vector = context.narrow(given[0]) if len(given) == 1 and _pointwise(kind, params) else None
                if vector is None:
                    results = call(context, params, given)
                else:
                    results = [context.wide(call(context, params, [vector])[0])]
        except Refusal as refusal:
            self._refuse(message, kind, refusal)
            return
        except InvalidModel as error:
            raise InvalidModel(f"{where}: {error}") from error
        except HubError as error:
            raise InvalidModel(f"{where}: {error}") from error
        if len(results) != len(message.output):
            raise InvalidModel(f"{where} has {len(message.output)} outputs, it gives {len(results)}")
        own = {id(node) for node in self.builder.nodes[first:]}
        for blob, value in zip(message.output, results, strict=True):
            if id(value.producer()) in own and not self.depth:  # names inside of branches are those behind them
                vector = self.narrow.get(id(value), value)
                self.builder.rename(vector if id(vector.producer()) in own else value, blob)
            self.values[blob] = value

    def _check_kind(self, message: Any, kind: str) -> None:
        """A layer behind a refused one is refused as well, if there is no form of it at all."""
        from importers.coreml.neuralnetwork.layers import LAYERS

        if kind not in LAYERS:
            self._refuse(message, kind, Refusal(_no_form(message, kind)))

    def _refuse(self, message: Any, kind: str, refusal: Refusal) -> None:
        if kind == "custom":
            refusal = Refusal(_no_form(message, kind), "its code is in an app, not in the model")
        self.refused.append((kind, message.name, refusal))
        self.lost.update(message.output)


def _pointwise(kind: str, params: Any) -> bool:
    """Whether a layer of one input takes every number alone."""
    if kind == "activation":
        return params.WhichOneof("NonlinearityType") not in (None, "PReLU", "parametricSoftplus")
    return kind in ("unary", "clip", "gelu", "tanh", "erf", "clampedReLU", "copy")


def _no_form(message: Any, kind: str) -> str:
    if kind == "custom":
        return f"it is a layer of somebody's own, of the class {message.custom.className[:80]!r}"
    return "there is no form of this layer yet"
