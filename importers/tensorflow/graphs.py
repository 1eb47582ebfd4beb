"""GraphDefs: what an output needs, what may be an output, and what must not run. Nothing here runs a graph."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hub.errors import InvalidModel, Refusal, UnsupportedOps, UsageError

__all__ = ["Nodes", "candidates", "cut", "key_of", "refuse_dangerous", "split", "wanted"]

DANGEROUS = frozenset(
    """PyFunc PyFuncStateless EagerPyFunc ReadFile WriteFile MatchingFiles FileSystemSetConfiguration DumpTensor Print
    Save SaveV2 SaveSlices Restore RestoreV2 RestoreSlice DTensorRestoreV2 DistributedSave MergeV2Checkpoints
    ShardedFilespec CreateSummaryFileWriter CreateSummaryDbWriter WriteSummary WriteRawProtoSummary WriteGraphSummary
    WriteScalarSummary WriteHistogramSummary WriteImageSummary WriteAudioSummary FlushSummaryWriter
    CloseSummaryWriter InitializeTableFromTextFile InitializeTableFromTextFileV2 PrintV2 DebugIdentity DebugIdentityV2
    DebugIdentityV3 DebugNumericSummary DebugNumericSummaryV2 DebugNanCount RpcServer RpcServerStart RpcServerRegister
    RpcClient RpcCall RpcGetValue RpcCheckStatus Send Recv _Send _Recv _HostSend _HostRecv
    ImmutableConst DecodeProtoV2 EncodeProto
    GenerateVocabRemapping LoadAndRemapMatrix RemoteCall RemoteFusedGraphExecute""".split()
)
"""Operators that run code, open files, print or use the network."""
FEEDING = re.compile(r"Dataset|Iterator|Queue|Reader|^Barrier|^Stage|^Unstage|^MapStage|RecordInput")
"""Operators that bring data for training: files of an input pipeline, queues."""
HOLDERS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp", "TemporaryVariable"})
LEFTOVERS = re.compile(
    r"^(NoOp|Const|HostConst|Shape|ShapeN|Size|Rank|Assert|Print|PrintV2|Save\w*|Restore\w*|MergeV2Checkpoints|Sharded\w+|ControlTrigger|"
    r".*Summary(V2)?|.*SummaryWriter.*|Assign\w*|Apply\w+|SparseApply\w+|ResourceApply\w+|ResourceSparseApply\w+|"
    r"Resource\w*Scatter\w*|Scatter(Add|Sub|Update|Mul|Div|Nd\w*)|IsVariableInitialized|VarIsInitializedOp|CountUpTo|"
    r"Variable\w*|VarHandleOp|Placeholder\w*|Queue\w+|Initialize\w+|LookupTableImport\w*|ReadVariableOp|"
    r".*SoftmaxCrossEntropyWithLogits|L2Loss|StringJoin|Check\w*|DestroyResourceOp|Lookup\w+Export\w*)$"
)
"""Operators whose results are no outputs of a network."""
LOSSES = re.compile(
    r"^(.*SoftmaxCrossEntropyWithLogits|L2Loss|(Assign|Apply|ResourceApply|Scatter|ResourceScatter)\w*)$"
)
GRADIENTS = re.compile(r"(^|/)gradients(_\d+)?/")


def split(reference: str) -> tuple[str, int]:
    """The node and the number of a tensor: `a/b:1` is ("a/b", 1), and `a/b` the first."""
    name, _, port = reference.partition(":")
    return name, int(port.split(":")[-1]) if port else 0


def key_of(reference: str) -> str:
    """A tensor as users write it: without the number where it is the first."""
    return reference.removesuffix(":0")


class Nodes:
    """The nodes of a GraphDef by name, and the bodies of its functions."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.by_name = {node.name: node for node in graph.node}
        self.functions = {function.signature.name: function for function in graph.library.function}

    def needed(self, outputs: Iterable[str], given: Collection[str] = ()) -> dict[str, Any]:
        """The nodes that `outputs` need, where the tensors `given` are known, in no order.

        Raises:
            InvalidModel: a node that is needed is not there.
        """
        found: dict[str, Any] = {}
        pending = [reference for reference in outputs if full(reference) not in given]
        while pending:
            name = pending.pop().lstrip("^").split(":")[0]
            if name in found:
                continue
            if name not in self.by_name:
                raise InvalidModel(f"the graph has no node {name!r}, which another node takes as its input")
            node = found[name] = self.by_name[name]
            pending += [x for x in node.input if x.startswith("^") or full(x) not in given]
        return found

    def reached(self, nodes: Iterable[Any]) -> Iterator[tuple[Any, str]]:
        """`nodes`, and those of the functions that they call, each with the name of the node that it is part of."""
        seen: set[str] = set()
        pending = [(node, node.name) for node in nodes]
        while pending:
            node, caller = pending.pop()
            yield node, caller
            for name in _called(node, self.functions):
                if name not in seen:
                    seen.add(name)
                    pending += [(inner, f"{caller}/{inner.name}") for inner in self.functions[name].node_def]


def full(reference: str) -> str:
    """`a` and `a:0` are the same tensor."""
    return reference if ":" in reference else f"{reference}:0"


def _called(node: Any, functions: Mapping[str, Any]) -> Iterator[str]:
    if node.op in functions:
        yield node.op
    for value in node.attr.values():
        names = [value.func.name, *(function.name for function in value.list.func)]
        yield from (name for name in names if name in functions)


def refuse_dangerous(
    nodes: Nodes, needed: Mapping[str, Any], given: Collection[str] = (), allowed: Collection[str] = ()
) -> None:
    """Refuse, before anything runs, a graph in which something runs code, opens files or waits for an input pipeline.

    Raises:
        UnsupportedOps: naming all of them.
    """
    refusals, within = [], {}
    for node, label in nodes.reached(needed.values()):
        if node.op in DANGEROUS and node.op not in allowed:
            refusals.append((node.op, label, Refusal("it runs code, opens files, prints or uses the network")))
        elif FEEDING.search(node.op):
            within[label] = node.op
    feeding = {
        full(reference): nodes.by_name[split(reference)[0]].op
        for node in needed.values()
        for reference in node.input
        if full(reference) not in given
        and not FEEDING.search(node.op)
        and FEEDING.search(nodes.by_name[reference.lstrip("^").split(":")[0]].op)
    }
    for tensor, op in (feeding or within).items():
        hint = f'name the tensors that it gives as inputs: inputs={{"{tensor}": [None, 224, 224, 3]}}'
        refusals.append((op, tensor, Refusal("it is part of an input pipeline, which is not converted", hint)))
    if refusals:
        raise UnsupportedOps.collect("The graph is not run, for what is in it:", refusals)


def wanted(nodes: Nodes, names: Sequence[str], what: str) -> list[str]:
    """The tensors of these names, which may be nodes, in full.

    Raises:
        UsageError: there is no such node.
    """
    found = []
    for name in names:
        node, _, port = name.partition(":")
        if node not in nodes.by_name or (port and not port.isdigit()):
            near = difflib.get_close_matches(name, nodes.by_name, 3, 0.5)
            near += [n for n in nodes.by_name if n.endswith(f"/{node}")][: 3 - len(near)]
            hint = f"; near are {', '.join(near)}" if near else ""
            raise UsageError(f"the graph has no tensor {name!r} for the {what}{hint}")
        found.append(full(name))
    return found


def candidates(nodes: Nodes, scalars: Collection[str], given: Collection[str] = ()) -> list[str]:
    """What may be an output: computed from a placeholder (or a tensor `given`), and used by nothing but training.

    1. Savers, summaries, assignments, losses and gradients are training.
    2. So is what ends in an assignment, or in a number alone (`scalars`), such as a loss or an accuracy, and all
       before it that depends on the same placeholders: what depends on fewer (logits on no labels) is of the network.
    3. Where there is an output that no loss uses, such as probabilities, those that one uses are none.
    """
    depends = _dependencies(nodes, given)
    users: dict[str, list[str]] = {name: [] for name in nodes.by_name}
    for node in nodes.by_name.values():
        for reference in node.input:
            name = reference.split(":")[0]
            if name in users:
                users[name].append(node.name)
    inputs = {split(reference)[0] for reference in given}
    names = [name for name, node in nodes.by_name.items() if name not in inputs and not LEFTOVERS.match(node.op)]
    names = [name for name in names if not GRADIENTS.search(name)]
    training = set(nodes.by_name) - set(names)
    losses = {name for name in training if LOSSES.match(nodes.by_name[name].op)}
    while more := {
        name
        for name in names
        if name not in training
        and all(user in training for user in users[name])
        and (name in scalars or any(user in losses and depends[user] == depends[name] for user in users[name]))
    }:
        training |= more
        losses |= more
    ends = [n for n in names if n not in training and depends[n] and all(user in training for user in users[n])]
    return [n for n in ends if not losses.intersection(users[n])] or ends


def _dependencies(nodes: Nodes, given: Collection[str]) -> dict[str, frozenset[str]]:
    """By node, the placeholders and given tensors that it is computed from."""
    depends: dict[str, frozenset[str]] = {}
    starts = {split(reference)[0] for reference in given}
    for root in nodes.by_name:
        stack = [(root, False)]
        while stack:
            name, done = stack.pop()
            if name in depends and not done:
                continue
            node = nodes.by_name[name]
            references = [x for x in node.input if not x.startswith("^")]
            if done:
                found: frozenset[str] = frozenset({name} if node.op in HOLDERS or FEEDING.search(node.op) else ())
                for reference in references:
                    source = split(reference)[0]
                    found |= {full(reference)} if full(reference) in given else depends.get(source, frozenset())
                depends[name] = found
                continue
            depends[name] = frozenset()  # loops of tf.while_loop come back to it
            stack.append((name, True))
            if name not in starts:
                stack += [(s, False) for s in (split(r)[0] for r in references) if s in nodes.by_name]
    return depends


def cut(
    graph: Any, inputs: Mapping[str, tuple[int, Any]], values: Mapping[str, Any], outputs: Mapping[str, int]
) -> Any:
    """The GraphDef that computes `outputs` from `inputs`, with constants in place of what has a value.

    Args:
        inputs: type and shape (a TensorShapeProto, or None) by tensor.
        values: TensorProtos by tensor.
        outputs: types by tensor; each gets an Identity named `hub_output_<i>`.

    Returns:
        The GraphDef; inputs that were no placeholders are placeholders now, named `hub_input_<i>`.
    """
    nodes = Nodes(graph)
    needed = nodes.needed(outputs, {*inputs, *values})
    result = type(graph)()
    result.versions.CopyFrom(graph.versions)
    result.library.CopyFrom(graph.library)
    renamed = {}
    for index, (reference, (dtype, shape)) in enumerate(inputs.items()):
        name = split(reference)[0]
        kept = nodes.by_name[name].op in HOLDERS
        node = result.node.add(name=name if kept else f"hub_input_{index}", op="Placeholder")
        node.attr["dtype"].type = dtype
        if shape is not None:
            node.attr["shape"].shape.CopyFrom(shape)
        renamed[reference] = node.name
        needed.pop(name, None) if kept else None
    for index, (reference, value) in enumerate(values.items()):
        node = result.node.add(name=f"hub_value_{index}", op="Const")
        node.attr["dtype"].type = value.dtype
        node.attr["value"].tensor.CopyFrom(value)
        renamed[reference] = node.name
    for node in graph.node:
        if node.name in needed:
            copy = result.node.add()
            copy.CopyFrom(node)
            del copy.input[:]
            kept_inputs = [renamed.get(full(x), x) for x in node.input if not x.startswith("^")]
            copy.input.extend([*kept_inputs, *(x for x in node.input if x[1:] in needed and x.startswith("^"))])
            copy.attr.pop("_class", None)
    for index, (reference, dtype) in enumerate(outputs.items()):
        node = result.node.add(name=f"hub_output_{index}", op="Identity", input=[renamed.get(reference, reference)])
        node.attr["T"].type = dtype
    return result
