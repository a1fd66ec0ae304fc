"""A local endpoint of OpenAI's protocol that answers by a script and misbehaves when the script says so.

with serving(in_turn(Reply(status=429), '{"subjects": ["owl"]}')) as server: ... server.url, server.requests
"""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

RETRY_AFTER_MS = "1"
FORM = re.compile(r"Answer with JSON alone: \{\"(\w+)\"")
HANGS = 60.0  # seconds, or until the server closes


class Reply(NamedTuple):
    text: str = ""
    """The model's answer."""
    status: int = 200
    body: str | None = None
    """Sent in place of the protocol's JSON."""
    hang: bool = False
    """Says nothing."""
    drop: bool = False
    """Closes the connection in the middle of the reply."""


Script = Callable[[dict[str, Any]], Reply | str]


class Server(NamedTuple):
    url: str
    requests: list[dict[str, Any]]
    """Bodies, in the order they came."""


def in_turn(*replies: Reply | str) -> Script:
    """One reply after another; the last for all that follow."""
    left, lock = list(replies), threading.Lock()

    def next_reply(request: dict[str, Any]) -> Reply | str:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return next_reply


@contextlib.contextmanager
def serving(script: Script, key: str = "") -> Iterator[Server]:
    """A server on a free port; with `key`, other keys are refused."""
    requests: list[dict[str, Any]] = []
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append(request)
            if key and self.headers["Authorization"] != f"Bearer {key}":
                self.send(Reply(status=401))
            elif not self.path.endswith("/v1/chat/completions"):
                self.send(Reply(status=404))
            else:
                reply = script(request)
                self.send(reply if isinstance(reply, Reply) else Reply(reply))

        def send(self, reply: Reply) -> None:
            if reply.hang:
                closing.wait(HANGS)
                return
            content = protocol(reply) if reply.body is None else reply.body.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json" if reply.body is None else "text/html")
            self.send_header("Content-Length", str(len(content)))
            if reply.status in (429, 500):
                self.send_header("retry-after-ms", RETRY_AFTER_MS)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if reply.drop else content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}/v1", requests)
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def protocol(reply: Reply) -> bytes:
    if reply.status != 200:
        return json.dumps({"error": {"message": f"status {reply.status}", "type": "test"}}).encode()
    message = {"role": "assistant", "content": reply.text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice]}
    return json.dumps(whole).encode()


def obliging(request: dict[str, Any], **instead: str) -> str:
    """A good answer to every prompt of the pipeline, from the prompt's own words; `instead` of some, by the
    first field of their form: subjects, scenes, subject (the judge's first round), differences, scores.
    """
    messages = request["messages"]
    prompt = next(said(message) for message in reversed(messages) if FORM.search(said(message)))
    form = FORM.search(prompt)[1]
    if form in instead:
        return instead[form]
    if form == "subjects":
        count, category = re.search(r"List (\d+) .*? kind of \"(.*?)\"", prompt).groups()
        return json.dumps({form: [f"{category} with {number} stripes" for number in range(int(count))]})
    if form == "scenes":
        count = int(re.search(r"Think of (\d+)", prompt)[1])
        ground = "on plain paper" if "plain backgrounds" in prompt else "in a meadow"
        return json.dumps({form: [f"{ground} at hour {number}" for number in range(count)]})
    if form == "subject":
        return json.dumps({form: "thing", "parts": ["body", "handle", '"HELLO"']})
    entry = {"difference": "none"} if form == "differences" else {"score": 4}
    return json.dumps({form: [{"part": part, **entry} for part in json.loads(said(messages[1]))["parts"]]})


def said(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else content[-1]["text"]
