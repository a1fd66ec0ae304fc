"""The notebooks run top to bottom on the shipped model, and are committed with what they drew."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
# By the number of pictures in each notebook's outputs.
NOTEBOOKS = {"sample": 7, "train_lora": 4}


def read(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def count_pictures(notebook):
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in outputs(cell))


def outputs(cell):
    return cell.get("outputs", ())


def run(notebook, folder, less):
    """Runs it with `less` work: texts of its cells, each by what stands for it."""
    source = "".join(cell.source for cell in notebook.cells)
    assert not [whole for whole in less if whole not in source]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
        for whole, part in less.items():
            cell.source = cell.source.replace(whole, part)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()


GENERATE = "from uno_jax import generate"
FEWER_STEPS = {
    GENERATE: f"import functools\n{GENERATE}\ngenerate = functools.partial(generate, steps=2)",
    "STEPS = 12": "STEPS = 2",
    "[0, 1, 3, 6, 9, STEPS]": "[0, 0, 1, 1, 1, STEPS]",
}


@pytest.mark.slow
def test_sampling_draws_in_every_section(monkeypatch):
    monkeypatch.delenv("UNO_JAX_MODEL", raising=False)
    notebook = read("sample")
    run(notebook, ROOT, FEWER_STEPS)
    # One and two references, UnoPE's layout and effect, the trajectory, two of a batch.
    assert count_pictures(notebook) == NOTEBOOKS["sample"]


LESS = {
    "STEPS = 450": "STEPS = 2",
    "batch_size=8": "batch_size=1",
    "PROMPTS, seed=1)": "PROMPTS, seed=1, steps=2)",
    "PROMPTS = [": 'PROMPTS = ["a t-rex"] or [',
}


@pytest.mark.slow
def test_a_lora_is_trained(tmp_path):
    notebook = read("train_lora")
    run(notebook, tmp_path, LESS)
    assert count_pictures(notebook) == NOTEBOOKS["train_lora"]
    assert (tmp_path / "out/notebook/run/dit_lora.safetensors").is_file()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_committed_with_what_it_drew(name):
    notebook = read(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert count_pictures(notebook) == NOTEBOOKS[name]
    assert not any(output.output_type == "error" for cell in code for output in outputs(cell))
    assert str(ROOT) not in nbformat.writes(notebook)
