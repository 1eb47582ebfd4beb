"""tf2onnx at work, in the child: what it logs as failed is an error, and what it writes has the source's names."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.errors import HubError, Refusal, UnsupportedOps
from importers.tensorflow.dropout import refuse_random, settle_dropout
from importers.tensorflow.lite import LiteProgram
from importers.tensorflow.program import Program
from importers.tensorflow.session import SessionProgram, gist

__all__ = ["OPSET", "convert"]

OPSET = 18
"""The highest that tf2onnx 1.17 writes."""

MISSING = re.compile(r"^Tensorflow op \[(?P<node>.*): (?P<op>[^:\]]+)\] is not supported$")


class _Failures(logging.Handler):
    """What tf2onnx only logs: operators that it does not know, or fails on, by their node."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.missing: list[tuple[str, str]] = []
        self.failed: list[tuple[str, str]] = []
        self.rewriters: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if found := MISSING.match(text):
            self.missing.append((found["node"], found["op"]))
        elif record.msg.startswith("Failed to convert node") and record.args:
            node, _, *_ = record.args if isinstance(record.args, tuple) else (record.args, None)
            reason = gist(record.exc_info[1], 160) if record.exc_info and record.exc_info[1] else ""
            self.failed.append((str(node), reason))
        elif record.levelno >= logging.ERROR and text.startswith("rewriter "):
            self.rewriters.append(text)


@contextmanager
def _watching() -> Iterator[_Failures]:
    """Hear what tf2onnx logs; and let it not fold BatchNormalization into convolutions, which loses layers."""

    from tf2onnx.optimizer import back_to_back_optimizer as pairs

    handler, log = _Failures(), logging.getLogger("tf2onnx")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    folding = {key: pairs._func_map.pop(key) for key in list(pairs._func_map) if "BatchNormalization" in key}
    try:
        yield handler
    finally:
        pairs._func_map.update(folding)
        log.removeHandler(handler)
        log.setLevel(level)


@dataclass
class Facts:
    """Of the graph that was converted: operators by node, and the layouts that they say, "NHWC" or "NCHW"."""

    operators: dict[str, str]
    formats: list[str]


def convert(program: Program, to: Path) -> Facts:
    """Write the ONNX model of a program to `to`, weights beside it where it has to be.

    Raises:
        UnsupportedOps: naming every operator that tf2onnx cannot convert.
        HubError: it fails in another way.
    """
    with _watching() as failures:
        try:
            if isinstance(program, SessionProgram):
                model, facts = _of_graph(program)
            else:
                assert isinstance(program, LiteProgram)
                model, facts = _of_lite(program)
        except HubError:
            raise
        except Exception as error:  # whatever tf2onnx and TensorFlow raise
            _raise(failures, program.operators())
            raise HubError(f"tf2onnx fails: {type(error).__name__}: {gist(error)}") from error
    _raise(failures, facts.operators)
    refuse_random(model)
    _save(model, to)
    return facts


def _raise(failures: _Failures, operators: Mapping[str, str]) -> None:
    refusals = [(op, node, Refusal("tf2onnx has no form of it in ONNX")) for node, op in failures.missing]
    for node, reason in failures.failed:
        refusals.append((operators.get(node, "?"), node, Refusal(f"tf2onnx fails on it: {reason}")))
    if refusals:
        raise UnsupportedOps.collect("tf2onnx cannot convert:", refusals)


def _of_graph(program: SessionProgram) -> tuple[Any, Facts]:
    import tensorflow as tf
    from tf2onnx import optimizer, tf_loader
    from tf2onnx.tfonnx import process_tf_graph

    frozen = program.freeze()
    inputs, outputs = list(frozen.inputs), list(frozen.outputs)
    with tf.device("/cpu:0"):
        with tf.Graph().as_default():
            graph = tf_loader.tf_optimize(inputs, outputs, frozen.graph)
        settle_dropout(graph)
        operators = {node.name: node.op for node in graph.node}
        formats = {node.attr["data_format"].s.decode() for node in graph.node if "data_format" in node.attr}
        with tf.Graph().as_default() as loaded:
            tf.import_graph_def(graph, name="")
            made = process_tf_graph(
                loaded,
                continue_on_error=True,
                opset=OPSET,
                input_names=inputs,
                output_names=outputs,
                tensors_to_rename={**frozen.inputs, **frozen.outputs},
            )
            made = optimizer.optimize_graph(made, False)
    return made.make_model(program.title), Facts(operators, sorted({f.replace("D", "") for f in formats}))


def _of_lite(program: LiteProgram) -> tuple[Any, Facts]:
    from tf2onnx import optimizer
    from tf2onnx.tfonnx import process_tf_graph

    ports = (*program.inputs, *program.outputs)
    made = process_tf_graph(
        None,
        continue_on_error=True,
        opset=OPSET,
        input_names=[port.tensor for port in program.inputs],
        output_names=[port.tensor for port in program.outputs],
        tensors_to_rename={port.tensor: port.name for port in ports},
        tflite_path=str(program.path),
    )
    return optimizer.optimize_graph(made, False).make_model(program.title), Facts(program.operators(), ["NHWC"])


def _save(model: Any, to: Path) -> None:
    import onnx

    if model.ByteSize() < (1 << 20):
        onnx.save(model, str(to))
    else:
        onnx.save(model, str(to), save_as_external_data=True, location=f"{to.name}.data", size_threshold=4096)
