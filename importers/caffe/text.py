"""A prototxt as a message, and the lines on which its layers begin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from hub.errors import InvalidModel
from hub.schemas import messages

__all__ = ["layer_lines", "parse"]

MOST_TEXT = 16 << 20
"""Bytes of a prototxt; weights do not belong there."""

MOST_DEPTH = 32
SOLVER = frozenset(["net", "train_net", "test_net", "base_lr", "lr_policy", "test_iter", "max_iter", "solver_type"])

_TOKEN = re.compile(
    r"""(?P<space>[\s,;]+|\#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<open>[{<])|(?P<close>[}>])|(?P<colon>:)|(?P<word>[^\s,;\#"'{}<>:]+)|(?P<other>.)""",
    re.DOTALL,
)


def parse(path: Path) -> Any:
    """The `NetParameter` of a prototxt.

    Raises:
        InvalidModel: it is none; with line and column.
    """
    size = path.stat().st_size
    if size > MOST_TEXT:
        raise InvalidModel(f"{path}: {size} bytes are more than a prototxt has")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidModel(f"{path} is not text (byte {error.start}); a prototxt is") from error
    if not content.strip():
        raise InvalidModel(f"{path} is empty")
    _check_depth(content, path)
    net = messages("caffe").NetParameter()
    try:
        text_format.Parse(content, net)
    except text_format.ParseError as error:
        raise InvalidModel(_explained(error, path)) from error
    return net


def _explained(error: text_format.ParseError, path: Path) -> str:
    line, column = error.GetLine(), error.GetColumn()
    where = f"{path}, line {line}, column {column}" if line is not None else str(path)
    text = re.sub(r"^\d+:\d+ : ", "", str(error)).replace("hub.caffe.", "")
    text = re.sub(r"^'.{200,}?': ", "", text, flags=re.DOTALL)[:300]
    unknown = re.search(r'Message type "(\w+)" has no field named "(\w+)"', text)
    if unknown and unknown.groups() == ("V1LayerParameter", "layer"):
        return f"{where}: this is Caffe's first format; bring it to the current one with Caffe's upgrade_net_proto_text"
    if unknown and unknown[1] == "NetParameter" and unknown[2] in SOLVER:
        return f"{where}: this is a solver; give the net that it names"
    if unknown:
        return f"{where}: {unknown[1]} has no field {unknown[2]!r} in Caffe 1.0 or the forks known here"
    return f"{where}: this is not a prototxt: {text}"


def layer_lines(path: Path) -> dict[str, list[int]]:
    """The lines of the top-level `layer` and of the `layers` blocks of a prototxt that parses."""
    found: dict[str, list[int]] = {"layer": [], "layers": []}
    depth, line, word, word_line = 0, 1, "", 1
    for match in _TOKEN.finditer(path.read_bytes().decode("utf-8-sig")):
        kind, text = match.lastgroup, match[0]
        if kind == "open":
            if depth == 0 and word in found:
                found[word].append(word_line)
            depth += 1
        elif kind == "close":
            depth -= 1
        elif kind == "word":
            word, word_line = text, line
        line += text.count("\n")
    return found


def _check_depth(content: str, path: Path) -> None:
    """Messages of a net are nested five deep; the parser would follow a hostile one until it breaks."""
    depth, line = 0, 1
    for match in _TOKEN.finditer(content):
        if match.lastgroup == "open":
            depth += 1
            if depth > MOST_DEPTH:
                raise InvalidModel(f"{path}, line {line}: this is not a prototxt: it is nested {depth} deep")
        elif match.lastgroup == "close":
            depth -= 1
        line += match[0].count("\n")
