"""The report: runs made here -> one page, looked at as text and, where there is one, in a real browser."""

import json
import re
import sys

import numpy as np
import pytest

from tests.browser import opened_browser
from tests.reporting.written_runs import (
    SUBJECTS,
    picture,
    write_dreambench,
    write_listed,
    write_toybox,
    write_training,
)
from uno_jax.report import main
from uno_jax.reporting.plots import smooth
from uno_jax.reporting.runs import read_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two evaluations of one suite, the second without a picture, and a training run."""
    folder = tmp_path_factory.mktemp("report")
    for number, subject in enumerate(SUBJECTS):
        picture(folder / "photos" / subject / "00.jpg", 9, number, size=(400, 300))
    write_dreambench(folder / "one/eval", folder / "photos", [0.3, 0.5, 0.7, 0.9, 0.4, 0.6])
    write_dreambench(folder / "two/eval", folder / "photos", [0.7, 0.5, 0.6, 0.8, 0.5, 0.3])
    (folder / "two/eval/2_0.png").unlink()
    (folder / "two/eval/3_0.png").write_bytes(b"\x89PNG no picture")
    write_training(folder / "train")
    for step in range(1, 9):
        picture(folder / f"train/samples/step_{100 * step:06}.png", step, size=(1200, 300))
    return folder


@pytest.fixture(scope="module")
def page(folder):
    out = folder / "out/report.html"
    main([str(folder / "one/eval"), str(folder / "two/eval"), str(folder / "train"), "--out", str(out)])
    return out


def told(capsys, *argv):
    """What the command says when it refuses."""
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in argv])
    assert stop.value.code == 2
    return capsys.readouterr().err


def text_of(html):
    """The page's words, without its pictures, scripts and tags."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", bare))


def test_the_page_needs_no_other_file(page):
    html = page.read_text()
    links = re.findall(r"""(?:src|href)=["']([^"']*)|url\(([^)]*)\)""", html)
    assert links and all(link.startswith("data:") for found in links for link in found if link)
    assert "http:" not in html and "https:" not in html


def test_scores_stand_beside_the_papers(page):
    text = text_of(page.read_text())
    # 0.5667 is the mean of the subjects' means 0.4, 0.8 and 0.5.
    assert re.search(r"DINO (0\.567 \(-0\.193\) 0\.\d{3} to 0\.\d{3} ){2}0\.760 0\.730", text)
    assert "one/eval has 6 prompts, the paper 750" in text
    assert re.search(r"border copied 16\.7 %", text)
    assert "differ in: nothing that is recorded" in text


def test_two_subjects_have_the_papers_other_figures(folder, tmp_path):
    run = write_dreambench(tmp_path / "pairs", folder / "photos", [0.3, 0.5, 0.7, 0.9, 0.4, 0.6], pairs=True)
    main([str(run), "--out", str(tmp_path / "page.html")])
    text = text_of((tmp_path / "page.html").read_text())
    assert re.search(r"DINO 0\.567 \(\+0\.025\) 0\.\d{3} to 0\.\d{3} 0\.542", text) and "0.760" not in text
    assert "cat + can" in text and "missing or damaged" not in text


def test_pictures_are_small_and_stored_once(page, capsys):
    pictures = json.loads(re.search(r'id="pictures">(.*?)</script>', page.read_text())[1])
    # Six of the first run, which the second has too (two of its own are gone), three references, and six
    # sheets of the training.
    assert len(pictures) == len(set(pictures)) == 15
    assert all(uri.startswith("data:image/webp;base64,") for uri in pictures)


def test_what_a_training_drew_is_shown_from_first_to_last(page):
    shown = re.findall(r'data-picture="\d+" alt="[^"]*train, step (\d+)"', page.read_text())
    assert shown == ["100", "200", "400", "500", "700", "800"]


def test_missing_pictures_are_shown_and_counted(page):
    html = page.read_text()
    assert html.count('<div class="missing">missing</div>') == 2
    assert "2 pictures are missing or damaged." in html


def test_missing_pictures_are_told(folder, tmp_path, capsys):
    main([str(folder / "two/eval"), "--out", str(tmp_path / "page.html")])
    shown = capsys.readouterr()
    assert "2 missing" in shown.out and "2_0.png" in shown.err and "3_0.png" in shown.err


def test_prompts_are_told_literally(page):
    assert "a cat in the &lt;snow&gt; &amp; rain" in page.read_text()


def test_a_run_without_a_list_has_no_references(folder, tmp_path):
    run = write_dreambench(tmp_path / "alone", folder / "photos", [0.3, 0.5])
    (run / "prompts.json").unlink()
    (entry, _) = read_runs([run])[0].evaluation.entries.values()
    assert entry.references == []


def test_a_list_that_was_moved_is_looked_up_in_data(folder, tmp_path):
    (run,) = read_runs([folder / "one/eval"], tmp_path)
    assert next(iter(run.evaluation.entries.values())).references == [tmp_path / "cat/00.jpg"]


def test_toybox_runs(tmp_path):
    runs = [write_toybox(tmp_path / "a", 2), write_toybox(tmp_path / "b", 3)]
    main([*map(str, runs), "--out", str(tmp_path / "page.html")])
    html = (tmp_path / "page.html").read_text()
    text = text_of(html)
    assert "scene recognised 25.0 % 25.0 %" in text and "0.760" not in text
    assert html.count('class="card"') == 6 and text.count("not in this run") == 2
    assert "cosine by subject" in text and "not recognised" in text
    assert "missing or damaged" not in text


def test_toybox_runs_of_different_kinds(tmp_path):
    runs = [
        write_toybox(tmp_path / "a", 2),
        write_toybox(tmp_path / "b", 2, (("two", 2), ("three", 3), ("placed", 1))),
    ]
    main([*map(str, runs), "--out", str(tmp_path / "page.html")])
    text = text_of((tmp_path / "page.html").read_text())
    heads = ("One subject", "Two subjects", "Three subjects", "One subject on the left or on the right")
    assert all(head in text for head in heads) and "Four subjects" not in text
    assert "on the side asked for 75.0 %" in text and "on the wrong side" in text
    assert "missing or damaged" not in text


def test_lists_are_shown_by_kind_with_what_a_judge_says(folder, tmp_path, capsys):
    runs = [
        write_listed(tmp_path / name, folder / "photos", score)
        for name, score in (("a", (8, 2, 5)), ("b", ()))
    ]
    main([*map(str, runs), "--out", str(tmp_path / "page.html")])
    text = text_of((tmp_path / "page.html").read_text())
    assert "DINO a 704x704 judge: overall a 704x704 DINO b 704x704" in text
    assert "scene_object 2 2 0.650 3.500 0.650" in text
    assert re.search(r"mean of kinds 3 3 0\.575 0\.\d{3} to 0\.\d{3} 5\.750 0\.575", text)
    assert "0.760" not in text and "by subject" not in text and "judge: overall 8.000" in text
    stale = json.loads((runs[0] / "judge.json").read_text())
    stale["rows"][0]["prompt"] = "another"
    (runs[0] / "judge.json").write_text(json.dumps(stale))
    assert "judges other pictures than scores.json has: run uno-judge again" in told(capsys, runs[0])


def test_every_table_of_scores_names_the_resolution(folder, tmp_path):
    run = write_dreambench(tmp_path / "old", folder / "photos", [0.3, 0.5])
    text = shown_page(run, tmp_path)
    assert "old resolution unknown paper, final resolution not stated" in text
    record = json.loads((run / "scores.json").read_text())
    for more, size in (({"width": 512, "height": 704}, "512x704"), ({"resolution": "48x40"}, "48x40")):
        (run / "scores.json").write_text(json.dumps(record | more))
        text = shown_page(run, tmp_path)
        assert f"old {size} paper" in text and text.count(f"DINO {size}") == 2  # by kind and by subject


def shown_page(run, folder):
    main([str(run), "--out", str(folder / "page.html")])
    return text_of((folder / "page.html").read_text())


def test_a_log_may_end_in_half_a_line(tmp_path):
    run = write_training(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 610, "lo')
    (read,) = read_runs([run])
    assert read.training.last_step == 600 and "incomplete" in read.training.note
    assert np.isnan(read.training.metrics["loss"].values[4]) and "records" not in read.training.metrics


@pytest.mark.parametrize("name", ["a$b", "$x^$", "$\\\\frac{", "<b>&", "\udcff", "\x01"], ids=ascii)
def test_runs_and_metrics_of_any_name_are_drawn(tmp_path, name):
    run = tmp_path / f"run {name}"
    run.mkdir()
    lines = [{"step": step, "loss": 1e308 * 10**step, f"m {name}": -1.7e308} for step in (1, 2, 3)]
    lines.append({"step": 4, "loss": 1.0, f"m {name}": 0.5})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    main([str(run), "--out", str(tmp_path / "report.html")])
    assert 'alt="loss"' in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_log_of_another_encoding_is_told_or_read(tmp_path):
    run = write_training(tmp_path / "run", 3)
    log = run / "metrics.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"x"', b'"\xe9"'))
    assert read_runs([run])[0].training.last_step == 30


def test_metrics_that_stay_zero_are_not_plotted(page):
    html = page.read_text()
    assert 'alt="loss"' in html and 'alt="skipped steps"' in html and 'alt="records left out"' not in html


def test_a_running_mean_passes_over_what_is_not_known():
    values = np.array([1.0, 3.0, np.nan, 5.0, 7.0])
    np.testing.assert_allclose(smooth(values, 3), [2, 2, np.nan, 6, 6])


def test_runs_that_cannot_be_read(folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "no scores.json" in told(capsys, tmp_path / "empty")
    assert "no such directory" in told(capsys, tmp_path / "nowhere")
    assert "named twice" in told(capsys, folder / "one/eval", folder / "one/../one/eval")
    assert "at least one RUN" in told(capsys)
    (tmp_path / "empty/metrics.jsonl").write_text("")
    assert "no complete line" in told(capsys, tmp_path / "empty")
    (tmp_path / "empty/metrics.jsonl").write_text('{"step": 1, "loss"\n{"step": 2, "loss": 1}\n')
    assert "line 1" in told(capsys, tmp_path / "empty")


def test_scores_that_cannot_be_read(folder, tmp_path, capsys):
    record = json.loads((folder / "one/eval/scores.json").read_text())
    file = tmp_path / "scores.json"
    file.write_text(json.dumps(record)[:-40])
    assert "incomplete" in told(capsys, tmp_path)
    file.write_text("[]")
    assert "suite must be one of" in told(capsys, tmp_path)
    for broken in ({"rows": [{}]}, {"scores": {"dino": {"mean": "high"}}}, {"rows": None}):
        file.write_text(json.dumps(record | broken))
        assert "not as `uno-evaluate --suite dreambench-single` writes it" in told(capsys, tmp_path)
    toybox = json.loads((write_toybox(tmp_path / "toybox", 1) / "scores.json").read_text())
    del toybox["rows"]
    file.write_text(json.dumps(toybox))
    assert "not as `uno-evaluate --suite toybox` writes it" in told(capsys, tmp_path)


def test_suites_are_not_mixed(folder, tmp_path, capsys):
    toybox = write_toybox(tmp_path / "toybox", 1)
    pairs = write_dreambench(tmp_path / "pairs", folder / "photos", [0.3], pairs=True)
    message = told(capsys, folder / "one/eval", toybox)
    assert "eval is dreambench-single" in message and "toybox is toybox" in message
    assert "pairs is dreambench-multi with 2 subjects" in told(capsys, folder / "one/eval", pairs)


def test_without_matplotlib_the_extra_is_told(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "uno_jax[report]" in told(capsys, folder / "one/eval", "--out", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    with opened_browser(page.as_uri(), tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def choose(browser, **values):
    """Sets fields of the form the others to their first; returns the cards' names as shown."""
    return browser.execute_script(
        """
        const form = document.getElementById("controls");
        form.reset();
        for (const [name, value] of Object.entries(arguments[0])) form.elements[name].value = value;
        form.dispatchEvent(new Event("input"));
        return [...document.querySelectorAll(".card")].filter(card => card.offsetHeight)
          .map(card => card.querySelector("small").textContent.match(/(\\d)_0/)[1]).join("");
        """,
        values,
    )


def test_a_browser_shows_every_picture(browser):
    sizes = browser.execute_async_script(
        """
        const done = arguments[0], images = [...document.images];
        Promise.allSettled(images.map(image => image.decode()))
          .then(() => done(images.map(image => image.naturalWidth)));
        """
    )
    # 12 pictures less the two that are gone, 6 references, 3 plots by subject, and of the training 2 plots
    # and 6 sheets.
    assert len(sizes) == 27 and min(sizes) > 0
    assert browser.get_log("browser") == []


def test_a_browser_sorts(browser):
    assert choose(browser) == "325140"
    assert choose(browser, order="worst") == "041523"
    assert choose(browser, run="1") == "302145"
    assert choose(browser, run="spread")[:2] == "05"
    assert choose(browser, score="copied_border")[-1] == "3"  # copying is worse


def test_a_browser_filters(browser):
    assert choose(browser, subject="can") == "32"
    assert choose(browser, category="scene") == "240"
    assert choose(browser, text="RED dog") == "5"
    assert choose(browser, least="0.5", most="0.7") == "251"
    assert choose(browser, subject="can", text="cat") == ""
    assert browser.find_element("css selector", "output").text == "0 of 6"


def test_a_phone_needs_no_scrolling_sideways(browser):
    choose(browser)
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        width, scroll = browser.execute_script(
            "return [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
        )
        assert width == scroll == 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
