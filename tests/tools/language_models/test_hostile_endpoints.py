"""An endpoint that misbehaves in every way of benchmarks/hostile."""

import pytest

from benchmarks.hostile.server import BEHAVIOURS, serving
from tests.tools.language_models.openai_server import Reply, protocol
from tools.common.errors import ToolError
from tools.common.manifest import Failed
from tools.language_models import endpoint
from tools.language_models.config import ModelConfig
from tools.language_models.conversation import Message

# 206 is a success, and its body is a good one.
ANSWERED = {"good", "other_range", "redirect_to_other_host"}
GIVEN_UP = {"silent", "trickle_headers", "trickle_body", "endless_continue"}
TOO_LONG = {"endless_body", "endless_chunks", "endless_spaces", "error_without_end", "length_of_petabytes"}


@pytest.fixture(scope="module")
def server():
    with serving(protocol(Reply("hello")), trickle=0.02) as server:
        yield server


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_every_request_ends_and_is_told_in_a_line(server, monkeypatch, name):
    monkeypatch.setattr(endpoint, "MAX_REPLY", 1 << 18)
    timeout = 0.2 if name in GIVEN_UP else 20.0
    config = ModelConfig(model="m", endpoint=server.url(name, "v1"), timeout=timeout, retries=0)
    try:
        answer = endpoint.Endpoint(config, "llm").answer((Message("user", "hi"),))
    except ToolError as error:
        answer = error
    assert (answer == "hello") is (name in ANSWERED)
    assert "\n" not in str(answer)
    if name in GIVEN_UP:
        assert answer == Failed("no answer within 0.2 s, 1 time")
    if name in TOO_LONG:
        assert isinstance(answer, Failed) and "too long" in answer.reason


def test_a_key_is_not_sent_to_another_host(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    config = ModelConfig(model="m", endpoint=server.url("redirect_to_other_host", "v1"), retries=0)
    assert endpoint.Endpoint(config, "llm").answer((Message("user", "hi"),)) == "hello"
    (_, first), (path, second) = server.requests[-2:]
    assert first["authorization"] == "Bearer secret"
    assert path.startswith("/good/") and "authorization" not in second
