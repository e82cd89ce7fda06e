"""Curves are placed where their numbers are, and short ones stay visible."""

from report.charts import HEIGHT, LEFT, MAX_POINTS, RIGHT, WIDTH, Curve, draw_chart
from report.curves import draw_curves


def test_a_single_point_has_a_marker():
    chart = draw_chart("loss", [Curve("validation", "c0", [(3.0, 0.5)])])
    (line,) = chart.lines
    (marker,) = line.markers
    assert marker.x == WIDTH - RIGHT and marker.text == "validation, epoch 3: 0.5"
    assert draw_chart("loss", [Curve("validation", "c0", [])]) is None


def test_points_and_ticks_share_a_scale():
    chart = draw_chart("top-1", [Curve("v", "c0", [(0, 0.0), (5, 0.5), (10, 1.0)])], is_share=True)
    assert [tick.text for tick in chart.y_ticks] == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
    by_text = {tick.text: tick.position for tick in (*chart.x_ticks, *chart.y_ticks)}
    first, middle, last = chart.lines[0].markers
    assert (first.x, first.y) == (LEFT, by_text["0 %"]) and (last.x, last.y) == (by_text["10"], by_text["100 %"])
    assert middle.x == (first.x + last.x) / 2


def test_long_curves_are_averaged_and_odd_numbers_are_placed():
    chart = draw_chart("loss", [Curve("t", "c0 thin", [(n / 7, float(n % 2)) for n in range(100_000)])])
    assert chart.lines[0].path.count("L") < MAX_POINTS and not chart.lines[0].markers
    for values in ([0.0], [-3.0, -3.0], [1e-30, 2e-30], [1e15, -1e15]):
        chart = draw_chart("x", [Curve("c", "c0", list(enumerate(values)))])
        assert all(0 <= marker.y <= HEIGHT for line in chart.lines for marker in line.markers)


def test_runs_are_overlaid_without_what_is_no_number():
    rows = [{"split": "train", "epoch": n, "loss": None if n else 0.5, "top1": True} for n in range(3)]
    charts = draw_curves({"A": rows, "B": rows})
    assert [chart.title for chart in charts] == ["loss"]
    assert [line.name for line in charts[0].lines] == ["A training", "B training"]
