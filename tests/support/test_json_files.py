"""Documents in JSON: what is read, and errors that name file, line, field and what was expected."""

import json
import os

import pytest

from uno_jax.support import json_files
from uno_jax.support.errors import FileKindError
from uno_jax.support.json_files import JsonError, check_fields, parse_json, read_json, read_object, shortened


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_text_is_read_in_every_encoding(tmp_path, encoding):
    value = {"name": "Zoë 😀", "values": [1, 2.5, None, True]}
    (tmp_path / "a.json").write_bytes(json.dumps(value, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1, column 1"),
        (b'{\n"a": 1,\n}', "line 3, column 1|line 2, column 7"),
        (b'{"a": 1}\n{"b": 2}', "line 2, column 1: more text after the end"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "the name 'c' twice"),
        (b"[" * 200_000, "nested more than 64 deep"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "nested more than 64 deep"),
        (b"\xff\xff", "byte 0 is not UTF-8"),
        (b"9" * 5000, "digits"),
        (b"\0\0\0\0", "line 1|column"),
    ],
    ids=range(9),
)
def test_other_text_is_refused_with_its_place(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(JsonError, match=f"a.json is not readable JSON: .*({reason})"):
        read_json(tmp_path / "a.json")


def test_deep_but_bounded_values_are_read():
    text = "[" * 60 + "]" * 60
    assert parse_json(text, "it") == json.loads(text)


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path / "pipe", "a named pipe"),
        ("/dev/zero", "a device"),
        (tmp_path, "a directory"),
    ):
        with pytest.raises(FileKindError, match=f"is {kind}, expected a file"):
            read_json(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")
    monkeypatch.setattr(json_files, "MAX_BYTES", 3)
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(JsonError, match="a.json is not a document of this program"):
        read_json(tmp_path / "a.json")


FIELDS = {"kind": str, "count": int, "config": dict[str, float], "sizes": list[int], "any": dict}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "must hold an object with kind, count, .* got \\[\\]"),
        ({"kind": ...}, "lacks kind"),
        ({"kind": []}, "kind must be str, got \\[\\]"),
        ({"count": True}, "count must be int, got True"),
        ({"count": 1.0}, "count must be int, got 1.0"),
        ({"config": {"a": "b"}}, "config.a must be float, got 'b'"),
        ({"config": {"a": 10**400}}, "config.a must be float"),
        ({"sizes": [1, None]}, "sizes\\[1\\] must be int, got None"),
        ({"any": [1]}, "any must be dict"),
    ],
    ids=str,
)
def test_fields_have_the_types_that_are_asked(tmp_path, change, message):
    good = {"kind": "vae", "count": 1, "config": {"a": 1.5}, "sizes": [1], "any": {"more": 1}, "other": None}
    changed = [] if change is None else {k: v for k, v in (good | change).items() if v is not ...}
    (tmp_path / "a.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=f"a.json:? {message}"):
        read_object(tmp_path / "a.json", FIELDS)
    assert check_fields(good, FIELDS, "it") == good


def test_values_are_shown_short_and_printable():
    assert shortened({"a": "\ud83d"}) == '{"a": "\\ud83d"}' and len(shortened("x" * 100)) == 61
