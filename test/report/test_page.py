"""What the pages say, and that they are whole, valid and safe whatever the files hold."""

import json
from html.parser import HTMLParser

import pytest
from made_run import make_run, make_scene_run, write_metrics

from report.page import PageError, try_to_write_page, write_page
from settings import SettingsError

NAMES = ["<script>alert('x')</script>", "caf\udce9 & co", 'quo"te', "$x_1$", "\x1b[31m", "\u732b"]
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Parses a page: `text` without scripts and styles, `tags` with their attributes. Every tag must be closed."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []
        self.text = " ".join(self.text.split())
        self.ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += " " * (tag in ("td", "th"))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open):
            self.text += data

    def scripts(self):
        return sum(tag == "script" for tag, _ in self.tags)


@pytest.fixture(scope="module")
def videos(motion_videos):
    return sorted(map(str, motion_videos.glob("val/*/*.mp4")))


def test_the_page_of_a_run(tmp_path, videos):
    run = make_run(tmp_path / "runs/demo/six", NAMES, 40, paths=[*videos, "/gone/<i>.mp4"])
    page = Page(write_page([run]))
    summary = json.loads((run / "evaluations/1x1/summary.json").read_text())
    assert f"{100 * summary['top1']:.2f} % of 39 videos classified correctly (top-1)" in page.text
    for text in ("demo/six", "1 clip x 1 crop per video", "97.50 % (39 of 40 videos read)", "95 % interval",
                 "1 of 40 videos could not be read", "no frame <b>at all</b>", "<script>alert('x')</script>",
                 "1 in evaluation", "1 in training", "task: clip_classification", "c0ffee"):  # fmt: skip
        assert text in page.text, text
    sections = ["curves", "confusion", "classes", "mistakes", "unreadable", "evaluations", "recipe", "environment"]
    assert [name for name in page.ids if name in sections] == sections
    assert len(page.ids) == len(set(page.ids)) and page.scripts() == 1
    targets = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert targets <= set(page.ids)
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert all(picture["src"].startswith("data:image/webp;base64,") and picture["alt"] for picture in pictures)
    assert 1 <= len(pictures) <= 12 and "no picture: No such file or directory" in page.text
    shown = [words for words in page.tags if words[0] == "svg"]
    assert len(shown) == 4 and all(words["aria-label"] for _, words in shown)


def test_400_classes_are_a_heat_map_and_tables(tmp_path):
    run = make_run(tmp_path / "run", [f"class <{n}>" for n in range(400)], 1200)
    path = write_page([run])
    page = Page(path)
    assert path.stat().st_size < 1_500_000 and page.scripts() == 2
    assert sum(tag == "option" for tag, _ in page.tags) == 400
    assert "20 of " in page.text and "Worst" in page.text and "Best" in page.text
    data = path.read_text().split('class="pairs">')[1].split("</script>")[0]
    data = json.loads(data)
    assert data["names"][7] == "class <7>" and sum(count for *_, count in data["pairs"]) == 1199


def test_several_classes_per_item(tmp_path):
    run = make_run(tmp_path / "run", ["a", "b", "c", "d; e"], 30, multi_label=True)
    page = Page(write_page([run]))
    assert "mean average precision on 29 videos" in page.text and "average precision" in page.text
    assert "confusion" not in page.ids and "classes" in page.ids


def test_a_segmentor_has_its_classes_confusions_and_pictures(tmp_path):
    page = Page(write_page([make_scene_run(tmp_path / "run", ["ground", "<disc>", "zone"], "segmentation")]))
    assert [name for name in page.ids if "-" not in name] == [
        "content", "curves", "confusion", "classes", "predictions", "unreadable", "evaluations", "recipe",
    ]  # fmt: skip
    for text in ("58.33 % mean IoU on 1 images", "class pixels IoU accuracy mostly taken for", "50.0 % 50.0 %",
                 "<disc> 32", "ground (50.00 %)", "ground 32", "percent of the pixels of the true class"):  # fmt: skip
        assert text in page.text, text
    cells = [words["title"] for tag, words in page.tags if tag == "td" and "title" in words]
    assert "<disc>, predicted as ground: 16 (50.0 %)" in cells
    assert page.text.count("zone") == 2  # in the matrix; it has no pixels, so it has no row below
    (picture,) = [words for tag, words in page.tags if tag == "img"]
    assert picture["src"].startswith("data:image/webp;base64,") and "beside what is known" in picture["alt"]
    assert "mean IoU over the epochs" in " ".join(words.get("aria-label", "") for _, words in page.tags)


@pytest.mark.parametrize("with_masks", [True, False])
def test_a_detector_has_its_classes_and_pictures(tmp_path, with_masks):
    names = ["disc", "ring", "star", "none"]
    page = Page(write_page([make_scene_run(tmp_path / "run", names, "detection", with_masks)]))
    assert "66.67 % average precision of boxes on 1 images" in page.text
    columns = "class objects detections box AP box AP50" + " mask AP mask AP50" * with_masks
    shares = (4 if with_masks else 2) * " {} %"
    for text in (
        columns + " ring 1 0",
        "ring 1 0" + shares.format(*4 * [0.0]),
        "disc 1 1" + shares.format(*4 * [100.0]),
    ):
        assert text in page.text, text
    assert "mostly taken for" not in page.text and "confusion" not in page.ids and "predictions" in page.ids
    assert page.text.count("none") == 0  # no object of it


def test_a_damaged_sheet_of_predictions(tmp_path):
    run = make_scene_run(tmp_path / "run", ["a", "b", "c"], "segmentation")
    (run / "evaluations/whole/predictions.png").write_bytes(b"no picture")
    assert "predictions.png cannot be read" in Page(write_page([run])).text


def test_scores_of_scenes_are_compared_as_percent(tmp_path):
    runs = [make_scene_run(tmp_path / name, ["a", "b", "c"], "segmentation") for name in "ab"]
    assert "mean iou 58.33 % 58.33 %" in Page(write_page(runs)).text


def test_a_task_that_is_no_classification(tmp_path):
    report = tmp_path / "run/evaluations/val"
    report.mkdir(parents=True)
    (report / "summary.json").write_text(json.dumps({"weights": "w", "mean_absolute_error": 0.25, "nan": None}))
    write_metrics(tmp_path / "run/metrics.jsonl", ("mean_absolute_error",))
    page = Page(write_page([tmp_path / "run"]))
    assert "0.25 mean absolute error" in page.text
    assert [name for name in page.ids if "-" not in name] == ["content", "curves", "numbers", "evaluations"]
    assert "mean absolute error over the epochs" in " ".join(words.get("aria-label", "") for _, words in page.tags)


def test_damaged_and_missing_files(tmp_path):
    run = make_run(tmp_path / "run", ["a", "b"], 4)
    for name in ("recipe.yaml", "environment.json", "evaluations/1x1/summary.json"):
        (run / name).write_text("{[")
    for name in ("metrics.jsonl", "evaluations/1x1/confusion.csv"):
        (run / name).unlink()
    assert "No evaluation yet" in Page(write_page([run])).text


@pytest.mark.parametrize("num_classes", [3, 8])
@pytest.mark.parametrize("name", ["confusion.csv", "per_class.csv", "predictions.csv", "summary.json"])
def test_files_that_are_cut_off(tmp_path, monkeypatch, num_classes, name):
    monkeypatch.setattr("evaluators.classification_report.MAX_MATRIX_CLASSES", 5)
    run = make_run(tmp_path / "run", [f"class {n}" for n in range(num_classes)], 40)
    path = run / "evaluations/1x1" / name
    whole = path.read_bytes()
    for end in range(0, len(whole), max(1, len(whole) // 6)):
        path.write_bytes(whole[:end])
        assert "run" in Page(write_page([run])).text


@pytest.mark.parametrize("text", ['{"a": 1}', "[1]", "1", "", '[{"folder": 1}]'])
def test_files_of_another_shape(tmp_path, text):
    run = make_run(tmp_path / "run", ["a", "b"], 4)
    for name in ("environment.json", "metrics.jsonl", "failures.jsonl"):
        (run / name).write_text(text)
    assert "clip classification" in Page(write_page([run])).text


def test_the_newest_evaluation_unless_another_is_named(tmp_path):
    make_run(tmp_path, ["a", "b"], 20)
    make_run(tmp_path, ["a", "b"], 20, evaluation="10x3", skill=9)
    newest, first = Page(write_page([tmp_path])).text, Page(write_page([tmp_path], evaluation="1x1")).text
    assert "10x3 (this page)" in newest and "1x1 (this page)" in first
    with pytest.raises(SettingsError, match=r"has no evaluation '3x1'; it has: 10x3, 1x1"):
        write_page([tmp_path], evaluation="3x1")


def test_what_cannot_be_written(tmp_path, caplog):
    run = make_run(tmp_path / "run", ["a", "b"], 4)
    (tmp_path / "file").touch()
    with pytest.raises(PageError, match=r"cannot write .*page\.html: .*name another file with --output"):
        write_page([run], tmp_path / "file/page.html")
    with pytest.raises(SettingsError, match=r"file is not a run directory: there is no such folder"):
        write_page([tmp_path / "file"])
    with pytest.raises(SettingsError, match=r"has none of recipe\.yaml"):
        write_page([tmp_path])
    try_to_write_page(tmp_path)
    assert "cannot make the page" in caplog.text
    assert [path.name for path in run.glob(".*")] == []


def test_a_comparison(tmp_path, videos):
    first = make_run(tmp_path / "a", NAMES, 60, paths=videos, skill=1)
    other = make_run(tmp_path / "b", NAMES, 60, paths=videos, skill=4, seed=1,
                     recipe="task: clip_classification\nmodel: {name: <x>}\n")  # fmt: skip
    page = Page(write_page([first, other]))
    assert (first / "comparison.html").exists()
    for text in ("2 runs compared", "Of 59 items, both are right on", "McNemar's exact test", "model.name", "<x>",
                 "The environments are the same", "A validation", "B validation"):  # fmt: skip
        assert text in page.text, text
    assert any(tag == "img" for tag, _ in page.tags)


def test_a_comparison_names_different_files_with_the_same_id(tmp_path):
    for folder, text in (("a", "1"), ("b", "2"), ("copy", "1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_text(text)
    paths = {"a": tmp_path / "a/x.png", "b": tmp_path / "b/x.png", "copy": tmp_path / "copy/x.png"}
    paths |= {"moved": "/gone/x.png", "other": "/gone/y.png"}
    runs = {name: make_run(tmp_path / f"run_{name}", ["a", "b"], 6, paths=[str(paths[name])]) for name in paths}
    for name in ("b", "copy", "moved", "other"):
        text = Page(write_page([runs["a"], runs[name]])).text
        assert (f"{paths['a']} and {paths[name]} are different files" in text) == (name in ("b", "other")), name


def test_runs_without_a_common_evaluation(tmp_path):
    first = make_run(tmp_path / "a", ["a", "b"], 10)
    other = make_run(tmp_path / "b", ["a", "b"], 12, evaluation="10x3")
    page = Page(write_page([first, other]))
    assert "no evaluation of the same name" in page.text and "2 items are in one of the two" in page.text
