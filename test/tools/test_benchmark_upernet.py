"""UPerNet's head beside that of transformers, which the tests do without."""

import pytest

from settings import SettingsError
from tools.benchmark import main
from tools.benchmarks import upernet


def test_without_the_other_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(upernet, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="the package transformers, to compare with, is not installed: pip install"):
        main(["upernet"])


@pytest.mark.slow
def test_table(capsys, monkeypatch):
    monkeypatch.setattr(upernet, "find_spec", lambda name: True)
    monkeypatch.setattr(upernet, "KINDS", ("ours",))
    main(["upernet", "--size", "64", "--width", "8", "--channels", "16", "--repeats", "1"])
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert row[0] == "ours" and float(row[1]) > 0
