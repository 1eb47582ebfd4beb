"""Where two models first differ, by the graph; and layers compared in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from hub.builder import GraphBuilder
from hub.model import Model
from parity.check import check
from parity.compare import Row
from parity.divergence import divergences

LAYERS = ("stem", "left", "right", "sum", "head")
FLOW = {"left": ["stem"], "right": ["stem"], "sum": ["left", "right"], "head": ["sum"]}


def rows(**verdicts: Any) -> list[Row]:
    return [Row(name, verdicts.get(name, "ok"), kind="layer", op="Conv") for name in LAYERS if name in verdicts]


@pytest.mark.parametrize(
    ("wrong", "first"),
    [
        ({"left", "sum", "head"}, ["left"]),
        ({"left", "right", "sum", "head"}, ["left", "right"]),
        ({"stem", "left", "right", "sum", "head"}, ["stem"]),
        ({"sum", "head"}, ["sum"]),
        ({"stem", "sum"}, ["stem"]),  # too small to be seen between
        ({"left", "head"}, ["left"]),
        (set(), []),
    ],
)
def test_a_layer_that_fails_while_everything_that_feeds_it_passes(wrong: set[str], first: list[str]) -> None:
    given = rows(**{name: "mismatch" if name in wrong else "ok" for name in LAYERS})
    assert [found.layer for found in divergences(given, FLOW)] == first


def test_what_was_not_compared_is_looked_through_and_named() -> None:
    given = rows(stem="ok", left="ok", head="mismatch")  # right and sum are not there
    (found,) = divergences(given, FLOW)
    assert (found.layer, found.inputs, found.unknown) == ("head", ("left", "stem"), ("sum", "right"))
    assert "head (Conv), or sum, right, which feeds it" in str(found)


def test_without_a_graph_the_order_is_said() -> None:
    (found,) = divergences(rows(stem="ok", left="mismatch", right="mismatch"), None)
    assert str(found) == "left (Conv); the layers before it agree"


def residual(changed: str = "", by: float = 1.05) -> Model:
    """Six convolutions, two of them side by side; one weight of one of them may be another."""
    rng = np.random.default_rng(0)
    g = GraphBuilder("net")
    x = g.input("x", ir.DataType.FLOAT, ["N", 4, 10, 8])

    def conv(name: str, value: Any) -> Any:
        kernel = rng.normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32)
        if name == changed:
            kernel[0] *= by
        with g.layer(name, "Conv"):
            return g.op("Relu", g.op("Conv", value, g.constant(kernel, f"{name}/kernel"), pads=[1] * 4))

    stem = conv("stem", x)
    with g.layer("sum", "Add"):
        total = g.op("Add", conv("a2", conv("a1", stem)), conv("b1", stem))
    g.output(conv("head", total), "y")
    return Model(g.model())


@pytest.mark.parametrize("changed", ["stem", "a1", "a2", "b1", "head"])
def test_a_planted_error_is_found(changed: str) -> None:
    report = check(residual(), residual(changed), layers=True)
    assert [found.layer for found in report.divergences] == [changed]
    assert f"{changed} (Conv); its inputs agree" in str(report)
    assert report.needed is not None
    assert check(residual(), residual(changed), layers=True, rtol=report.needed).ok


def test_rows_come_worst_first() -> None:
    text = str(check(residual(), residual("a2"), layers=True)).splitlines()
    shown = [line.split()[1] for line in text if line.startswith("  layer ")]
    assert set(shown[:3]) == {"a2", "sum", "head"}
    assert set(shown[3:]) == {"stem", "a1", "b1"}


def test_layers_in_parts_give_the_same_rows() -> None:
    whole, parts = (check(residual(), residual("b1"), layers=True, memory=memory) for memory in (1 << 30, 1))
    assert [row.to_dict() for row in whole.rows if row.kind == "layer"] == [
        row.to_dict() for row in parts.rows if row.kind == "layer"
    ]
    assert sum(row.kind == "output" for row in parts.rows) == 1
    assert parts.divergences == whole.divergences
    assert any(note.startswith("layers compared in 6 runs") for note in parts.notes)
    assert not any("runs" in note for note in whole.notes)
