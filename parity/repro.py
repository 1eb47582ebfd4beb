"""The folder of a difference: a test case of ONNX, a script that shows it, and the text of an issue."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import hub
from hub.errors import HubError
from parity.compare import Row
from parity.cut import Part, standard
from parity.locate import Location
from parity.rendering.markdown import plain
from parity.sides import format_of, labels

__all__ = ["Repro", "written"]


@dataclass
class Repro:
    """What `reduce` returns: the folder, how many nodes are left, where the two begin to differ, in which row, and
    whether ONNX Runtime computes that part as the standard's reference does."""

    folder: Path
    nodes: int
    location: Location | None
    row: Row
    standard: str = ""

    def __str__(self) -> str:
        lines = [f"wrote {self.folder}: {_nodes(self.nodes)}"]
        lines += [f"  {name}" for name in ("model.onnx", "test_data_set_0/", "show.py", "issue.md")]
        if self.location is not None and self.location.divergence is not None:
            lines.append(f"first divergence: {self.location.divergence}")
        lines.append(f"it differs: {self.row.reason}")
        lines.append(self.standard)
        return "\n".join(lines)


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def written(folder: Path, part: Part, location: Location | None, row: Row, how: str, sources: Sequence[Any]) -> Repro:
    """Write the folder. `how` the difference shows: "run", "convert", "recorded", or a command of the user's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.save(folder)
        (folder / "show.py").write_text(_script(how, sources), encoding="utf-8")
        result = Repro(folder, part.nodes, location, row, standard(part))
        (folder / "issue.md").write_text(_issue(result, part, how, sources), encoding="utf-8")
    except OSError as error:
        raise HubError(f"cannot write {folder}: {error.strerror or error}") from error
    return result


_SCRIPT = '''"""Shows a difference: what `model.onnx` gives for test_data_set_0, against what is expected."""

from pathlib import Path

import numpy as np
import onnx
{imports}
HERE = Path(__file__).parent


def tensors(kind):
    files = sorted((HERE / "test_data_set_0").glob(f"{{kind}}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
    found = [onnx.TensorProto.FromString(path.read_bytes()) for path in files]
    return {{tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in found}}


def apart(name, expected, other):
    if expected.shape != other.shape:
        return f"{{name}}: shape {{other.shape}} instead of {{expected.shape}}"
    a, b = expected.astype(float), other.astype(float)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return f"{{name}}: NaN or Inf at other places"
    return f"{{name}}: {{np.nanmax(np.abs(a - b)):.2e}} apart, of a spread of {{np.ptp(a):.2e}}"


feeds, expected = tensors("input"), tensors("output")
{body}
'''

_RUN = """session = onnxruntime.InferenceSession(str(HERE / "model.onnx"))
for (name, array), other in zip(expected.items(), session.run(list(expected), feeds)):
    print(apart(name, array, other))"""

_CONVERT = """conversion = hub.convert(HERE / "model.onnx", HERE / "converted{suffix}", to={to!r}, check=False)
print(hub.check(HERE / "model.onnx", conversion.paths[0], inputs=feeds))"""

_RECORDED = """session, second = onnxruntime.InferenceSession(str(HERE / "model.onnx")), tensors("second")
for name, array in zip(second, session.run(list(second), feeds)):
    print({label!r}, "gives:", apart(name, array, second[name]))"""

_COMMAND = """import subprocess

words = [word.replace("{{model}}", str(HERE / "model.onnx")).replace("{{folder}}", str(HERE)) for word in {words!r}]
raise SystemExit(subprocess.run(words).returncode)"""


def _script(how: str, sources: Sequence[Any]) -> str:
    if how == "run":
        return _SCRIPT.format(imports="import onnxruntime\n", body=_RUN.format())
    if how == "convert":
        known = format_of(sources[1])
        return _SCRIPT.format(imports="\nimport hub\n", body=_CONVERT.format(suffix=known.writes[0], to=known.name))
    if how == "recorded":
        label = labels(*sources)[1].translate(str.maketrans('{}"\\', "____"))
        return _SCRIPT.format(imports="import onnxruntime\n", body=_RECORDED.format(label=label))
    import shlex

    return _SCRIPT.format(imports="", body=_COMMAND.format(words=shlex.split(how)))


def _issue(result: Repro, part: Part, how: str, sources: Sequence[Any]) -> str:
    names = [plain(str(source)) if isinstance(source, str | Path) else type(source).__name__ for source in sources]
    shapes = [f"{plain(name)} {array.dtype.name} {list(array.shape)}" for name, array in part.feeds.items()]
    operators = plain(", ".join(node.op_type for node in part.model.graph))
    versions = {"hub": hub.__version__, "Python": platform.python_version(), "system": platform.platform()}
    for package in ("onnx", "onnxruntime", "numpy"):
        versions[package] = metadata.version(package)
    if result.location is not None:
        versions |= result.location.report.versions
    lines = [f"# {operators}: a difference in {_nodes(result.nodes)}", ""]
    lines += ["## What is wrong", "", f"{plain(result.row.reason)}.", ""]
    if result.location is not None and result.location.divergence is not None:
        lines += [f"First divergence in the whole model: {plain(str(result.location.divergence))}.", ""]
    lines += ["## To see it", "", "```", "python show.py", "```", ""]
    if how == "run":
        lines += [
            "`model.onnx` gives other numbers for `test_data_set_0` than the reference does, which are in it.",
            "",
        ]
    elif how == "convert":
        lines += ["`model.onnx` is right in ONNX Runtime, and differs once it is converted.", ""]
    elif how == "recorded":
        lines += [
            f"`model.onnx` is right. `test_data_set_0/second_0.pb` is what {names[1]}, as a whole and in its own "
            "runtime, gives there; what enters that layer agrees.",
            "",
        ]
    lines += [f"{plain(result.standard)}.", ""]
    lines += [f"Operators: {operators}. Inputs: {', '.join(shapes) or 'none'}.", ""]
    lines += ["## Found in", "", *(f"- {name}" for name in names), ""]
    lines += ["## Versions", "", *(f"- {name} {version}" for name, version in versions.items()), ""]
    return "\n".join(lines)
