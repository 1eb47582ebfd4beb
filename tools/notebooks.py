"""Run the notebooks of notebooks/ top to bottom, each in an empty folder, and keep what they show.

python -m tools.notebooks [NAME...]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"


def executed(path: Path, folder: Path) -> Any:
    """The notebook with what its cells give, run in `folder` by this Python; cells that install are passed over."""
    book = nbformat.read(path, as_version=4)
    run = nbformat.from_dict(book)
    kept = [cell for cell in run.cells if "install" not in cell.metadata.get("tags", [])]
    part = nbformat.v4.new_notebook(cells=kept, metadata=run.metadata)
    search = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    path_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": search, "PATH": path_first, "TF_CPP_MIN_LOG_LEVEL": "3"}
    client = NotebookClient(part, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    outputs = {cell.id: cell for cell in part.cells}
    for cell in book.cells:
        if cell.cell_type == "code":
            ran = outputs.get(cell.id)
            cell.outputs = [] if ran is None else [_clean(output, folder) for output in ran.outputs if _said(output)]
            cell.execution_count = None
            cell.metadata.pop("execution", None)
    return book


def _said(output: Any) -> bool:
    """Whether an output is more than what libraries log."""
    return not (output.output_type == "stream" and output.name == "stderr")


def _clean(output: Any, folder: Path) -> Any:
    """An output without the paths of this machine."""
    output.pop("execution_count", None)
    if output.output_type == "execute_result":
        output["execution_count"] = None
    output.get("data", {}).pop("image/jpeg", None)  # there is a PNG of the same
    for place in (output, output.get("data", {})):
        for key, text in list(place.items()):
            if isinstance(text, str) and (key == "text" or key.startswith("text/")):
                place[key] = text.replace(str(folder), ".").replace(str(ROOT), "hub")
    return output


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks")
    parser.add_argument("names", nargs="*", help="of notebooks, without suffix; all")
    names = parser.parse_args().names
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or path.stem in names:
            with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
                nbformat.write(executed(path, Path(folder)), path)


if __name__ == "__main__":
    main()
