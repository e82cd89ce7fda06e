"""The script, and that training and evaluating make the page."""

import pytest
from made_run import make_run

from report import page
from settings import SettingsError
from tools import report, train


def test_one_run_and_two(tmp_path, capsys):
    runs = [make_run(tmp_path / name, ["x", "y"], 8) for name in "ab"]
    report.main([str(runs[0])])
    report.main([*map(str, runs), "-o", str(tmp_path / "pages/both.html"), "--evaluation", "1x1"])
    assert capsys.readouterr().out.split() == [str(tmp_path / "a/report.html"), str(tmp_path / "pages/both.html")]
    report.main([str(runs[0]), "-o", str(tmp_path / "pages/both.html")])  # replaces a page


@pytest.mark.parametrize("text", ["task: clip_classification\n", "\0ftyp"])
def test_only_pages_are_replaced(tmp_path, text):
    run = make_run(tmp_path / "a", ["x", "y"], 8)
    (run / "recipe.yaml").write_text(text)
    with pytest.raises(SettingsError, match=r"recipe\.yaml exists and is not an HTML page, .*; choose another file"):
        report.main([str(run), "-o", str(run / "recipe.yaml")])
    assert (run / "recipe.yaml").read_text() == text


def test_errors_are_one_sentence(start, tmp_path):
    done = start("tools/report.py", tmp_path / "nothing", check=False)
    assert done.returncode == 2 and "is not a run directory" in done.stderr and "Traceback" not in done.stderr


def test_a_run_ends_with_its_page(recipe, tmp_path):
    train.main(["-c", str(recipe), f"run.dir={tmp_path}/run", "train.num_epochs=1", "data.num_workers=0"])
    assert "glore_resnet_debug_3d" in (tmp_path / "run/report.html").read_text()


def test_a_page_that_fails_costs_no_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(page, "write_page", lambda folders: 1 / 0)
    page.try_to_write_page(tmp_path)
    assert "cannot make the page" in caplog.text and "division by zero" in caplog.text
