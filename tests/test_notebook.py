"""The notebook runs top to bottom on the shipped model, and is committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "sample.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.mark.slow
def test_it_runs_and_every_section_draws(notebook, monkeypatch):
    monkeypatch.delenv("UNO_JAX_MODEL", raising=False)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": NOTEBOOK.parent.parent}}).execute()
    pictures = sum(
        "image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())
    )
    assert pictures == 7  # one and two references, UnoPE's layout and effect, the trajectory, two of a batch


def test_it_is_valid_and_has_no_outputs(notebook):
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
