"""The command line: hub convert | check | verify | locate | reduce | inspect | formats | runtimes | doctor | demo.

Nothing heavy is imported here: commands import what they need when they run, so that `hub --help`
answers at once.

Exit codes: 0 ok, 1 mismatch, 2 usage, 3 unsupported, 4 missing dependency, 5 invalid input,
70 a fault of hub itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import hub
from hub import terminal
from hub.errors import HubError, ParityError, UnsupportedOps, UsageError
from hub.words import images_of, inputs_of, options_of, source_of, tolerances_of

if TYPE_CHECKING:
    from parity.report import Report

__all__ = ["app", "main"]

EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141

# Typer has a copy of click since 0.20 and uses the installed one before; this is the base of either's errors.
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="hub",
    help="Convert trained neural networks between frameworks, and prove every conversion.",
    epilog="Exit codes: 0 ok, 1 mismatch, 2 usage, 3 unsupported, 4 missing dependency, 5 invalid input.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)

runtimes_app = typer.Typer(
    help="Runtimes that need a Python of their own: list, install, remove.", rich_markup_mode=None
)
app.add_typer(runtimes_app, name="runtimes", short_help="List, install and remove runtimes such as Caffe.")

SOURCE_HELP = "A model file, or a pair of files as STRUCTURE,WEIGHTS (arch.json,weights.h5)."
RuntimeName = Annotated[str, typer.Argument(metavar="NAME", help="One of those that `hub runtimes list` shows.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for errors too.")]
Reports = Annotated[
    list[Path] | None,
    typer.Option("--report", metavar="FILE", help="Write the report: .html, .md, .json, .xml (JUnit). Repeatable."),
]
From = Annotated[str | None, typer.Option("--source", metavar="FORMAT", help="Format of SRC, if it cannot be told.")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"hub {hub.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(UsageError.exit_code)


@app.command(short_help="Convert a model, and prove the result.")
def convert(
    src: Annotated[str, typer.Argument(metavar="SRC", help=SOURCE_HELP)],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="File to write; its suffix chooses the target.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="FORMAT", help="Target format, in place of the suffix.")
    ] = None,
    source: From = None,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME:1x224x224x3",
            help="Shape of an input: NAME:Nx3x224x224, a word or ? for a free size; for PyTorch with its type, "
            "NAME:int64:1x12; or a value that it always has, NAME=False. Repeatable.",
        ),
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option("--output", metavar="NAME", help="End at this layer or value. Repeatable.")
    ] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare source, ONNX and target.")] = True,
    opset: Annotated[int | None, typer.Option("--opset", metavar="N", help="ONNX opset to write.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-O",
            metavar="NAME=VALUE",
            help="Option of the reader or the writer: batch=1, mean=104,117,123, dialect=bvlc, ... Repeatable.",
        ),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow what executes code of the source, such as pickles.")
    ] = False,
    keep_rejected: Annotated[
        bool, typer.Option("--keep-rejected", help="Keep files that failed the check, as *.rejected.")
    ] = False,
    report: Reports = None,
    as_json: Json = False,
) -> None:
    """Convert SRC to DST and compare the two on the same numbers."""
    options = options_of(option or []) | ({} if opset is None else {"opset": opset})
    _forms(report or [])
    with terminal.progress(quiet=as_json) as progress, _reporting(report or []):
        result = hub.convert(
            source_of(src),
            dst,
            to=to,
            source=source,
            inputs=inputs_of(input_ or []),
            outputs=output or None,
            check=check,
            trust=trust,
            keep_rejected=keep_rejected,
            progress=progress,
            **options,
        )
    if result.report is not None:
        _save(result.report, report or [])
    if as_json:
        terminal.show_json({"ok": True, **result.to_dict()})
    else:
        terminal.show_conversion(result)


A_HELP = f"The reference. {SOURCE_HELP}"
B_HELP = "What to compare with it. A .py file is executed."
Rtol = Annotated[float | None, typer.Option("--rtol", min=0, help="Relative to the spread of an output.")]
Atol = Annotated[float | None, typer.Option("--atol", min=0, help="Absolute, added to it.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the generated inputs.")]
Inputs = Annotated[
    Path | None,
    typer.Option("--inputs", metavar="FILE", help="Inputs: .npz, .npy (one array), a folder of images."),
]


@app.command(short_help="Compare two models, each in its own runtime.")
def check(
    a: Annotated[str, typer.Argument(metavar="A", help=f"{A_HELP} Or recorded outputs, an .npz.")],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help=B_HELP)] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Compare the outputs of layers known to both, too.")] = False,
    rtol: Annotated[
        list[str] | None,
        typer.Option("--rtol", metavar="[NAME=]X", help="Relative to the spread, of all or of one output. Repeatable."),
    ] = None,
    atol: Atol = None,
    seed: Seed = 0,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Sets of inputs; the worst of each value counts.")] = 1,
    inputs: Inputs = None,
    pixels: Annotated[
        str | None,
        typer.Option("--pixels", metavar="scale=...", help="Of images: scale=, mean=a:b:c, std=, color=BGR, size=HxW."),
    ] = None,
    golden: Annotated[
        Path | None,
        typer.Option(
            *("--golden", "--save"), metavar="FILE.npz", help="Write what A was given and gave: to check B elsewhere."
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="FILE.npz", help="Compare A with what was written so.")
    ] = None,
    memory: Annotated[
        int | None, typer.Option("--memory", metavar="MB", min=1, help="Of layer values held at a time; 1074.")
    ] = None,
    report_to: Reports = None,
    as_json: Json = False,
) -> None:
    """Run A and B, each in its own runtime, on the same numbers and compare all outputs."""
    _forms(report_to or [])
    if against is not None and (b is not None or golden is not None):
        raise UsageError("--against is in place of a second model, and writes nothing")
    if b is None and golden is None and against is None:
        raise UsageError("give a second model, --save FILE.npz, or --against FILE.npz")
    first, second = (str(against), source_of(a)) if against is not None else (source_of(a), source_of(b or a))
    with terminal.progress(quiet=as_json) as progress:
        progress("running both models")
        report = hub.check(
            *(first, second),
            inputs=images_of(inputs, pixels),
            rtol=tolerances_of(rtol or []),
            atol=atol,
            layers=layers,
            seed=seed,
            golden=golden,
            draws=draws,
            memory=None if memory is None else memory * 10**6,
        )
    _save(report, report_to or [])
    code = _exit_code(report)
    if as_json:
        terminal.show_json({**report.to_dict(), "exit_code": code})
    else:
        terminal.show_report(report)
    raise typer.Exit(code)


@app.command(short_help="Compare models with the recordings beside them.")
def verify(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Model files.")],
    report_to: Reports = None,
    as_json: Json = False,
) -> None:
    """Compare each MODEL with the recording beside it: net.golden.npz of net.onnx. Made for hooks and CI."""
    from parity.report import combined
    from parity.verify import recording_of
    from parity.verify import verify as compare

    _forms(report_to or [])
    found, wrong = {}, []
    for model in models:
        try:
            found[model] = compare(model)
        except HubError as error:
            wrong.append((model, error))
    whole = combined(found, "models and their recordings")
    # A model without a recording is no error: it is said, and can be read.
    codes = [_exit_code(report) for model, report in found.items() if recording_of(Path(model)).is_file()]
    code = next((code for code in [*(refused.exit_code for _, refused in wrong), *codes] if code), 0)
    _save(whole, report_to or [])
    if as_json:
        errors = {model: str(refused) for model, refused in wrong}
        terminal.show_json({**whole.to_dict(), "errors": errors, "exit_code": code})
    else:
        for model, report in found.items():
            terminal.show_text(f"{model}: {report.verdict}")
            if report.mismatches:
                terminal.show_report(report)
        for item in whole.skipped:
            terminal.show_text(f"not compared: {item}")
        for _, refused in wrong:
            terminal.show_error(str(refused))
    raise typer.Exit(code)


@app.command(short_help="Find the layer at which two models begin to differ.")
def locate(
    a: Annotated[str, typer.Argument(metavar="A", help=A_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help=B_HELP)],
    rtol: Rtol = None,
    atol: Atol = None,
    seed: Seed = 0,
    inputs: Inputs = None,
    report: Reports = None,
    as_json: Json = False,
) -> None:
    """Find the layer at which B begins to differ from A, by bisection: a run of both for each layer asked."""
    _forms(report or [])
    with terminal.progress(quiet=as_json) as progress:
        progress("bisecting")
        found = hub.locate(source_of(a), source_of(b), inputs=inputs, rtol=rtol, atol=atol, seed=seed)
    _save(found.report, report or [])
    if as_json:
        terminal.show_json({**found.report.to_dict(), "runs": found.runs, "exit_code": _exit_code(found.report)})
    else:
        terminal.show_report(found.report)
        terminal.show_text(str(found).split("\n\n")[0])
    raise typer.Exit(_exit_code(found.report))


@app.command(short_help="Write the smallest part of a model that still differs.")
def reduce(
    a: Annotated[str, typer.Argument(metavar="A", help=A_HELP)],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help=B_HELP)] = None,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write it.")] = Path("repro"),
    command: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="CMD",
            help="In place of B: a command that fails on a wrong part of A, {model}, or {folder} with its test data.",
        ),
    ] = None,
    rtol: Rtol = None,
    atol: Atol = None,
    seed: Seed = 0,
    inputs: Inputs = None,
    as_json: Json = False,
) -> None:
    """Write the smallest part in which B still differs from A: an ONNX test case, a script that shows it, an issue."""
    with terminal.progress(quiet=as_json) as progress:
        progress("looking for the smallest part")
        found = hub.reduce(
            *(source_of(a), None if b is None else source_of(b), out),
            command=command,
            inputs=inputs,
            rtol=rtol,
            atol=atol,
            seed=seed,
        )
    if as_json:
        terminal.show_json({"folder": str(found.folder), "nodes": found.nodes, "row": found.row.to_dict()})
    else:
        terminal.show_text(str(found))


@app.command(short_help="Show what is in a model; what would a target refuse?")
def inspect(
    src: Annotated[str, typer.Argument(metavar="SRC", help=SOURCE_HELP)],
    target: Annotated[
        str | None, typer.Option("--for", metavar="TARGET", help="What would this format refuse?")
    ] = None,
    source: From = None,
    as_json: Json = False,
) -> None:
    """Show what is in a model and, with --for, what a target would refuse of it. Nothing is written."""
    with terminal.progress(quiet=as_json) as progress:
        progress("reading")
        result = hub.inspect(source_of(src), to=target, source=source)
    if as_json:
        terminal.show_json(result.to_dict())
    else:
        terminal.show_text(str(result))
    raise typer.Exit(0 if result.ok else UnsupportedOps.exit_code)


@app.command(short_help="List what can be read and written.")
def formats(as_json: Json = False) -> None:
    """List what can be read and written, and what each needs."""
    table = hub.formats()
    if as_json:
        terminal.show_json(table.to_dict())
    else:
        terminal.show_formats(table)


@runtimes_app.command("list", short_help="Which are installed, and where.")
def list_runtimes(as_json: Json = False) -> None:
    """Say of each runtime whether it is installed, where, which version, and how large it is."""
    from hub import runtimes

    found = runtimes.statuses()
    if as_json:
        terminal.show_json({"folder": str(runtimes.folder()), "runtimes": [status.to_dict() for status in found]})
    else:
        terminal.show_runtimes(found)


@runtimes_app.command("install", short_help="Install one, in an environment of its own.")
def install_runtime(name: RuntimeName, as_json: Json = False) -> None:
    """Install a runtime into the user's data folder, or into $HUB_RUNTIMES_DIR; no rights of an administrator,
    no compiler. It needs one of the Pythons that the runtime was made for."""
    from hub import runtimes

    with terminal.progress(quiet=as_json) as progress:
        status = runtimes.install(name, progress)
    if as_json:
        terminal.show_json({"ok": True, **status.to_dict()})
    else:
        terminal.show_text(f"{status.title} {status.version} is installed in {status.path} ({status.size} MB)")


@runtimes_app.command("remove", short_help="Remove one.")
def remove_runtime(name: RuntimeName, as_json: Json = False) -> None:
    """Remove a runtime with all of its files."""
    from hub import runtimes

    removed = runtimes.remove(name)
    if as_json:
        terminal.show_json({"ok": True, "removed": removed})
    else:
        terminal.show_text(f"{name} was {'removed' if removed else 'not installed'}")


@app.command(short_help="What works here, and the command that gets the rest.")
def doctor(as_json: Json = False) -> None:
    """Look at Python, at hub, and at what can be read, written and run here of each format."""
    from hub.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        terminal.show_json(diagnosis.to_dict())
    else:
        terminal.show_diagnosis(diagnosis)


@app.command(short_help="Convert the sample that ships with hub, and prove it.")
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write.")] = Path("hub-demo"),
) -> None:
    """Convert a small trained Keras network to ONNX and to PyTorch code, and check it against recorded outputs."""
    from hub.demo import demo as run

    with terminal.progress() as progress:
        progress("converting the sample")
        result = run(folder)
    terminal.show_text(str(result))
    raise typer.Exit(_exit_code(result.report) or (1 if result.code_report.mismatches else 0))


def _forms(paths: Sequence[Path]) -> None:
    """Refuse a report of unknown form before anything is run."""
    from parity.rendering import known

    for path in paths:
        known(path)


def _save(report: Report, paths: Sequence[Path]) -> None:
    for path in paths:
        report.save(path)


@contextmanager
def _reporting(paths: Sequence[Path]) -> Iterator[None]:
    """The report of a conversion that failed the check is written as well."""
    try:
        yield
    except ParityError as error:
        _save(error.report, paths)
        raise


def _exit_code(report: Report) -> int:
    """Of a check. One that proved nothing ends with the code of what was in its way."""
    if report.ok:
        return 0
    if not report.mismatches:
        reasons = {item.why for item in report.not_compared}
        for why, code in (("missing dependency", 4), ("not loadable", 5), ("no runtime", 3)):
            if why in reasons:
                return code
    return ParityError.exit_code


# -- the one boundary between exceptions and the user ------------------------------------------------


def main() -> NoReturn:
    """The command `hub`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = _run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _pipe_closed()
    sys.exit(code)


def _pipe_closed() -> int:
    """Nothing more can be said: end as a program does that SIGPIPE ends, without a word at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return EXIT_PIPE


def _run(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code; no exception leaves it."""
    as_json = "--json" in arguments
    try:
        return app(arguments, prog_name="hub", standalone_mode=False) or 0
    except HubError as error:
        _show(error, str(error), error.exit_code, as_json)
        return error.exit_code
    except _ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"\n{context.command_path} --help shows how it is used" if context is not None else ""
        _show(error, error.format_message() + hint, UsageError.exit_code, as_json)
        return UsageError.exit_code
    except (KeyboardInterrupt, typer.Abort):
        terminal.show_error("interrupted")
        return EXIT_INTERRUPTED
    except (BrokenPipeError, SystemExit):  # whoever read the pipe has gone; Typer exits on it
        return _pipe_closed()
    except Exception as error:  # noqa: BLE001 (a fault of hub: said in one line, never as a traceback)
        text = f"internal error: {type(error).__name__}: {error}\nplease report it; HUB_TRACEBACK=1 shows where it is"
        _show(error, text, EXIT_INTERNAL, as_json)
        return EXIT_INTERNAL


def _show(error: BaseException, message: str, code: int, as_json: bool) -> None:
    if os.environ.get("HUB_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    if as_json:
        data: dict[str, Any] = {"type": type(error).__name__, "message": message, "exit_code": code}
        if isinstance(error, UnsupportedOps):
            from dataclasses import asdict

            data["ops"] = [asdict(op) for op in error.ops]
        if isinstance(error, ParityError):
            data["report"] = error.report.to_dict()
        terminal.show_json({"ok": False, "error": data})
    elif isinstance(error, ParityError):
        terminal.show_error(message.split("\n", 1)[0])
        terminal.show_report(error.report, error=True)
    else:
        terminal.show_error(message)
