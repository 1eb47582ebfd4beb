"""The notebooks, each run top to bottom in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import need

need("nbclient", "ipykernel", "keras", "tensorflow", "torch", "PIL")

from tools.notebooks import NOTEBOOKS, executed  # noqa: E402

NAMES = ["01_convert", "02_parity", "03_find_the_layer", "04_add_an_op", "05_in_ci"]
SHOWN = {
    "01_convert": ["PASSED", "class Digits(nn.Module)", "image/png"],
    "02_parity": ["PASSED", "MISMATCH", "<svg"],
    "03_find_the_layer": ["conv3_block2_2_conv (Conv2D); its inputs agree", "1 node", "<svg"],
    "04_add_an_op": ["ScatterElements x1", "torch.scatter(", "MISMATCH"],
    "05_in_ci": ["1 passed", "<testsuite", "PASSED"],
}


def test_these_are_all() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_shows_what_it_says(name: str, tmp_path: Path) -> None:
    book = executed(NOTEBOOKS / f"{name}.ipynb", tmp_path)
    shown = "".join(str(cell.outputs) for cell in book.cells if cell.cell_type == "code")
    assert [text for text in SHOWN[name] if text not in shown] == []
    install = [cell for cell in book.cells if "install" in cell.metadata.get("tags", [])]
    assert len(install) == 1
    assert install[0].source.startswith("%pip install")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_names_no_place_of_a_machine(name: str) -> None:
    text = (NOTEBOOKS / f"{name}.ipynb").read_text("utf-8")
    assert "/tmp/" not in text
    assert "/home/" not in text


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_what_it_shows(name: str) -> None:
    text = (NOTEBOOKS / f"{name}.ipynb").read_text("utf-8")
    assert [shown for shown in SHOWN[name] if shown not in text.replace('\\"', '"')] == []
