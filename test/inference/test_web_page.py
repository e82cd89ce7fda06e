"""The web page: labels for a video, a reason for a broken file, and no request to any other machine."""

import contextlib
import socket
import sys
from urllib.parse import urlsplit

import pytest
from browser import find_chromium

from inference import Predictor
from inference.web_page import build_page, serve
from settings import SettingsError
from tools import web_page


@pytest.fixture(scope="module")
def predictor(brief_run):
    return Predictor(brief_run, ["data.num_workers=0"], device="cpu", top=3)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(predictor):
    page = build_page(predictor, top=3)
    try:
        yield serve(page, free_port(), block=False)
    finally:
        page.close()


@pytest.mark.slow
@pytest.mark.needs("gradio", "chromium")
def test_a_video_gets_labels_and_a_broken_file_its_reason(predictor, motion_videos, tmp_path):
    from playwright.sync_api import sync_playwright

    video = min(motion_videos.glob("val/*/*.mp4"))
    broken = tmp_path / "a_broken_*b*.mp4"
    broken.write_bytes(b"not a video")
    (expected,) = predictor([video])
    hosts = set()
    with served(predictor) as address, sync_playwright() as play:
        assert urlsplit(address).hostname == "127.0.0.1"
        browser = play.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for width, scheme in ((1440, "light"), (390, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
            page.goto(address)
            page.set_input_files("input[type=file]", video)
            page.wait_for_selector("#frames img")
            shown = page.inner_text("body")
            assert all(name in shown for name, _ in expected.guesses) and "cannot be classified" not in shown
            assert page.evaluate("document.documentElement.scrollWidth") == width
            page.get_by_label("Remove").or_(page.get_by_label("Clear")).first.click()
            page.set_input_files("input[type=file]", broken)
            page.wait_for_selector("#message strong")
            text = page.inner_text("#message")
            assert text.startswith("a_broken_b.mp4 cannot be classified: cannot be opened as a video")
            assert page.locator("#frames img").count() == 0
        browser.close()
    assert hosts - {None, ""} == {"127.0.0.1"}  # data: and blob: have no host


@pytest.mark.slow
@pytest.mark.needs("gradio")
def test_a_port_in_use_is_named(predictor):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} cannot be used .*choose another with --port"):
            serve(build_page(predictor), port, block=False)
    with pytest.raises(SettingsError, match=r"got --port 70000; it must be from 1 to 65535"):
        web_page.main(["--port", "70000"])


def test_without_gradio_it_says_what_to_install(predictor, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SettingsError, match=r"the web page needs gradio: pip install '\.\[web\]'"):
        build_page(predictor)
