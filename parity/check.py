"""Run models in their own runtimes on the same numbers, and compare what comes out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from hub.errors import UsageError
from parity.compare import Row
from parity.comparison import MEMORY, Comparison
from parity.golden import is_golden
from parity.report import Report
from parity.sides import Contradiction, agree_on_form, labels, open_side

if TYPE_CHECKING:
    from hub.formats import Format

__all__ = ["check", "check_conversion"]


def check(
    a: Any,
    b: Any,
    *,
    inputs: Any = None,
    rtol: float | Mapping[str, float] | None = None,
    atol: float | None = None,
    layers: bool = False,
    seed: int = 0,
    golden: str | os.PathLike[str] | None = None,
    memory: int | None = None,
    draws: int = 1,
) -> Report:
    """Compare `b` with `a`, the reference, each in its own runtime.

    `a`, `b`: a `hub.Model`, a path, a pair of paths (structure, weights), a live object, or for `a`
    an `.npz` of recorded inputs and outputs. A Python file is executed.
    `inputs`: see `parity.inputs.given`; a function of 0 .. `draws` - 1 that gives such; a folder of images, or
    `parity.images.Images`; None for seeded ones, of which `draws` differ in seed and in what sizes are free.
    `rtol`, `atol`: see `parity.compare`; `rtol` for all, or by output.
    `layers`: compare the outputs of the layers that both sides know by name, too.
    `memory`: bytes of layer values that are held at a time; both models run again for what is more.
    `golden`: an `.npz` to write what `a` was given and gave: with it, `b` can be checked where only its runtime is.

    Raises:
        UsageError: a path does not exist, or `inputs` fit neither model.
        UnknownFormat: what `a` or `b` is cannot be told, or nothing here runs it.
    """
    if golden is not None and not is_golden(golden):
        raise UsageError(f"golden={str(golden)!r}: a recording is an .npz")
    names = labels(a, b)
    report = Report(title=f"{names[1]} against {names[0]}")
    with ExitStack() as stack:
        sides = [open_side(source, label, report, stack) for source, label in zip((a, b), names, strict=True)]
        if sides[0] is not None and sides[1] is not None:
            sides[1].judged = True
            agree_on_form(sides[0], sides[1])
            comparison = Comparison(report, inputs, rtol, atol, layers, seed, draws=draws, memory=memory or MEMORY)
            comparison.run([sides[0], sides[1]], [(0, 1)])
            if golden is not None:
                comparison.record(sides[0], golden)
    return report


def check_conversion(
    source: Any,
    source_format: Format,
    model: Any,
    target: Any = None,
    target_format: Format | None = None,
    *,
    inputs: Any = None,
    outputs: Sequence[str] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    layers: bool = False,
    seed: int = 0,
    batches: Sequence[int] = (2,),
) -> Report:
    """Compare a source with the `hub.Model` read from it, and that with the `target` written from it.

    Runtimes that are not installed, and sources that their own framework cannot load or run, are
    listed as not compared. A model or a target that cannot be loaded or run is a mismatch: it is
    what the conversion made. `source` and `target` may be None (there is nothing to run).

    Args:
        source: as for `check`.
        source_format: its format.
        model: a `hub.Model`; it runs in ONNX Runtime.
        target: path, paths or live object.
        target_format: its format.
        inputs, rtol, atol, layers, seed: as for `check`.
        outputs: the source layers that were chosen in place of the source's own outputs, if any.
        batches: sizes of the batch, of which each is tried.
    """
    from hub.formats import find as find_format

    target_name = target_format.title if target_format else "target"
    report = Report(title=" -> ".join([source_format.title, "ONNX", *([target_name] if target is not None else [])]))
    with ExitStack() as stack:
        ends: list[tuple[Any, str, Format | None, bool]] = [
            (source, f"{source_format.title} source", source_format, False)
        ]
        ends += [(model, "ONNX", find_format("onnx"), True)]
        ends += [(target, f"{target_name} target", target_format, True)]
        opened = [
            None
            if x is None
            else open_side(x, label, report, stack, known, judged, model.opening if x is source else {})
            for x, label, known, judged in ends
        ]
        present = [side for side in opened if side is not None]
        middle = opened[1]
        if opened[0] is not None:
            opened[0].runner.as_written()  # that is what was read
        if middle is None or len(present) == 1:
            return report
        if outputs and opened[0] is not None:
            opened[0].chosen = dict(zip((value.name for value in model.outputs), outputs, strict=True))
        index = present.index(middle)
        pairs = [(i, j) for i, j in ((index - 1, index), (index, index + 1)) if i >= 0 and j < len(present)]
        try:
            Comparison(report, inputs, rtol, atol, layers, seed, batches).run(present, pairs)
        except Contradiction as error:
            report.rows.append(Row("(inputs)", "mismatch", str(error), between=report.title))
    return report
