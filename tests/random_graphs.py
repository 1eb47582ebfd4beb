"""Random ONNX graphs of blocks that are almost equal, from a seed: what the exporter of code merges wrongly.

A block is a row of steps; each further one is a copy in which perhaps one number, one axis, one
order of operands or one weight is another. Names are those of layers, and collide on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper as oh
from onnx import numpy_helper

__all__ = ["random_graph"]

C, H, W = 4, 6, 5
NAMES = [
    "x", "F", "nn", "torch", "self", "forward", "Tensor", "math", "class", "None", "train", "eval", "type", "to",
    "a-b", "a_b", "a.b", "a/b", "a b", "1conv", "conv1", "conv_1", "conv-1", "load", "Path", "pad_same", "shortcut",
    "residual", "branch", "y", "scale", "value", "dim", "axis", "weight", "bias", "super", "half", "T", "modules",
    "block", "Block", "in_channels", "channels", "eps", "alpha", "__init__", "_", "", "\u00e9", "print", "x2", "hidden",
]  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One operator of a block: `kind` makes it, from numbers that may be changed one by one."""

    kind: str
    numbers: dict[str, Any] = field(default_factory=dict)
    key: int = 0
    """Weights with one key are one weight."""


def _choices(rng: np.random.Generator, image: bool) -> dict[str, dict[str, list[Any]]]:
    rank = 4 if image else 3
    axes = [1, 2, 3] if image else [1, 2]
    common: dict[str, dict[str, list[Any]]] = {
        "unary": {"op": ["Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "Mish", "Abs", "Neg", "Erf"]},
        "leaky": {"op": ["LeakyRelu", "Elu", "Celu", "ThresholdedRelu"], "alpha": [0.1, 0.2, 0.5, 1.0]},
        "hard_sigmoid": {"alpha": [0.2, 1 / 6], "beta": [0.5, 0.3]},
        "selu": {"alpha": [1.6732632, 1.0], "gamma": [1.0507010, 2.0]},
        "gelu": {"approximate": ["none", "tanh"]},
        "clip": {"low": [None, 0.0, -0.5, -1.0], "high": [6.0, 0.7, 1.0, None]},
        "softmax": {"op": ["Softmax", "LogSoftmax"], "axis": [*axes, -1]},
        "skip": {"op": ["Add", "Sub", "Mul", "Max", "Min", "Mean", "Sum"], "swap": [False, True]},
        "divide": {"swap": [False, True]},
        "number": {"op": ["Add", "Sub", "Mul", "Div"], "swap": [False, True], "value": [2.0, 3.0, 0.5, 1.0]},
        "whole": {"op": ["Add", "Sub", "Mul"], "swap": [False, True], "axis": axes, "lead": [True, False]},
        "power": {"value": [2.0, 3.0, 1.5]},
        "center": {"axis": [*axes, (1, 2)], "op": ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2"]},
        "layer_norm": {"epsilon": [1e-3, 1e-2, 0.1], "axis": [-1, *axes], "bias": [True, False]},
        "rms_norm": {"epsilon": [1e-3, 1e-2], "axis": [-1, 2]},
        "instance_norm": {"epsilon": [1e-3, 1e-2]},
        "group_norm": {"groups": [1, 2, 4], "epsilon": [1e-3, 1e-2]},
        "batch_norm": {"epsilon": [1e-4, 1e-3, 0.1]},
        "lp": {"p": [1, 2], "axis": axes},
        "flip": {"axis": axes},
        "roll": {"axis": axes, "at": [1, 2]},
        "split": {"axis": axes, "swap": [False, True]},
        "where": {"limit": [0.0, 0.3], "swap": [False, True], "op": ["Greater", "Less", "GreaterOrEqual"]},
        "gather": {"axis": axes, "shift": [1, 2, 3]},
        "cumsum": {"axis": axes, "reverse": [0, 1], "exclusive": [0, 1]},
        "trilu": {"upper": [0, 1], "k": [0, 1, -1]},
        "transpose": {"perm": [(0, 1, 3, 2), (0, 3, 2, 1)] if image else [(0, 2, 1)]},
        "pad": {"mode": ["constant", "edge", "reflect"], "axis": [rank - 1, rank - 2] if image else [2], "value": [0.0, 1.5]},  # noqa: E501
        "prelu": {"full": [True, False]},
        "dropout": {"ratio": [0.1, 0.5]},
        "linear": {"bias": [True, False], "first": [False, True]},
        "identity": {},
    }  # fmt: skip
    if image:
        common |= {
            "conv": {"kernel": [1, 3], "dilation": [1, 2], "bias": [True, False], "group": [1, 2, 4]},
            "conv_transpose": {"bias": [True, False], "group": [1, 2]},
            "pool": {"op": ["MaxPool", "AveragePool"], "include": [0, 1], "kernel": [2, 3]},
            "global": {"op": ["GlobalAveragePool", "GlobalMaxPool"], "merge": ["Mul", "Add", "Sub"], "swap": [False, True]},  # noqa: E501
            "excite": {"flat": [True, False]},
            "shuffle": {"groups": [2, 4]},
            "lrn": {"size": [1, 3], "alpha": [0.1, 0.5], "beta": [0.6, 0.75], "bias": [1.0, 2.0]},
            "depth": {"mode": ["DCR", "CRD"]},
            "resize": {"mode": ["nearest", "linear"]},
        }  # fmt: skip
    return common


class Builder:
    """Writes steps as nodes."""

    def __init__(self, rng: np.random.Generator, image: bool) -> None:
        self.rng = rng
        self.image = image
        self.shape = [2, C, H, W] if image else [2, H, C]
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, npt.NDArray[Any]] = {}
        self.made: dict[tuple[int, str, tuple[int, ...]], str] = {}
        self.count = 0
        self.layer = ""

    def fresh(self, name: str) -> str:
        self.count += 1
        return f"{name}_v{self.count}"

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [self.fresh("t") for _ in range(outputs)]
        made = oh.make_node(op, list(inputs), names, name=self.fresh("n"), **attributes)
        entry = made.metadata_props.add()
        entry.key, entry.value = "hub.layer", self.layer
        self.nodes.append(made)
        return names[0] if outputs == 1 else names

    def weight(self, key: int, role: str, *shape: int, low: float | None = None) -> str:
        """The weight of a step; steps of one key have one."""
        known = (key, role, shape)
        if known not in self.made:
            name = self.fresh(f"{self.layer}.{role}")
            data = self.rng.normal(0, 0.7, shape)
            self.weights[name] = (np.abs(data) + low if low is not None else data).astype(np.float32)
            self.made[known] = name
        return self.made[known]

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = self.fresh("c")
        self.weights[name] = np.asarray(value, dtype)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def pair(self, op: str, a: str, b: str, swap: bool) -> str:
        return str(self.node(op, b, a) if swap else self.node(op, a, b))

    def step(self, step: Step, x: str, skip: str) -> str:
        n, key, shape = step.numbers, step.key, self.shape
        rank, channels = len(shape), shape[1]
        kind = step.kind
        if kind == "unary":
            return str(self.node(n["op"], x))
        if kind == "leaky":
            return str(self.node(n["op"], x, alpha=n["alpha"]))
        if kind in ("hard_sigmoid", "selu", "gelu"):
            return str(self.node({"hard_sigmoid": "HardSigmoid", "selu": "Selu", "gelu": "Gelu"}[kind], x, **n))
        if kind == "clip":
            bounds = ["" if v is None else self.constant(v) for v in (n["low"], n["high"])]
            return str(self.node("Clip", x, *bounds))
        if kind == "softmax":
            return str(self.node(n["op"], x, axis=n["axis"]))
        if kind == "skip":
            return self.pair(n["op"], x, skip, n["swap"])
        if kind == "divide":
            bounded = self.node("Add", self.node("Abs", skip), self.constant(1.0))
            top = self.node("Add", self.node("Abs", x), self.constant(1.0))
            return self.pair("Div", top, bounded, n["swap"])
        if kind == "number":
            if n["op"] == "Div" and n["swap"]:
                x = self.node("Add", self.node("Abs", x), self.constant(1.0))
            return self.pair(n["op"], x, self.constant(n["value"]), n["swap"])
        if kind == "whole":
            size = [shape[a] if a == n["axis"] else 1 for a in range(rank)]
            size = size if n["lead"] else size[1:]
            return self.pair(n["op"], x, self.weight(key, "whole", *size), n["swap"])
        if kind == "power":
            return str(
                self.node("Pow", self.node("Add", self.node("Abs", x), self.constant(0.1)), self.constant(n["value"]))
            )
        if kind == "center":
            axes = n["axis"] if isinstance(n["axis"], tuple) else (n["axis"],)
            return str(self.node("Sub", x, self.node(n["op"], x, self.ints(*axes), keepdims=1)))
        if kind in ("layer_norm", "rms_norm"):
            size = shape[n["axis"] % rank :]
            names = [self.weight(key, "scale", *size)]
            names += [self.weight(key, "shift", *size)] if n.get("bias") else []
            op = "LayerNormalization" if kind == "layer_norm" else "RMSNormalization"
            return str(self.node(op, x, *names, axis=n["axis"], epsilon=n["epsilon"]))
        if kind in ("instance_norm", "group_norm", "batch_norm"):
            names = [self.weight(key, role, channels) for role in ("scale", "shift")]
            if kind == "group_norm":
                groups = math.gcd(n["groups"], channels)
                return str(self.node("GroupNormalization", x, *names, num_groups=groups, epsilon=n["epsilon"]))
            if kind == "instance_norm":
                return str(self.node("InstanceNormalization", x, *names, epsilon=n["epsilon"]))
            names += [self.weight(key, "mean", channels), self.weight(key, "variance", channels, low=0.3)]
            return str(self.node("BatchNormalization", x, *names, epsilon=n["epsilon"]))
        if kind == "lp":
            return str(self.node("LpNormalization", x, p=n["p"], axis=n["axis"]))
        if kind == "flip":
            return str(self.node("Slice", x, self.ints(-1), self.ints(-(1 << 40)), self.ints(n["axis"]), self.ints(-1)))
        if kind == "roll":
            a, at = n["axis"], n["at"]
            front = self.node("Slice", x, self.ints(0), self.ints(at), self.ints(a))
            back = self.node("Slice", x, self.ints(at), self.ints(1 << 40), self.ints(a))
            return str(self.node("Concat", back, front, axis=a))
        if kind == "split":
            size = shape[n["axis"]]
            parts = self.node("Split", x, self.ints(1, size - 1), outputs=2, axis=n["axis"])
            return str(self.node("Concat", *(parts[::-1] if n["swap"] else parts), axis=n["axis"]))
        if kind == "where":
            test = self.node(n["op"], x, self.constant(n["limit"]))
            return str(self.node("Where", test, *((skip, x) if n["swap"] else (x, skip))))
        if kind == "gather":
            size = shape[n["axis"]]
            return str(
                self.node("Gather", x, self.ints(*((k * n["shift"]) % size for k in range(size))), axis=n["axis"])
            )
        if kind == "cumsum":
            exclusive = n["exclusive"] and not n["reverse"]
            return str(
                self.node(
                    "CumSum", x, self.constant(n["axis"], np.int64), reverse=n["reverse"], exclusive=int(exclusive)
                )
            )
        if kind == "trilu":
            return str(self.node("Add", self.node("Trilu", x, self.constant(n["k"], np.int64), upper=n["upper"]), x))
        if kind == "transpose":
            there = self.node("Transpose", x, perm=n["perm"])
            turned = self.node("Softmax", there, axis=1)
            return str(self.node("Add", x, self.node("Transpose", turned, perm=np.argsort(n["perm"]).tolist())))
        if kind == "pad":
            pads = [0] * (2 * rank)
            pads[n["axis"]] = 1
            names = [self.constant(n["value"])] if n["mode"] == "constant" else []
            y = self.node("Pad", x, self.ints(*pads), *names, mode=n["mode"])
            return str(self.node("Slice", y, self.ints(0), self.ints(shape[n["axis"]]), self.ints(n["axis"])))
        if kind == "prelu":
            return str(
                self.node("PRelu", x, self.weight(key, "slope", *([channels, *[1] * (rank - 2)] if n["full"] else [1])))
            )
        if kind == "dropout":
            return str(self.node("Dropout", x, self.constant(n["ratio"])))
        if kind == "linear":
            size = shape[-1]
            y = self.node("MatMul", x, self.weight(key, "kernel", size, size))
            if not n["bias"]:
                return str(y)
            return self.pair("Add", y, self.weight(key, "bias", size), n["first"])
        if kind == "identity":
            return str(self.node("Identity", x))
        return self.image_step(step, x)

    def image_step(self, step: Step, x: str) -> str:
        n, key, (_, channels, height, width) = step.numbers, step.key, self.shape
        if step.kind == "conv":
            k, d, group = n["kernel"], n["dilation"], math.gcd(n["group"], channels)
            names = [self.weight(key, "kernel", channels, channels // group, k, k)]
            names += [self.weight(key, "bias", channels)] if n["bias"] else []
            pad = (k - 1) * d // 2
            return str(self.node("Conv", x, *names, pads=[pad] * 4, dilations=[d, d], group=group))
        if step.kind == "conv_transpose":
            group = math.gcd(n["group"], channels)
            names = [self.weight(key, "kernel", channels, channels // group, 3, 3)]
            names += [self.weight(key, "bias", channels)] if n["bias"] else []
            return str(self.node("ConvTranspose", x, *names, pads=[1] * 4, group=group))
        if step.kind == "pool":
            k = n["kernel"]
            extra = {"count_include_pad": n["include"]} if n["op"] == "AveragePool" else {}
            return str(self.node(n["op"], x, kernel_shape=[k, k], pads=[(k - 1) // 2] * 2 + [k // 2] * 2, **extra))
        if step.kind == "global":
            return self.pair(n["merge"], x, self.node(n["op"], x), n["swap"])
        if step.kind == "excite":
            s = self.node("GlobalAveragePool", x)
            if n["flat"]:
                s = self.node("Flatten", s)
                s = self.node("Gemm", s, self.weight(key, "w", channels, channels), self.weight(key, "b", channels))
                s = self.node("Reshape", self.node("Sigmoid", s), self.ints(0, channels, 1, 1))
            else:
                s = self.node("Sigmoid", self.node("Conv", s, self.weight(key, "w", channels, channels, 1, 1)))
            return str(self.node("Mul", x, s))
        if step.kind == "shuffle":
            g = math.gcd(n["groups"], channels)
            y = self.node("Reshape", x, self.ints(0, g, channels // g, height, width))
            return str(
                self.node(
                    "Reshape", self.node("Transpose", y, perm=[0, 2, 1, 3, 4]), self.ints(0, channels, height, width)
                )
            )
        if step.kind == "lrn":
            return str(self.node("LRN", x, **n))
        if step.kind == "depth":
            up = self.node("DepthToSpace", x, blocksize=2, mode=n["mode"]) if channels % 4 == 0 else x
            return str(self.node("SpaceToDepth", up, blocksize=2) if channels % 4 == 0 else up)
        assert step.kind == "resize"
        more = (
            {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"} if n["mode"] == "nearest" else {}
        )
        y = self.node("Resize", x, "", self.constant([1, 1, 2, 2]), mode=n["mode"], **more)
        return str(self.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))


def _changed(rng: np.random.Generator, step: Step, choices: dict[str, list[Any]]) -> Step:
    """The step with one number changed."""
    if not choices:
        return step
    name = list(choices)[int(rng.integers(len(choices)))]
    return replace(step, numbers={**step.numbers, name: choices[name][int(rng.integers(len(choices[name])))]})


def random_graph(seed: int) -> tuple[onnx.ModelProto, npt.NDArray[np.float32]]:
    """A graph of almost equal blocks, and an input for it."""
    rng = np.random.default_rng(seed)
    image = bool(rng.random() < 0.6)
    choices = _choices(rng, image)
    kinds = list(choices)
    if rng.random() < 0.8:  # blocks with weights are found more often
        kinds += (
            ["conv", "conv", "batch_norm", "excite", "pad"] * 8 if image else ["linear", "layer_norm", "prelu"] * 10
        )
    keys = iter(range(1, 1 << 30))

    def one(options: list[Any]) -> Any:
        return options[int(rng.integers(len(options)))]

    def made(kind: str) -> Step:
        return Step(kind, {name: one(values) for name, values in choices[kind].items()}, next(keys))

    template = [made(one(kinds)) for _ in range(int(rng.integers(2, 7)))]
    build = Builder(rng, image)
    x = "x"
    naming: Callable[[int, int, str], str] = one(
        [
            lambda block, k, kind: f"block{block}_{kind}{k}",
            lambda block, k, kind: f"stage.{block}.{kind}_{k}",
            lambda block, k, kind: f"{kind}_{block * 10 + k}",
            lambda block, k, kind: one(NAMES),
            lambda block, k, kind: f"{one(NAMES)}{block}/{one(NAMES)}",
            lambda block, k, kind: "",
        ]
    )
    seen: list[str] = []
    outputs: list[str] = []
    blocks = int(rng.integers(3, 8))
    shared, changed = one([0.0, 0.1, 0.3]), one([0.01, 0.05, 0.12])
    for block in range(blocks):
        steps = list(template)
        for k, step in enumerate(steps):
            share = rng.random()
            if share >= shared:
                step = replace(step, key=next(keys))
            if rng.random() < changed:
                step = _changed(rng, step, choices[step.kind])
            if rng.random() < changed / 3:
                step = made(one(kinds))
            steps[k] = step
        if rng.random() < changed and len(steps) > 2:
            steps.pop(int(rng.integers(len(steps))))
        skip = x if rng.random() < 0.8 or not seen else one(seen)
        for k, step in enumerate(steps):
            build.layer = naming(block, k, step.kind)
            x = build.step(step, x, skip)
        build.layer = naming(block, len(steps), "add")
        if rng.random() < 0.5:
            x = build.node("Add", *((x, skip) if rng.random() < 0.8 else (skip, x)))
        build.layer = naming(block, len(steps), "bound")
        size = build.node("ReduceMean", build.node("Abs", x), build.ints(*range(1, len(build.shape))))
        x = build.node("Div", x, build.node("Add", size, build.constant(0.1)))  # so that values stay small
        seen.append(x)
        if rng.random() < 0.2:
            outputs.append(x)
    if x not in outputs:
        outputs.append(x)
    sizes: list[Any] = [one(["N", 2]), *build.shape[1:]]
    graph = oh.make_graph(
        build.nodes,
        one(["net", "F", "torch", "Block", "nn", "Path", "1", "class", "block"]),
        [oh.make_tensor_value_info("x", 1, sizes)],
        [oh.make_tensor_value_info(name, 1, sizes) for name in outputs],
        [numpy_helper.from_array(data, name) for name, data in build.weights.items()],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 25)], ir_version=10)
    return model, rng.uniform(-2, 2, build.shape).astype(np.float32)
