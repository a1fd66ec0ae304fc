"""The demo's own work: stopping a run and starting it again, and showing what the commands made."""

import json
import sys

import pytest
from PIL import Image

from uno_jax.apps import tour
from uno_jax.demo import main

# A run in the small: a step every 20 ms, from where its log ends, until SIGTERM.
STEPPER = """
import json, pathlib, signal, sys, time
log, stopped = pathlib.Path(sys.argv[1]), []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
number = len(log.read_text().splitlines()) if log.exists() else 0
while not stopped:
    number += 1
    with log.open("a") as file:
        file.write(json.dumps({"step": number}) + chr(10))
    time.sleep(0.02)
"""


@pytest.fixture
def log(tmp_path, monkeypatch):
    (tmp_path / "stepper.py").write_text(STEPPER)
    (tmp_path / "failing.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "metrics.jsonl"


def test_a_run_is_stopped_and_goes_on(log):
    first = tour.train_for(["stepper", str(log)], 0.1, log)
    second = tour.train_for(["stepper", str(log)], 0.1, log)
    assert 0 < first < second
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(1, second + 1))


def test_a_command_that_fails_ends_the_demo(log):
    with pytest.raises(SystemExit) as stop:
        tour.train_for(["failing"], 60.0, log)
    assert stop.value.code == 3


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--model", "nowhere", "no model directory nowhere"),
        ("--seconds", "0", "--seconds must be more than 0, got 0"),
        ("--seconds", "nan", "--seconds must be a finite number, got nan"),
    ],
)
def test_the_demo_says_what_is_wrong_before_it_starts(tmp_path, monkeypatch, capsys, option, value, message):
    monkeypatch.setattr(sys, "argv", ["demo", option, value, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_the_page_shows_every_prompt_with_its_pictures(tmp_path):
    for references, count in tour.COUNTS.items():
        place = tmp_path / "demo" / f"{references}_references"
        (place / "samples").mkdir(parents=True)
        entries = []
        for index in range(count):
            names = [f"{index}_ref{number}.png" for number in range(references)]
            for name in [f"samples/{index}_0.png", *names]:
                Image.new("RGB", (32, 32), "red").save(place / name)
            entry = {"prompt": f"{references} < & {index}", "image_paths": names, "image_tgt_path": names[0]}
            entries.append(entry)
        (place / "pairs.json").write_text(json.dumps(entries))
    tour.write_results(tmp_path, [["uno_jax.sample", "--out", "a b"]], [0, 40, 44])
    page = (tmp_path / "demo" / "index.html").read_text()
    sources = [part.split('"')[0] for part in page.split('<img src="')[1:]]
    sources += [part.split('"')[0] for part in page.split('<img class="result" src="')[1:]]
    assert len(sources) == 6 * 2 + 4 * 3
    assert all((tmp_path / "demo" / source).is_file() for source in sources)
    assert "2 &lt; &amp; 1" in page and "steps 1 to 40" in page and "step 44" in page
    assert "python -m uno_jax.sample --out &#39;a b&#39;" in page
    sheet = Image.open(tmp_path / "demo.png")
    assert sheet.width > 3 * 2 * 256 and sheet.height > (2 + 2) * 256
