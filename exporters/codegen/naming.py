"""Names for classes and members, from the names of the source layers and from what they contain."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from exporters.codegen.names import class_name, common, identifier, tokens, unique
from exporters.codegen.program import Block, Member, Op, expressions, references

__all__ = ["name_blocks", "name_members"]

_KINDS = (
    ("batch_normalization", "BN"),
    ("convolution_transpose", "Deconv"),
    ("convolution", "Conv"),
    ("dense", "Dense"),
    ("BatchNorm", "BN"),
    ("Norm", "Norm"),
    ("ConvTranspose", "Deconv"),
    ("Conv", "Conv"),
    ("Linear", "Linear"),
    ("Embedding", "Embedding"),
    ("Pool", "Pool"),
    ("Pad", "Pad"),
    ("Dropout", "Dropout"),
    ("parameter", "Scale"),
)
_FUNCTIONS = {
    "F.relu(": "ReLU",
    "F.relu6(": "ReLU6",
    "F.silu(": "SiLU",
    "F.gelu(": "GELU",
    "F.hardswish(": "Hardswish",
    "F.hardsigmoid(": "Hardsigmoid",
    "torch.sigmoid(": "Sigmoid",
    "torch.tanh(": "Tanh",
    "torch.cat(": "Concat",
    "C.relu(": "ReLU",
    "C.sigmoid(": "Sigmoid",
    "C.tanh(": "Tanh",
    "C.splice(": "Concat",
}


def name_members(members: Sequence[Member], reserved: Collection[str]) -> None:
    """Names of the members of the outermost class: those of the source layers.

    The words that all of them begin with, such as the name of the model, are left out.
    """
    taken = set(reserved)
    words = [tokens(member.hint) for member in members]
    shared = len(common(words)) if len(members) > 2 else 0
    if any(len(name) == shared for name in words):
        shared = 0
    for member, name in zip(members, words, strict=True):
        member.name = unique(identifier("_".join(name[shared:]), reserved), taken)


def name_blocks(
    blocks: Sequence[Block], reserved: Collection[str], taken: set[str], model: str = "", *, functions: bool = False
) -> None:
    """Names of the classes (or of the functions, in lower case), and of the members in them."""
    for block in blocks:
        words, ending = _words(block, model.lower())
        if functions:
            name = identifier("_".join([*words, ending] if ending else words).lower(), reserved, "block")
        else:
            name = class_name("_".join(words) if ending else "".join(words), "") + ending
        block.name = unique(name, taken)
        _name_slots(block, reserved)


# --- members of a block


def _name_slots(block: Block, reserved: Collection[str]) -> None:
    rows = [_stripped([tokens(child.hint) for child in i.children]) for i in block.instances]
    bases = []
    for number, slot in enumerate(block.slots):
        bases.append(_agreed([row[number] for row in rows]) or _kind(slot).removesuffix("Block").lower() or "layer")
    bases = [identifier(base, {*reserved, *(p.name for p in block.parameters)}) for base in bases]
    count = Counter(bases)
    seen: Counter[str] = Counter()
    taken = {*reserved, *(p.name for p in block.parameters)}
    for slot, base in zip(block.slots, bases, strict=True):
        if count[base] > 1:
            seen[base] += 1
            base = f"{base}_{seen[base]}" if base[-1].isdigit() else f"{base}{seen[base]}"
        slot.name = unique(base, taken)


def _stripped(words: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without the words that all of them begin with, and those that all of them end with."""
    if len(words) < 2:
        return [(w[-1:] if len(w) > 1 else w) for w in words]
    start = 0
    while all(len(w) > start + 1 for w in words) and len({w[start] for w in words}) == 1:
        start += 1
    words = [w[start:] for w in words]
    end = 0
    while all(len(w) > end + 1 for w in words) and len({w[-1 - end] for w in words}) == 1:
        end += 1
    return [w[: len(w) - end] for w in words]


def _agreed(names: list[tuple[str, ...]]) -> str:
    """What the instances have in common in the name of one member."""
    if len(set(names)) == 1:
        return "_".join(names[0])
    bare = [tuple(w for w in (re.sub(r"\d+[a-z]?$", "", word) for word in name) if w) for name in names]
    if len(set(bare)) == 1:
        return "_".join(bare[0])
    if len({len(name) for name in bare}) != 1:
        return ""
    return "_".join(column[0] for column in zip(*bare, strict=True) if len(set(column)) == 1)


# --- classes


def _kind(member: Member) -> str:
    if member.block is not None:
        return member.block.name
    return next((short for word, short in _KINDS if word in member.type), "")


def _words(block: Block, model: str) -> tuple[list[str], str]:
    """What the block is made of, if that is little; else the words that the instances' names share, and `Block`."""
    content = _content(block)
    if content:
        return content, ""
    words = [tokens(i.hint) for i in block.instances]
    bare = [[w for w in (re.sub(r"\d+[a-z]?$", "", t) for t in ws) if w] for ws in words]
    shared = []
    for column in zip(*bare, strict=False):
        if len(set(column)) == 1:
            shared.append(column[0])
    shared = [w for k, w in enumerate(shared) if w not in shared[:k] and w.lower() != "block"]
    shared = [w for w in shared if w.lower() not in model] or shared
    return shared[-3:], "Block"


def _content(block: Block) -> list[str]:
    """`Conv`, `BN`, `ReLU` for a short chain of layers, nothing for what is longer or has branches."""
    parts = []
    for step in block.scope.steps:
        members = references(step.expression)
        if members:
            if members[0].block is not None:
                return []
            parts.append(_kind(members[0]))
            continue
        for part in expressions(step.expression):
            if isinstance(part, Op):
                word = next((w for t, w in _FUNCTIONS.items() if part.template.startswith(t)), "")
                parts.append(word)
    return parts if 1 < len(parts) <= 4 and "" not in parts and "Concat" not in parts else []
