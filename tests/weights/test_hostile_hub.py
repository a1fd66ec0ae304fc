"""A hub that misbehaves in the ways of benchmarks/hostile: all of them end, in one line."""

import huggingface_hub
import pytest
from huggingface_hub import constants

from benchmarks.hostile.server import serving
from uno_jax.support import http
from uno_jax.weights import hub

NAMES = (
    *("silent", "trickle_body", "endless_body", "endless_continue", "gzip_bomb", "redirect_loop"),
    *("redirect_to_file", "nested_json", "nan_json", "invalid_utf8", "error_without_end", "no_http"),
)


@pytest.fixture(scope="module")
def server():
    with serving(trickle=0.02) as server:
        yield server


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_of_the_hub_ends(server, name, tmp_path, monkeypatch):
    stalls = name in ("silent", "trickle_body", "endless_continue")
    monkeypatch.setattr(http, "STALLED", 0.15 if stalls else 20.0)
    monkeypatch.setattr(http, "MAX_API_REPLY", 1 << 18)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    snapshot = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: snapshot(*a, **k, endpoint=server.url(name))
    )
    http.limit_hub.cache_clear()
    huggingface_hub.close_session()
    with pytest.raises(FileNotFoundError, match="cannot be downloaded") as told:
        hub.hub_model.__wrapped__("someone/model")
    assert "\n" not in str(told.value)
    assert server.requests[-1][0].startswith(f"/{name}")
    huggingface_hub.close_session()
