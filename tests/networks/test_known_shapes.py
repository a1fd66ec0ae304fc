"""Shapes and axes that a start keeps for the next one."""

import json

import pytest

from tests.tiny_model import TINY
from uno_jax.networks import known_shapes, registry
from uno_jax.networks.registry import abstract_params


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """An empty cache directory, and what starts afresh with it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    registry._parameters.cache_clear()
    yield tmp_path / "uno_jax" / "shapes"
    registry._parameters.cache_clear()


def start(monkeypatch, traced):
    """The parameters as a new process finds them; appends to `traced` if it traces the network."""
    registry._parameters.cache_clear()
    traces = registry._init
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_init", lambda *args: traced.append(args) or traces(*args))
        return abstract_params(TINY.clip)


def test_the_second_start_traces_nothing(shapes, monkeypatch):
    traced = []
    first = start(monkeypatch, traced)
    assert len(traced) == 1 and len(list(shapes.iterdir())) == 1
    assert start(monkeypatch, traced) == first
    assert len(traced) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": [["x"], []]}', '{"a": [[2, 2]]}'])
def test_a_damaged_file_is_made_again(shapes, monkeypatch, content):
    traced = []
    first = start(monkeypatch, traced)
    (file,) = shapes.iterdir()
    whole = file.read_text()
    file.write_text(content)
    assert start(monkeypatch, traced) == first and len(traced) == 2
    assert file.read_text() == whole


def test_other_shapes_than_were_kept_are_not_believed(shapes, monkeypatch):
    traced = []
    first = start(monkeypatch, traced)
    (file,) = shapes.iterdir()
    whole = file.read_text()
    kept = json.loads(whole)
    next(iter(kept["parameters"].values()))[0][0] += 1
    file.write_text(json.dumps(kept))
    assert start(monkeypatch, traced) == first and len(traced) == 2
    assert file.read_text() == whole


def test_other_sources_and_configs_have_files_of_their_own(shapes, monkeypatch):
    traced = []
    start(monkeypatch, traced)
    monkeypatch.setattr(known_shapes, "_source", lambda: "another")
    start(monkeypatch, traced)
    abstract_params(TINY.t5)
    assert len(traced) == 2 and len(list(shapes.iterdir())) == 3


def test_a_cache_directory_that_cannot_be_written_is_done_without(shapes, monkeypatch):
    shapes.parent.write_text("a file in the way")
    assert start(monkeypatch, []) == start(monkeypatch, [])
