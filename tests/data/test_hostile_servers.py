"""Pictures and lists at a server that misbehaves in every way of benchmarks/hostile."""

import io
import json
import pickle
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmarks.hostile.server import BEHAVIOURS, serving
from uno_jax.data import http_files, remote_files
from uno_jax.data.check import check_records
from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.data.entries import DataError
from uno_jax.data.http_files import HttpFiles
from uno_jax.data.image_files import READ_ERRORS, exists, picture_size, read_bytes, read_picture
from uno_jax.data.list_files import read_entries
from uno_jax.data.records import parse_source
from uno_jax.support import http

LIST = json.dumps([{"prompt": "a clock"}] * 20).encode()
# What cannot be told from a good answer, or is one for the part that is read.
GOOD = {"good", "redirect_to_other_host"}
READ = {
    "pictures": GOOD,
    "sizes": GOOD | {"length_too_short"},
    "lists": GOOD | {"nan_json", "other_range"},
}
STALLING = ("silent", "trickle_headers", "trickle_body", "endless_continue")


@pytest.fixture(scope="module")
def picture():
    file = io.BytesIO()
    Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(picture):
    with serving(picture, trickle=0.02) as server:
        yield server


@pytest.fixture(scope="module")
def lists():
    with serving(LIST, trickle=0.02) as server:
        yield server


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(http_files, "MAX_DOWNLOAD", 1 << 20)


def be_impatient(monkeypatch):
    monkeypatch.setattr(HttpFiles, "seconds", 0.15)
    monkeypatch.setattr(http, "STALLED", 0.15)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_bad_url_is_a_bad_record(pictures, name, monkeypatch):
    if name in STALLING:
        be_impatient(monkeypatch)
    url = pictures.url(name, "x.png")
    for act, wanted, good in (
        (lambda: read_picture(url).size, (64, 64), READ["pictures"]),
        (lambda: picture_size(url), (64, 64), READ["sizes"]),
    ):
        if name in good:
            assert act() == wanted
            continue
        with pytest.raises(READ_ERRORS) as told:
            act()
        message = str(told.value)
        assert url in message and "\n" not in message and len(message) < 400
        assert str(pickle.loads(pickle.dumps(told.value))) == message  # as between the processes of a check


@pytest.mark.parametrize("name", sorted(BEHAVIOURS.keys() - {"endless_spaces"}))
def test_a_bad_list_is_told_in_a_line(lists, name, monkeypatch):
    if name in STALLING:
        be_impatient(monkeypatch)
    url = lists.url(name, "list.json")
    if name in READ["lists"]:
        assert list(read_entries(url))
        return
    with pytest.raises((OSError, DataError), match=name) as told:
        list(read_entries(url))
    assert url in str(told.value) and "\n" not in str(told.value)


def test_a_list_of_white_space_ends(lists, monkeypatch):
    monkeypatch.setattr("uno_jax.support.json_lists.CHUNK", 1 << 18)
    with pytest.raises(DataError, match="characters of white space"):
        list(read_entries(lists.url("endless_spaces", "list.json")))


def test_a_list_is_bounded_in_length(lists, monkeypatch):
    monkeypatch.setattr(remote_files, "MAX_LIST", 1 << 18)
    with pytest.raises(OSError, match="too long a list"):
        list(read_entries(lists.url("endless_spaces", "list.json")))


def test_parts_of_a_file_are_given_or_refused(pictures, picture, monkeypatch):
    for name in ("good", "other_range"):  # neither gives the part that was asked for
        with pytest.raises(OSError, match="does not give the part"):
            read_bytes(pictures.url(name, "00000.tar#512+20"))
    assert read_bytes(pictures.url("good", "00000.tar#0+20")) == picture[:20]
    assert exists(pictures.url("good", "x.png"))
    be_impatient(monkeypatch)
    assert not exists(pictures.url("silent", "x.png"))


def test_check_counts_bad_urls(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("uno_jax.data.check.ProcessPoolExecutor", InThisProcess)
    names = ["good", "status_403", "closes_in_body", "redirect_to_file"]
    urls = [pictures.url(name, "x.png") for name in names]
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"prompt": "a", "image_tgt_path": url} for url in urls]))
    report = check_records(parse_source(SourceConfig(str(path))), DataConfig(resolution=64))
    assert list(report.sizes) == [0] and sorted(report.bad) == [1, 2, 3]
    assert "403 Forbidden" in report.bad[1]


class InThisProcess:
    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def map(self, act, items, chunksize):
        return map(act, items)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket/x.png", r"s3fs.*pip install 'fsspec\[s3\]'"),
        ("gs://bucket/x.png", r"gcsfs.*pip install 'fsspec\[gs\]'"),
        ("foo://bucket/x.png", "Protocol not known: foo"),
        ("reference://x.png", "reference:// is not read"),
        ("zip://x.png", "cannot be read"),
        ("zip://x.png::memory://none.zip", "no such picture|cannot be read"),
        ("http://", "http://: "),
        ("http://127.0.0.1:1/x.png", "refused"),
        ("http://a b/x.png", "http://a b"),
        ("hf://x", "hf://x"),
    ],
)
def test_what_no_file_system_reads_is_told_with_what_to_install(url, message):
    with pytest.raises(READ_ERRORS, match=message) as told:
        read_bytes(url)
    assert str(told.value).startswith(url) and "\n" not in str(told.value)
    with pytest.raises(OSError, match="(?s).*"):
        list(read_entries(url))


def test_a_file_system_that_hangs_is_given_up():
    with pytest.raises(remote_files.RemoteError, match="memory://x: not read within 0 s"):
        remote_files.at("memory://x", lambda *_: time.sleep(5), seconds=0.05)


def test_a_zip_file_is_read_over_http(picture, tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.png", picture)
    with serving(archive.getvalue()) as server:
        assert read_picture(f"zip://x.png::{server.url('good', 'a.zip')}").size == (64, 64)
