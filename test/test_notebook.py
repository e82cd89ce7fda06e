"""docs/quickstart.ipynb runs from its first cell to its last."""

import json
import os

import pytest
from conftest import ROOT

NOTEBOOK = ROOT / "docs/quickstart.ipynb"


def outputs_of(cells) -> str:
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_the_stored_outputs_are_clean():
    """They are those of one run, in order, without errors, warnings and names of that machine."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert not any(output.get("name") == "stderr" or "/tmp/" in json.dumps(output) for output in outputs)


@pytest.mark.slow
@pytest.mark.needs("notebook")
def test_it_runs(monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setitem(os.environ, "OMP_WAIT_POLICY", "PASSIVE")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    text = outputs_of(notebook.cells)
    assert "[2, 64, 4, 14, 14] True" in text and "['README.md', 'config.json', 'model.safetensors']" in text
    assert text.count("->") == 2 and "glore_resnet_debug_3d 8 classes" in text
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
