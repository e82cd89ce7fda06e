"""docs/models.md lists every model as models.py and the networks themselves have it."""

import re

import pytest
from conftest import ROOT

from models import AUTHORS_NAMES, MODELS, RELEASED_FILES, list_models
from tools import model_zoo

PAGE = (ROOT / "docs/models.md").read_text()


def rows(page: str) -> dict[str, list[str]]:
    """Name -> cells of its row."""
    tables = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells for cells in tables}


def test_the_page_is_that_of_the_tables_in_models_and_of_the_recipes():
    listed = {name: round(float(cells[2]) * 1e9) for name, cells in rows(PAGE).items()}
    assert sorted(listed) == list_models()
    found = re.findall(r"^\| \[\w+\]\(\.\./(\S+)\) \|.*?\| ([\d.]+) M \|", PAGE, re.MULTILINE)
    counted = {recipe: round(float(millions) * 1e6) for recipe, millions in found}
    assert PAGE.splitlines() == [
        line
        for text in (*model_zoo.lines(listed.get), "", *model_zoo.dense_lines(counted.get))
        for line in (text.splitlines() or [""])
    ]


def test_what_a_recipe_says_to_expect():
    text = model_zoo.expected("configs/ade20k/hornet_base_gf_upernet.yaml")
    assert text.startswith("50.5 % mean IoU, 50.9 % with six scales") and text.endswith("which this is)")
    assert round(model_zoo.count_parameters("configs/coco/eurnet_tiny_mask_rcnn_1x.yaml"), -4) == 49_780_000


def test_names_and_files_belong_to_models():
    assert set(AUTHORS_NAMES.values()) | RELEASED_FILES.keys() <= MODELS.keys()
    for name, files in RELEASED_FILES.items():
        assert ", ".join(f"`{file}`" for file in files) == rows(PAGE)[name][5]


def test_files_that_recipes_name_are_listed():
    paths = [path for folder in ("imagenet", "coco", "ade20k") for path in (ROOT / "configs" / folder).glob("*.yaml")]
    text = "".join(path.read_text() for path in paths)
    named = re.findall(r"[\w-]+\.tar|td_eurnet_\w+\.pth|hornet_large_(?:7x7|gf)_in22k\.pth|\bglnet_\w+\.pth", text)
    assert len(set(named)) > 20 and set(named) <= {file for files in RELEASED_FILES.values() for file in files}


@pytest.mark.parametrize(
    "name", [name if "debug" in name else pytest.param(name, marks=pytest.mark.weekly) for name in list_models()]
)
def test_multiply_adds_are_those_of_the_network(name):
    assert rows(PAGE)[name][2] == model_zoo.in_billions(model_zoo.count_macs(name))


@pytest.mark.slow
def test_it_is_written_where_asked_or_says_why_not(tmp_path, monkeypatch):
    monkeypatch.setattr(model_zoo, "count_macs", lambda name: 10**9)
    model_zoo.main(["-o", str(tmp_path / "models.md")])
    assert rows((tmp_path / "models.md").read_text())["eat_tiny"][2] == "1.00"
    with pytest.raises(model_zoo.SettingsError, match=r"cannot write .*none/models\.md: No such file"):
        model_zoo.main(["-o", str(tmp_path / "none/models.md")])
