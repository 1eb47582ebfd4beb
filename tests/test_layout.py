"""The layout pass: random graphs give the same numbers before and after, and rules that must not fire do not."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.builder import GraphBuilder
from hub.layout import sink_transposes
from hub.model import Model

TOLERANCE = 2e-5


class Grower:
    """A random graph of Transposes and operators, over values whose sizes are all different."""

    UNARY = ("Relu", "Sigmoid", "Abs", "Tanh", "Identity", "Neg", "LeakyRelu", "Clip", "Dropout", "Elu")
    BINARY = ("Add", "Sub", "Mul", "Max", "Min", "Mean", "Greater")

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.g = GraphBuilder("random")
        batch: int | str = self.random.choice([2, "N"])
        shape = [batch, *self.random.sample([2, 3, 4, 5, 6], 3)]
        self.values = [self.g.input("x", ir.DataType.FLOAT, shape)]
        if self.random.random() < 0.5:
            self.values.append(self.g.input("y", ir.DataType.FLOAT, shape))

    def pick(self, *ranks: int) -> ir.Value | None:
        """A value, a recent one more likely."""
        found = [v for v in self.values if v.shape is not None and (not ranks or len(v.shape) in ranks)]
        return found[-1 - int(self.random.random() ** 2 * len(found))] if found else None

    def sizes(self, value: ir.Value) -> list[int]:
        """The sizes, 2 for an unknown one."""
        assert value.shape is not None
        return [d if isinstance(d, int) else 2 for d in value.shape]

    def constant(self, shape: list[int]) -> ir.Value:
        return self.g.constant(self.numbers.uniform(-1, 1, shape).astype(np.float32), "c")

    def step(self) -> None:
        """Add an operator; one that the standard refuses for these shapes is left out."""
        kinds = [name for name in dir(self) if name.startswith("add_")]
        made = getattr(self, self.random.choice([*kinds, *["add_transpose"] * 4]))()
        for value in [made] if isinstance(made, ir.Value) else made or []:
            if value.shape is not None and value.dtype == ir.DataType.FLOAT:
                self.values.append(value)

    def add_transpose(self) -> ir.Value | None:
        x = self.pick()
        assert x is not None
        assert x.shape is not None
        perm = list(range(len(x.shape)))
        if self.random.random() < 0.5 and len(perm) > 2:
            perm = self.random.choice([[0, *perm[2:], 1], [0, perm[-1], *perm[1:-1]]])
        else:
            self.random.shuffle(perm)
        return self.g.op("Transpose", x, perm=perm)

    def add_unary(self) -> ir.Value | None:
        x, kind = self.pick(), self.random.choice(self.UNARY)
        if kind == "Clip":
            return self.g.op(
                "Clip", x, self.g.constant(np.float32(-0.5), "low"), self.g.constant(np.float32(0.5), "high")
            )
        if kind == "Dropout":
            return self.g.op("Dropout", x, self.g.constant(np.float32(0.3), "ratio"))
        return self.g.op(kind, x)

    def add_binary(self) -> ir.Value | None:
        x = self.pick()
        assert x is not None
        same = [v for v in self.values if self.sizes(v) == self.sizes(x) and list(v.shape or ()) == list(x.shape or ())]
        y, kind = self.random.choice(same), self.random.choice(self.BINARY)
        if kind == "Greater":
            return self.g.op("Where", self.g.op("Greater", x, y), y, self.random.choice(same))
        return self.g.op(kind, *([x, y] if self.random.random() < 0.5 else [y, x]))

    def add_broadcast(self) -> ir.Value | None:
        x, kind = self.pick(), self.random.choice(("Add", "Sub", "Mul", "Max", "PRelu"))
        assert x is not None
        sizes = [1 if i == 0 or self.random.random() < 0.5 else n for i, n in enumerate(self.sizes(x))]
        c = self.constant(sizes[self.random.randrange(len(sizes)) :])
        first = kind != "PRelu" and self.random.random() < 0.4
        return self.g.op(kind, c, x) if first else self.g.op(kind, x, c)

    def add_broadcast_of_values(self) -> ir.Value | None:
        x = self.pick(3, 4)
        if x is None or x.shape is None:
            return None
        axes = self.random.sample(range(len(x.shape)), self.random.randint(1, len(x.shape) - 1))
        factor = self.g.op("ReduceMean", x, self.g.ints(axes, "axes"), keepdims=1)
        return self.g.op(self.random.choice(("Mul", "Sub")), *self.random.sample([x, factor], 2))

    def add_concat(self) -> ir.Value | None:
        x = self.pick()
        assert x is not None
        assert x.shape is not None
        same = [v for v in self.values if list(v.shape or ()) == list(x.shape)]
        axis = self.random.choice([i for i, d in enumerate(x.shape) if isinstance(d, int)] or [None])
        if axis is None:
            return None
        axis -= self.random.choice([0, len(x.shape)])
        inputs = [self.random.choice(same) for _ in range(self.random.randint(2, 3))]
        if self.random.random() < 0.2 and all(isinstance(d, int) for d in x.shape):
            inputs.append(self.constant(self.sizes(x)))
        return self.g.op("Concat", *inputs, axis=axis)

    def add_split(self) -> Any:
        x = self.pick()
        assert x is not None
        assert x.shape is not None
        axes = [i for i, d in enumerate(x.shape) if isinstance(d, int) and d % 2 == 0]
        if not axes:
            return None
        axis = self.random.choice(axes) - self.random.choice([0, len(x.shape)])
        return list(self.g.ops("Split", x, outputs=2, axis=axis, num_outputs=2))

    def add_softmax(self) -> ir.Value | None:
        x = self.pick()
        assert x is not None
        assert x.shape is not None
        axis = self.random.randrange(-len(x.shape), len(x.shape))
        return self.g.op(self.random.choice(("Softmax", "LogSoftmax")), x, axis=axis)

    def add_cumsum(self) -> ir.Value | None:
        x = self.pick()
        assert x is not None
        assert x.shape is not None
        return self.g.op("CumSum", x, self.g.ints(self.random.randrange(len(x.shape)), "axis"))

    def add_reduce(self) -> ir.Value | None:
        x, kind = self.pick(), self.random.choice(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2"))
        assert x is not None
        assert x.shape is not None
        rank = len(x.shape)
        axes = [
            a - self.random.choice([0, rank])
            for a in self.random.sample(range(rank), self.random.randint(1, max(1, rank - 1)))
        ]
        keep = self.random.randrange(2)
        if rank - len(axes) < 1 and not keep:
            return None
        given_axes = self.g.ints(axes, "axes") if self.random.random() < 0.9 else None
        return self.g.op(kind, x, given_axes, keepdims=keep if given_axes is not None else 1)

    def add_squeeze(self) -> ir.Value | None:
        x = self.pick(2, 3)
        if x is None:
            return None
        axis = self.random.randrange(len(x.shape or ()) + 1)
        y = self.g.op("Unsqueeze", x, self.g.ints([axis], "axes"))
        perm = list(range(len(x.shape or ()) + 1))
        self.random.shuffle(perm)
        y = self.g.op("Transpose", y, perm=perm)
        axes = self.g.ints([perm.index(axis) - self.random.choice([0, len(perm)])], "axes")
        return self.g.op("Squeeze", self.g.op("Relu", y), axes)

    def add_pad(self) -> ir.Value | None:
        x = self.pick()
        assert x is not None
        assert x.shape is not None
        pads = [self.random.choice([0, 0, 1, 2]) if isinstance(d, int) else 0 for d in x.shape] * 2
        self.random.shuffle(pads) if all(isinstance(d, int) for d in x.shape) else None
        value = self.random.choice([None, self.g.constant(np.float32(0.5), "fill")])
        return self.g.op("Pad", x, self.g.ints(pads, "pads"), value)

    def add_slice(self) -> ir.Value | None:
        x = self.pick()
        assert x is not None
        assert x.shape is not None
        axes = [i for i, d in enumerate(x.shape) if isinstance(d, int) and d > 1]
        axes = self.random.sample(axes, self.random.randint(1, len(axes))) if axes else []
        if not axes:
            return None
        backwards = self.random.random() < 0.3
        starts = [-1 if backwards else self.random.randint(0, 1) for _ in axes]
        ends = [-(2**31) if backwards else self.random.choice([2**31, self.sizes(x)[a]]) for a in axes]
        axes = [a - self.random.choice([0, len(x.shape)]) for a in axes]
        steps = (
            self.g.ints([-1] * len(axes), "steps")
            if backwards
            else self.random.choice([None, self.g.ints([1] * len(axes), "s")])
        )
        return self.g.op(
            "Slice", x, self.g.ints(starts, "starts"), self.g.ints(ends, "ends"), self.g.ints(axes, "axes"), steps
        )

    def add_flat(self) -> ir.Value | None:
        x = self.pick(3, 4)
        if x is None or not all(isinstance(d, int) for d in (x.shape or ())[1:]):
            return None
        columns = int(np.prod(self.sizes(x)[1:]))
        kind = self.random.choice(("Flatten", "Reshape", "ReshapeOpen"))
        if kind == "Flatten":
            y = self.g.op("Flatten", x)
        else:
            y = self.g.op("Reshape", x, self.g.ints([0, columns if kind == "Reshape" else -1], "shape"))
        if self.random.random() < 0.3:
            y = self.g.op("Relu", y)
        if self.random.random() < 0.2:
            self.values.append(y)
        if self.random.random() < 0.7:
            weight = self.constant([columns, 3])
            if self.random.random() < 0.5:
                return self.g.op("MatMul", y, weight)
            return self.g.op("Gemm", y, weight, self.constant([3]))
        return y

    def add_reshape(self) -> ir.Value | None:
        x = self.pick(3, 4)
        if x is None or not all(isinstance(d, int) for d in (x.shape or ())[1:]):
            return None
        sizes = self.sizes(x)
        return self.g.op("Reshape", x, self.g.ints([0, sizes[-1], -1], "shape"))

    def add_conv(self) -> ir.Value | None:
        x = self.pick(4)
        if x is None or not all(isinstance(d, int) for d in (x.shape or ())[1:]):
            return None
        channels = self.sizes(x)[1]
        kind = self.random.choice(("Conv", "MaxPool", "GlobalAveragePool"))
        if kind == "Conv":
            return self.g.op("Conv", x, self.constant([3, channels, 1, 1]), self.constant([3]))
        if kind == "MaxPool":
            return self.g.op("MaxPool", x, kernel_shape=[1, 1])
        return self.g.op("GlobalAveragePool", x)

    def add_matmul(self) -> ir.Value | None:
        x = self.pick(2, 3, 4)
        if x is None or not isinstance((x.shape or ())[-1], int):
            return None
        return self.g.op("MatMul", x, self.constant([self.sizes(x)[-1], 4]))

    def finish(self, steps: int) -> ir.Model:
        for _ in range(steps):
            self.step()
        results = [v for v in self.values if v.producer() is not None][-3:] or [self.g.op("Relu", self.values[0])]
        for number, value in enumerate(dict.fromkeys(results)):
            self.g.output(value, f"out{number}")
        if self.random.random() < 0.3:
            self.g.output(self.random.choice(self.values), "extra")
        return self.g.model()

    def feeds(self, model: Model) -> list[Any]:
        shapes = [[d if isinstance(d, int) else 2 for d in info.shape] for info in model.inputs]
        return [self.numbers.uniform(-2, 2, shape).astype(np.float32) for shape in shapes]


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert list(before) == list(after)
    for name, expected in before.items():
        assert expected.shape == after[name].shape
        np.testing.assert_allclose(after[name], expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 14))
def test_random_graphs_give_the_same_numbers(seed: int, steps: int) -> None:
    grower = Grower(seed)
    model = grower.finish(steps)
    original = Model(model)
    arrays = grower.feeds(original)
    before = original.run(arrays)
    left = sink_transposes(model.graph)
    after = Model(model)
    names = [node.name for node in model.graph] + [v.name for node in model.graph for v in node.outputs]
    assert max(Counter(names).values()) <= 2, "a node and its first value may share a name, no others"
    assert left == sum(node.op_type == "Transpose" for node in model.graph)
    same(before, after.run(arrays))
    for node in model.graph:
        for value in node.outputs:
            assert value.shape is not None, "shapes are kept"
    sink_transposes(model.graph)
    same(before, Model(model).run(arrays))


# -- what a rule does -------------------------------------------------------------------------------------


def transposes(model: ir.Model) -> int:
    return sum(node.op_type == "Transpose" for node in model.graph)


def nhwc(*layers: Any, shape: Any = ("N", 5, 6, 3)) -> ir.Model:
    """Each layer between a Transpose to NCHW and one back, as an importer writes it."""
    g = GraphBuilder("net")
    x = g.input("x", ir.DataType.FLOAT, list(shape))
    for layer in layers:
        x = g.op("Transpose", layer(g, g.op("Transpose", x, perm=[0, 3, 1, 2])), perm=[0, 2, 3, 1])
    g.output(x, "y")
    return g.model()


def relu(g: GraphBuilder, x: ir.Value) -> ir.Value:
    return g.op("Relu", x)


def conv(g: GraphBuilder, x: ir.Value) -> ir.Value:
    channels = int(str((x.shape or ())[1]))
    return g.op("Conv", x, g.constant(np.ones((4, channels, 1, 1), np.float32), "w"), kernel_shape=[1, 1])


def test_a_chain_of_channels_last_layers_keeps_one_transpose_at_each_end() -> None:
    model = nhwc(conv, conv, conv, conv)
    assert transposes(model) == 8
    assert sink_transposes(model.graph) == 2
    assert next(node.op_type for node in model.graph) == "Transpose"


def test_elementwise_layers_alone_need_none() -> None:
    model = nhwc(relu, relu)
    assert sink_transposes(model.graph) == 0
    assert [node.op_type for node in model.graph] == ["Relu", "Relu"]


def test_flatten_and_dense_take_the_order_of_what_arrives() -> None:
    g = GraphBuilder("net")
    x = g.input("x", ir.DataType.FLOAT, ["N", 3, 5, 6])
    y = g.op("Flatten", g.op("Transpose", x, perm=[0, 2, 3, 1]))
    weight = np.random.default_rng(0).standard_normal((90, 4)).astype(np.float32)
    g.output(g.op("Gemm", y, g.constant(weight, "w"), g.constant(np.ones(4, np.float32), "b")), "y")
    model = g.model()
    a = np.random.default_rng(1).standard_normal((2, 3, 5, 6)).astype(np.float32)
    before = Model(model).run(a)
    assert sink_transposes(model.graph) == 0
    assert [node.op_type for node in model.graph] == ["Flatten", "Gemm"]
    same(before, Model(model).run(a))


def test_a_weight_used_in_two_orders_is_not_changed_for_the_other() -> None:
    g = GraphBuilder("net")
    x = g.input("x", ir.DataType.FLOAT, ["N", 3, 5, 6])
    w = g.constant(np.random.default_rng(0).standard_normal((90, 4)).astype(np.float32), "w")
    a = g.op("MatMul", g.op("Flatten", g.op("Transpose", x, perm=[0, 2, 3, 1])), w)
    b = g.op("MatMul", g.op("Flatten", x), w)
    g.output(g.op("Sub", a, b), "y")
    model = g.model()
    data = np.random.default_rng(1).standard_normal((2, 3, 5, 6)).astype(np.float32)
    before = Model(model).run(data)
    sink_transposes(model.graph)
    same(before, Model(model).run(data))


def test_a_value_read_by_a_subgraph_stays_what_it_is() -> None:
    g = GraphBuilder("net")
    x = g.input("x", ir.DataType.FLOAT, [2, 3, 5, 6])
    y = g.op("Relu", g.op("Transpose", x, perm=[0, 2, 3, 1]))
    inner = ir.node("Neg", [y], name="neg")
    inner.outputs[0].name, inner.outputs[0].type, inner.outputs[0].shape = "z", y.type, y.shape
    branch = ir.Graph([], inner.outputs, nodes=[inner], name="branch")
    other = ir.node("Identity", [y], name="id")
    other.outputs[0].name, other.outputs[0].type, other.outputs[0].shape = "v", y.type, y.shape
    second = ir.Graph([], other.outputs, nodes=[other], name="other")
    condition = g.constant(np.array(True), "condition")
    choice = ir.node("If", [condition], {"then_branch": branch, "else_branch": second}, name="choice")
    out = choice.outputs[0]
    out.name, out.type, out.shape = "choice", y.type, y.shape
    g.nodes.append(choice)
    g.output(g.op("Relu", out), "y")
    model = g.model()
    data = np.random.default_rng(1).standard_normal((2, 3, 5, 6)).astype(np.float32)
    before = Model(model).run(data)
    sink_transposes(model.graph)
    same(before, Model(model).run(data))


@pytest.mark.parametrize("op", ["LayerNormalization", "MatMul", "CumSum", "Expand", "ArgMax"])
def test_operators_without_a_rule_get_the_real_value(op: str) -> None:
    g = GraphBuilder("net")
    x = g.input("x", ir.DataType.FLOAT, [2, 3, 5, 6])
    y = g.op("Transpose", x, perm=[0, 2, 3, 1])
    extra = {
        "LayerNormalization": lambda: g.op(op, y, g.constant(np.ones(3, np.float32), "s"), axis=-1),
        "MatMul": lambda: g.op(op, y, g.constant(np.ones((3, 2), np.float32), "w")),
        "CumSum": lambda: g.op(op, y, g.ints(1, "axis")),
        "Expand": lambda: g.op(op, y, g.ints([2, 5, 6, 3], "shape")),
        "ArgMax": lambda: g.op(op, y, axis=3),
    }
    g.output(extra[op](), "y")
    model = g.model()
    data = np.random.default_rng(1).standard_normal((2, 3, 5, 6)).astype(np.float32)
    before = Model(model).run(data)
    assert sink_transposes(model.graph) == 1
    same(before, Model(model).run(data))


def test_a_pad_of_chosen_axes_is_not_misread() -> None:
    """Pad with `axes` names only some of them."""
    g = GraphBuilder("net")
    x = g.input("x", ir.DataType.FLOAT, [2, 3, 5, 6])
    y = g.op("Transpose", x, perm=[0, 2, 3, 1])
    g.output(g.op("Pad", y, g.ints([1, 2], "pads"), None, g.ints([1], "axes")), "y")
    model = g.model()
    data = np.random.default_rng(1).standard_normal((2, 3, 5, 6)).astype(np.float32)
    before = Model(model).run(data)
    sink_transposes(model.graph)
    same(before, Model(model).run(data))


def test_an_output_that_is_a_transposed_input_keeps_its_name() -> None:
    g = GraphBuilder("net")
    x = g.input("x", ir.DataType.FLOAT, ["N", 3, 5, 6])
    y = g.op("Transpose", g.op("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    g.output(y, "y")
    g.output(g.op("Transpose", x, perm=[0, 3, 1, 2]), "z")
    model = g.model()
    data = np.random.default_rng(1).standard_normal((2, 3, 5, 6)).astype(np.float32)
    before = Model(model).run(data)
    assert sink_transposes(model.graph) == 1
    assert [v.name for v in model.graph.outputs] == ["y", "z"]
    same(before, Model(model).run(data))
