"""specs/explore.ipynb, executed by nbclient in a kernel of its own: what a notebook shows of a study."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "specs" / "explore.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The code cells after they were run."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    store = f"import os; os.environ['KEMPEFRAME_STORE'] = {str(folder / 'store')!r}"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(store))
    client = nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's sockets and event loop, not of ours
        client.execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cells: list[Any], source: str) -> dict[str, Any]:
    """What the cell that begins so shows as its value, by media type."""
    cell = next(cell for cell in cells if cell.source.startswith(source))
    return next(dict(o["data"]) for o in cell.outputs if o["output_type"] == "execute_result")


def test_a_draft_shows_its_toml(cells: list[Any]) -> None:
    assert '[data]\nuse = "standard.digits"' in shown(cells, "draft = ")["text/markdown"]


def test_a_study_shows_its_title_size_and_verdicts(cells: list[Any]) -> None:
    html = shown(cells, "study = ")["text/html"]
    assert "Double descent on digits" in html and "60 trials" in html and "holds" in html


def test_claims_and_figures_are_shown(cells: list[Any]) -> None:
    assert "a penalty helps at the interpolation threshold" in shown(cells, "study.claims")["text/html"]
    assert len(shown(cells, "study.figure")["image/png"]) > 10_000


def test_tables_are_data_frames_and_networks_come_back(cells: list[Any]) -> None:
    assert "<table" in shown(cells, "study.table")["text/html"]
    assert int(shown(cells, "network = ")["text/plain"]) == 50 * 10


def test_one_line_changed_is_another_study(cells: list[Any]) -> None:
    assert "<table>" in shown(cells, "kempeframe.run")["text/html"]
