"""The page in a browser: upload, draw, look, cancel, a bad file; and what the server refuses."""

import json
import urllib.error
import urllib.request

import pytest

from tests.browser import opened_browser
from tests.lists import write_picture
from tests.tiny_model import write_model

pytest.importorskip("gradio", reason="needs gradio: pip install '.[web]'")
WAIT = 90  # seconds for what compiles


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    from uno_jax.web.__main__ import WebArgs, serve
    from uno_jax.web.studio import Studio

    folder = tmp_path_factory.mktemp("web")
    write_model(folder / "model")
    (folder / "out").mkdir()
    write_picture(folder / "upload.png", 1)
    (folder / "page.png").write_text("<html>")
    (folder / "secret.txt").write_text("secret")
    args = WebArgs(model=str(folder / "model"), port=0, steps=2, max_upload=1)
    page, address = serve(Studio(args, folder / "out"), args)
    yield folder, address
    page.close()


@pytest.fixture(scope="module")
def browser(served, tmp_path_factory):
    with opened_browser(served[1], tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def wait_for(browser, selector, text=""):
    from selenium.webdriver.support.ui import WebDriverWait

    def found(_):
        shown = browser.find_elements("css selector", selector)
        return next((each for each in shown if text in each.text), None)

    return WebDriverWait(browser, WAIT).until(found)


def fill(browser, selector, text):
    field = wait_for(browser, selector)
    field.clear()
    field.send_keys(f"{text}\t")  # a slider takes its number when it is left


def test_a_picture_is_drawn_and_shown(browser, served):
    folder, _ = served
    fill(browser, "#prompt textarea", "a cup")
    browser.find_element("css selector", "#refs input[type=file]").send_keys(str(folder / "upload.png"))
    wait_for(browser, "#seen img")
    wait_for(browser, "#draw").click()
    wait_for(browser, "#status", "1 picture, in out/ from 00000.png")
    sizes = browser.execute_script("return [...document.querySelectorAll('#pictures img')].map(i => i.src)")
    assert len(sizes) >= 1
    assert json.loads((folder / "out/00000.json").read_text())["steps"] == 2
    wait_for(browser, "#history img")


def test_a_drawing_can_be_cancelled(browser, served):
    fill(browser, "#steps input[type=number]", 100)
    fill(browser, "#width input[type=number]", 512)
    fill(browser, "#height input[type=number]", 512)
    wait_for(browser, "#draw").click()
    wait_for(browser, "#status", "drawing")
    wait_for(browser, "#cancel").click()
    wait_for(browser, ".toast-body", "It ends after this step.")
    wait_for(browser, "#status", "Cancelled.")
    assert not (served[0] / "out/00001.png").exists()


def test_a_bad_file_is_told(browser, served):
    browser.find_element("css selector", "#refs button[aria-label='Clear']").click()
    browser.find_element("css selector", "#refs input[type=file]").send_keys(str(served[0] / "page.png"))
    wait_for(browser, ".toast-body", "page.png")


def test_a_phone_needs_no_scrolling_sideways_and_the_console_is_quiet(browser):
    browser.set_window_size(400, 900)
    width = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1]
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def status_of(request):
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("path", ["secret.txt", "model/mmdit/config.json", "out/../secret.txt"])
def test_files_elsewhere_are_refused(served, path):
    folder, address = served
    assert status_of(f"{address}gradio_api/file={folder}/{path}") in (403, 404)


@pytest.mark.parametrize("header", [{"Origin": "https://elsewhere.example"}, {"Host": "elsewhere.example"}])
def test_other_pages_and_names_are_refused(served, header):
    assert status_of(urllib.request.Request(served[1])) == 200
    assert status_of(urllib.request.Request(served[1], headers=header)) == 403


def test_large_uploads_are_refused(served):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body += b"0" * 1_500_000 + b"\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert status_of(urllib.request.Request(f"{served[1]}gradio_api/upload", body, kind)) == 413
