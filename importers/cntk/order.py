"""In which order functions are said, which of them wait for each other, and to which layer each belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from importers.cntk.functions import BLOCK, Function, Network, Ref

__all__ = ["components", "layers"]


def components(roots: Iterable[str], needs: Callable[[str], Sequence[str]]) -> list[list[str]]:
    """What the roots need, each after what it needs itself; what waits for each other together (Tarjan's way)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    open_: list[str] = []
    inside: set[str] = set()
    found: list[list[str]] = []
    for root in roots:
        if root in number:
            continue
        work = [(root, iter(needs(root)))]
        number[root] = low[root] = len(number)
        open_.append(root)
        inside.add(root)
        while work:
            node, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    at = open_.index(node) if open_[-1] != node else len(open_) - 1
                    found.append(open_[at:])
                    inside.difference_update(open_[at:])
                    del open_[at:]
            elif following not in number:
                number[following] = low[following] = len(number)
                open_.append(following)
                inside.add(following)
                work.append((following, iter(needs(following))))
            elif following in inside:
                low[node] = min(low[node], number[following])
    return found


def layers(network: Network) -> dict[str, str]:
    """The layer of each function, by its unique name: its own name, or that of the innermost block with one.

    Where none has a name, it is the unique name of the innermost block, or its own.
    """
    found: dict[str, str] = {}
    levels = [("", "", network.root)]
    while levels:
        deeper = []
        for name, fallback, root in levels:
            for function in _reached(network, root, found):
                own = function.name if not (fallback and function.name.startswith("_")) else ""
                found[function.uid] = own or name or fallback or function.uid
                if function.op == BLOCK:
                    deeper.append((own or name, function.uid, function.root))
        levels = deeper
    aliases = _aliases(network)
    return {uid: aliases.get(layer, layer) for uid, layer in found.items()}


def _aliases(network: Network) -> dict[str, str]:
    """Functions without a name to which a NoOp gives one, as the library does for recurrences."""
    found: dict[str, str] = {}
    for function in network.functions.values():
        if function.op == "NoOp" and function.name and len(function.inputs) == 1:
            owner, _ = network.output(function.inputs[0])
            if owner is not None and not owner.name:
                found.setdefault(owner.uid, function.name)
    return found


def _reached(network: Network, root: str, seen: dict[str, str]) -> list[Function]:
    """The functions of one level: those that lead to its root without entering blocks; none that was seen before."""
    found: list[Function] = []
    waiting, known = [root], {root}
    while waiting:
        function = network.functions.get(waiting.pop())
        if function is None or function.uid in seen:
            continue
        found.append(function)
        values = [*function.inputs, *(value for _, value in function.arguments)]
        for value in values:
            owner, _ = network.output(value)
            if owner is not None and owner.uid not in known:
                known.add(owner.uid)
                waiting.append(owner.uid)
    return found


def uids(refs: Iterable[Ref]) -> list[str]:
    """The functions among what some values come from."""
    return [ref.uid for ref in refs if ref.index >= 0]
