"""docs/models.md lists every model as models.py and the networks themselves have it."""

import pytest
from conftest import ROOT

from models import AUTHORS_NAMES, MODELS, RELEASED_FILES, list_models
from tools import model_zoo

PAGE = (ROOT / "docs/models.md").read_text()


def rows(page: str) -> dict[str, list[str]]:
    """Name -> cells of its row."""
    tables = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells for cells in tables}


def test_the_page_is_that_of_the_tables_in_models():
    listed = {name: round(float(cells[2]) * 1e9) for name, cells in rows(PAGE).items()}
    assert sorted(listed) == list_models()
    assert PAGE.splitlines() == "\n".join(model_zoo.lines(listed.get)).splitlines()


def test_names_and_files_belong_to_models():
    assert set(AUTHORS_NAMES.values()) | RELEASED_FILES.keys() <= MODELS.keys()
    assert "`pyg_eurnet_tiny_1k_300eps_last_epoch.pth`" in rows(PAGE)["eurnet_tiny"]


@pytest.mark.parametrize(
    "name", [name if "debug" in name else pytest.param(name, marks=pytest.mark.weekly) for name in list_models()]
)
def test_multiply_adds_are_those_of_the_network(name):
    assert rows(PAGE)[name][2] == model_zoo.in_billions(model_zoo.count_macs(name))


def test_it_is_written_where_asked_or_says_why_not(tmp_path, monkeypatch):
    monkeypatch.setattr(model_zoo, "count_macs", lambda name: 10**9)
    model_zoo.main(["-o", str(tmp_path / "models.md")])
    assert rows((tmp_path / "models.md").read_text())["eat_tiny"][2] == "1.00"
    with pytest.raises(model_zoo.SettingsError, match=r"cannot write .*none/models\.md: No such file"):
        model_zoo.main(["-o", str(tmp_path / "none/models.md")])
