"""Hub names as sources, from a local server that speaks as much of the hub's protocol as is needed."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from safetensors.numpy import load_file

from tests.tools.convert_weights.golden import FLUX, GOLDEN
from tools.convert_weights import hub as hub_source
from uno_jax.weights.checkpoint import restore_network

pytestmark = pytest.mark.slow

COMMIT = "0" * 40
CONFIG = (GOLDEN / "config.json").read_bytes()
FILES = {
    "flux1-dev.safetensors": FLUX.read_bytes(),
    "config.json": CONFIG,
    "README.md": b"not wanted",
    "vae/diffusion_pytorch_model.safetensors": (GOLDEN / "ae.safetensors").read_bytes(),
    "vae/config.json": b'{"_class_name": "AutoencoderKL"}',
}


class Hub(BaseHTTPRequestHandler):
    """One repository, team/flux; asks are recorded."""

    asked: list[str] = []

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = self.path.split("?")[0]
        self.asked.append(path)
        name = path.split("/team/flux/resolve/", 1)[-1].split("/", 1)[-1]
        if path.startswith("/api/models/team/flux/tree"):
            sizes = {name: len(data) for name, data in FILES.items()}
            tree = [{"type": "file", "path": p, "size": n, "oid": COMMIT} for p, n in sizes.items()]
            self.reply(200, json.dumps(tree).encode(), with_body)
        elif path.startswith("/api/models/team/flux"):
            siblings = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "team/flux", "sha": COMMIT, "siblings": siblings}).encode()
            self.reply(200, body, with_body)
        elif "/team/flux/" in path and name in FILES:
            self.reply(200, FILES[name], with_body)
        else:
            code = "EntryNotFound" if "/team/flux/" in path else "RepoNotFound"
            self.reply(404, b"", with_body, {"X-Error-Code": code})

    def reply(self, status, body, with_body, more=()):
        self.send_response(status)
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        about = {"Content-Length": str(len(body)), "ETag": etag, "X-Repo-Commit": COMMIT, **dict(more)}
        for name, value in about.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def convert(hub, tmp_path):
    """Runs the command in a process of its own: the hub's address is read when its library is imported."""

    def convert(*arguments, **settings):
        environment = os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache")}
        environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", **settings}
        command = [sys.executable, "-m", "tools.convert_weights", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return convert


def test_a_file_of_a_repository(convert, tmp_path):
    config = ["--config", GOLDEN / "config.json"]
    source = "team/flux/flux1-dev.safetensors"
    done = convert("flux", "--src", source, "--dst", tmp_path / "model", *config)
    assert done.returncode == 0, done.stderr
    kernel = restore_network(tmp_path / "model" / "mmdit")[1]["img_in"]["kernel"]
    assert (kernel == load_file(FLUX)["img_in.weight"].T).all()
    assert (tmp_path / "cache" / "hub" / "models--team--flux").is_dir()


def test_a_repository_gives_only_what_the_network_needs(convert, tmp_path):
    Hub.asked.clear()
    done = convert("vae", "--src", "team/flux", "--dst", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    fetched = {path for path in Hub.asked if "/resolve/" in path}
    assert fetched and all("/vae/" in path for path in fetched)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("team/nothing", "neither a local path nor a repository on the hub"),
        ("team/flux/absent.safetensors", "has no file absent.safetensors"),
    ],
)
def test_what_the_hub_does_not_have(convert, tmp_path, source, message):
    done = convert("flux", "--src", source, "--dst", tmp_path / "model")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("source", ["team/flux", "team/flux/flux1-dev.safetensors"])
def test_a_hub_that_cannot_be_reached(convert, tmp_path, source):
    """Offline by setting: a refused connection is told alike, but the library retries it for 25 seconds."""
    done = convert("flux", "--src", source, "--dst", tmp_path / "model", HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and "the hub cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "model").exists()


def test_a_file_that_a_folder_here_lacks_is_not_looked_for_there(tmp_path, monkeypatch):
    (tmp_path / "team/flux").mkdir(parents=True)
    (tmp_path / "team/flux/params.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"the folder team/flux holds params\.safetensors"):
        hub_source.locate("team/flux/model.safetensors")


def test_the_home_of_nobody_is_a_path_like_others():
    assert hub_source.locate("~nobody_is_called_so/x").name == "x"


def test_an_encoders_torch_file_is_fetched_where_it_is_all_there_is(monkeypatch, tmp_path):
    def fetch(repo, name):
        (tmp_path / name).write_bytes(b"")

    monkeypatch.setattr(hub_source.huggingface_hub, "snapshot_download", lambda repo, **_: str(tmp_path))
    monkeypatch.setattr(hub_source.huggingface_hub, "hf_hub_download", fetch)
    assert hub_source.locate("team/dino") == tmp_path and not list(tmp_path.iterdir())
    assert hub_source.locate("team/dino", torch_too=True) == tmp_path
    assert [file.name for file in tmp_path.iterdir()] == ["pytorch_model.bin"]
