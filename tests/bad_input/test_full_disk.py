"""A disk that fills up while a command writes: an error in a line, and nothing half-written."""

import resource
import signal

import pytest

from uno_jax.data.__main__ import main as data
from uno_jax.report import main as report
from uno_jax.toybox.__main__ import main as toybox


@pytest.fixture
def full_disk():
    """No file may grow beyond 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (report, ["finished", "--out", "new.html"]),
        (data, ["pack", "pairs.json", "--out", "new"]),
        (toybox, ["--out", "new", "--count", "1"]),
    ],
)
def test_a_full_disk_is_told(main, arguments, given, tmp_path, monkeypatch, capsys, full_disk):
    monkeypatch.chdir(tmp_path)
    for name in ("finished", "pairs.json", "a.png"):
        (tmp_path / name).symlink_to(given / name)
    full_disk()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "error: [Errno 27] File too large" in told and "Traceback" not in told
    left = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in left if path.name in ("new.html", "records.json", "pairs.json")]
