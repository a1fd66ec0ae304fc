"""Questions to endpoints that misbehave, and to a model of transformers: answers, failures and errors."""

import json
import re
import socket
from functools import partial

import pytest
from transformers import LlamaForCausalLM

from tests.tools.language_models.openai_server import Reply, in_turn, said, serving
from tests.tools.language_models.tiny_language import byte_tokenizer, tiny_llama
from tools.common.errors import ToolError
from tools.common.manifest import Failed
from tools.language_models.config import ModelConfig
from tools.language_models.conversation import Message
from tools.language_models.endpoint import IN_A_ROW
from tools.language_models.load import load_model
from tools.language_models.questions import Answer, Malformed, Question, ask, parse_answer


class Names(Answer):
    names: list[str]
    count: int


GOOD = '{"names": ["owl"], "count": 1}'
READ = partial(parse_answer, answer=Names)
HELLO = Question((Message("user", "names?"),), READ)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def endpoint(url: str, **changes) -> ModelConfig:
    return ModelConfig(model="scripted", endpoint=url, **{"retries": 1, **changes})


def asked(config: ModelConfig, count: int = 1) -> list:
    return ask(load_model(config, "cpu", "llm"), [HELLO] * count, config.attempts)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n {GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```\n",
        f"<think>Perhaps {{an owl}}?</think>\n\n{GOOD}",
        f"Perhaps {{an owl}}?\n</think>```json\n{GOOD}\n```",
    ],
)
def test_json_is_read_alone_or_in_a_fence(text):
    assert parse_answer(text, Names) == Names(names=["owl"], count=1)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "EOF"),
        ("owl", "Invalid JSON"),
        (f"Here you are: {GOOD}", "Invalid JSON"),
        (f"{GOOD} Enjoy!", "Invalid JSON"),
        (GOOD[:-5], r"EOF.*cut off by max_tokens\?"),
        ('{"names": "owl", "count": 1}', "names .*valid array"),
        ('{"names": [3], "count": 1}', r"names\[0\] .*string"),
        ('{"names": [], "count": 1.5}', "count .*integer"),
        ('{"names": [], "count": "1"}', "count .*integer"),
        ('{"names": [], "count": true}', "count .*integer"),
        ('{"names": []}', "count Field required"),
        ('{"names": [], "count": 1, "note": ""}', "note Extra"),
        ('{"names": ["\\ud800"], "count": 1}', "hex escape"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_anything_else_is_malformed(text, message):
    with pytest.raises(Malformed, match=message):
        parse_answer(text, Names)


def test_a_malformed_answer_is_asked_for_again_with_what_was_wrong():
    with serving(in_turn("owls, I think", '{"names": []}', GOOD)) as server:
        assert asked(endpoint(server.url)) == [Names(names=["owl"], count=1)]
    assert [len(request["messages"]) for request in server.requests] == [1, 3, 5]
    conversation = server.requests[-1]["messages"]
    assert [message["role"] for message in conversation] == ["user", "assistant", "user", "assistant", "user"]
    assert said(conversation[1]) == "owls, I think"
    assert "count Field required" in said(conversation[4])


def test_attempts_end_and_the_failure_shows_the_answer():
    with serving(in_turn("owls, " * 100)) as server:
        (result,) = asked(endpoint(server.url, attempts=2))
    assert len(server.requests) == 2
    assert isinstance(result, Failed)
    assert "no usable answer: Invalid JSON" in result.reason and "it begins 'owls, owls" in result.reason
    assert len(result.reason) < 400


def test_one_bad_answer_does_not_touch_the_others():
    def by_name(request):
        return "?" if said(request["messages"][0]) == "bad" else GOOD

    questions = [Question((Message("user", text),), READ) for text in ("a", "bad", "b")]
    with serving(by_name) as server:
        config = endpoint(server.url, attempts=2)
        results = ask(load_model(config, "cpu", "llm"), questions, 2)
    assert [isinstance(result, Failed) for result in results] == [False, True, False]
    assert len(server.requests) == 4


def test_arguments_that_a_model_does_not_take_are_left_out_for_good(capsys):
    """As OpenAI's reasoning models refuse them."""

    def reasoning(request):
        for name, code in (("max_tokens", "unsupported_parameter"), ("temperature", "unsupported_value")):
            if name in request:
                error = {"message": f"Unsupported: {name!r}", "param": name, "code": code}
                return Reply(status=400, body=json.dumps({"error": error}))
        return GOOD

    with serving(reasoning) as server:
        results = asked(endpoint(server.url, parallel=1, max_tokens=77), 3)
    assert results == [Names(names=["owl"], count=1)] * 3 and len(server.requests) == 5
    last = server.requests[-1]
    assert last["max_completion_tokens"] == 77 and not {"max_tokens", "temperature"} & set(last)
    assert capsys.readouterr().out.count("does not accept") == 2


def test_answers_keep_the_order_of_questions_asked_in_parallel():
    def echo(request):
        return json.dumps({"names": [said(request["messages"][0])], "count": 1})

    questions = [Question((Message("user", str(number)),), READ) for number in range(20)]
    with serving(echo) as server:
        results = ask(load_model(endpoint(server.url, parallel=5), "cpu", "llm"), questions, 1)
    assert [result.names for result in results] == [[str(number)] for number in range(20)]


def test_settings_reach_the_endpoint():
    with serving(in_turn(GOOD)) as server:
        asked(endpoint(server.url, temperature=0.25, max_tokens=77))
    (request,) = server.requests
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("scripted", 0.25, 77)


@pytest.mark.parametrize("status", [429, 500])
def test_a_passing_refusal_is_tried_again(status):
    with serving(in_turn(Reply(status=status), GOOD)) as server:
        assert asked(endpoint(server.url)) == [Names(names=["owl"], count=1)]
    assert len(server.requests) == 2


def test_a_dropped_connection_is_tried_again():
    with serving(in_turn(Reply(GOOD, drop=True), GOOD)) as server:
        assert asked(endpoint(server.url)) == [Names(names=["owl"], count=1)]


@pytest.mark.parametrize(
    "reply, reason",
    [
        (Reply(hang=True), "no answer within 0.2 s, 1 time"),
        (Reply(status=400), "the endpoint refused the request: .*status 400"),
        (Reply(status=500), "the endpoint refused the request: .*status 500"),
        (Reply(body="<html>Welcome</html>"), "does not follow the protocol"),
        (Reply(body="[]"), "does not follow the protocol"),
    ],
)
def test_a_request_without_an_answer_fails_alone_and_is_not_repeated(reply, reason):
    with serving(in_turn(reply)) as server:
        (result,) = asked(endpoint(server.url, timeout=0.2 if reply.hang else 20, retries=0))
    assert isinstance(result, Failed) and re.search(reason, result.reason), result
    assert len(server.requests) == 1


def test_an_endpoint_that_never_answers_stops_the_stage():
    with serving(in_turn(Reply(status=400))) as server:
        with pytest.raises(ToolError, match=r"did not answer 1\d requests in a row; the last: .*400"):
            asked(endpoint(server.url, parallel=2), count=200)
        assert len(server.requests) <= IN_A_ROW + 1  # the other thread's may be on its way


def test_failures_between_answers_do_not_stop_the_stage():
    replies = [Reply(status=400) if number % 8 else GOOD for number in range(40)]
    with serving(in_turn(*replies)) as server:
        results = asked(endpoint(server.url, parallel=1), count=40)
    assert sum(isinstance(result, Failed) for result in results) == 35


@pytest.mark.parametrize(
    "status, message",
    [
        (401, "rejects the key"),
        (403, "rejects the key"),
        (404, "was not found"),
        (429, "accepts no more requests"),
    ],
)
def test_an_endpoint_that_refuses_stops_the_stage(status, message):
    with serving(in_turn(Reply(status=status))) as server:
        with pytest.raises(
            ToolError, match=f"llm: scripted at {server.url}/ {message}.*same command continues"
        ):
            asked(endpoint(server.url, parallel=2, retries=0), count=50)
        assert len(server.requests) < 10


def test_the_key_comes_from_the_environment(monkeypatch):
    with serving(in_turn(GOOD), key="right") as server:
        monkeypatch.setenv("OPENAI_API_KEY", "wrong")
        with pytest.raises(ToolError, match="rejects the key"):
            asked(endpoint(server.url))
        monkeypatch.setenv("OPENAI_API_KEY", "right")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert asked(endpoint("")) == [Names(names=["owl"], count=1)]


def test_an_endpoint_that_is_down_stops_the_stage():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ToolError, match="cannot be reached: .*refused.*same command continues from here"):
        asked(endpoint(url, retries=0), count=50)


@pytest.mark.parametrize(
    "config, message",
    [
        (ModelConfig(), "llm.model is empty"),
        (ModelConfig(model="m"), "llm.endpoint is empty"),
        (ModelConfig(model="m", attempts=0), "llm.attempts must be 1 or more, got 0"),
        (ModelConfig(model="m", parallel=0), "llm.parallel must be 1"),
        (ModelConfig(model="m", max_tokens=0), "llm.max_tokens must be 1"),
        (ModelConfig(model="m", temperature=-1.0), "llm.temperature must be 0"),
        (ModelConfig(model="m", timeout=0.0), "llm.timeout must be more than 0"),
        (ModelConfig(model="m", endpoint="localhost:8000"), "llm.endpoint must be a URL .*localhost:8000"),
    ],
)
def test_settings_that_cannot_be_used_are_told_before_work(config, message):
    with pytest.raises(ToolError, match=message):
        load_model(config, "cpu", "llm")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A language model with random weights, saved as a user's would be."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = byte_tokenizer()
    config = tiny_llama(len(tokenizer), eos_token_id=tokenizer.eos_token_id, max_position_embeddings=512)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def local(folder, **changes) -> ModelConfig:
    return ModelConfig(**{"backend": "transformers", "model": str(folder), "max_tokens": 12, **changes})


def test_a_local_models_nonsense_is_asked_for_again_then_fails(llama):
    model = load_model(local(llama), "cpu", "llm")
    calls = []

    def counted(conversations):
        calls.append([len(conversation) for conversation in conversations])
        return model(conversations)

    results = ask(counted, [HELLO, HELLO], 3)
    assert calls == [[1, 1], [3, 3], [5, 5]]
    assert all(isinstance(result, Failed) and "no usable answer" in result.reason for result in results)


def test_a_local_model_says_the_same_again_when_started_again(llama):
    talk = (Message("user", "names?"),)
    first, second = (load_model(local(llama, temperature=1.0), "cpu", "llm")([talk]) for _ in range(2))
    assert first == second
    assert load_model(local(llama, temperature=1.0), "cpu", "llm")([(Message("user", "other?"),)]) != first


def test_padding_does_not_change_a_local_models_answer(llama):
    model = load_model(local(llama, temperature=0.0), "cpu", "llm")
    short, long = (Message("user", "a"),), (Message("user", "a much longer question"),)
    assert model([short, long]) == [*model([short]), *model([long])]


def test_a_conversation_longer_than_the_models_window_fails_alone(llama):
    model = load_model(local(llama), "cpu", "llm")
    long, short = (Message("user", "a" * 600),), (Message("user", "a"),)
    failed, answered = model([long, short])
    assert isinstance(failed, Failed) and "window of 512" in failed.reason
    assert isinstance(answered, str)


def test_a_local_model_that_cannot_be_used_is_told(llama, tmp_path):
    with pytest.raises(ToolError, match="llm.model .*cannot be loaded"):
        load_model(local(tmp_path / "none"), "cpu", "llm")
    with pytest.raises(ToolError, match="filter_vlm.model.model .*cannot be loaded"):
        load_model(local(llama), "cpu", "filter_vlm.model", vision=True)
    with pytest.raises(ToolError, match="device 'cuda:99'"):
        load_model(local(llama), "cuda:99", "llm")


def test_a_local_model_without_a_chat_template_is_told(tmp_path):
    tokenizer = byte_tokenizer(chat="")
    LlamaForCausalLM(tiny_llama(len(tokenizer))).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ToolError, match="no chat template: use an instruct model"):
        load_model(local(tmp_path), "cpu", "llm")
