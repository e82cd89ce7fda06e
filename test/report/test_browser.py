"""The pages in a browser: no request, no horizontal scrolling, and every control works with the keyboard."""

import pytest
from browser import chromium, open_page
from made_run import make_run, make_scene_run

from report.page import write_page

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]
LONG = "a_name_without_any_place_to_break_it_" * 4


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory, motion_videos):
    """The pages of a run with few classes, of one with many, of their comparison, and of detection and segmentation."""
    folder, videos = tmp_path_factory.mktemp("pages"), sorted(map(str, motion_videos.glob("val/*/*.mp4")))
    few = make_run(folder / "few", ["left", "right", LONG, "<b>"], 30, paths=[*videos, f"/gone/{LONG}"], skill=0.5)
    many = make_run(folder / "many", [f"{LONG} {n}" for n in range(400)], 800, paths=videos)
    scenes = {
        task: write_page([make_scene_run(folder / task, ["ground", LONG, "ring"], task)])
        for task in ("segmentation", "detection")
    }
    return scenes | {"few": write_page([few]), "many": write_page([many]), "both": write_page([few, many])}


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
@pytest.mark.parametrize("name", ["few", "many", "both", "segmentation", "detection"])
def test_no_request_and_no_horizontal_scrolling(browser, pages, name, width, scheme):
    with open_page(browser, pages[name], width, scheme) as (page, requests, messages):
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) > 380) == (scheme == "light")
        broken = "[...document.images].filter((image) => !image.naturalWidth).length"
        assert page.evaluate(broken) == 0
        assert [url for url in requests if not url.startswith("data:")] == [pages[name].as_uri()] and messages == []


def test_the_videos_play_until_they_are_paused(browser, pages):
    with open_page(browser, pages["few"]) as (page, _, _):
        place = "getComputedStyle(document.querySelector('.clip img')).transform"
        page.locator(".clip").first.scroll_into_view_if_needed()
        assert len({page.evaluate(place) for _ in range(8) if page.wait_for_timeout(150) is None}) > 2
        page.locator(".pause").first.focus()
        page.keyboard.press("Space")
        page.wait_for_timeout(50)
        assert len({page.evaluate(place) for _ in range(4) if page.wait_for_timeout(250) is None}) == 1


def test_the_heat_map_by_keyboard(browser, pages):
    with open_page(browser, pages["many"]) as (page, _, _):
        page.locator(".map").focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        assert f"{LONG} 2, predicted as {LONG} 1: " in page.locator(".map figcaption").inner_text()
        assert page.locator(".pick").input_value() == "2"
        assert "predicted as" in page.locator(".out").inner_text()


def test_the_first_stop_of_the_keyboard_skips_to_the_content(browser, pages):
    with open_page(browser, pages["few"]) as (page, _, _):
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
