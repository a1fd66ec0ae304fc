"""Names of the hub's repositories as --model and --lora, answered by a cache that the test makes."""

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from tests.tiny_model import RANK, TINY, make_lora, write_model
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.lora import LoraInfo
from uno_jax.weights import hub
from uno_jax.weights.load import load_model
from uno_jax.weights.lora_files import save_tensors
from uno_jax.weights.names import find_lora, find_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def snapshot(cache: Path, repo: str) -> Path:
    """The folder of a repository in a cache of huggingface_hub's layout."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    place = folder / "snapshots" / COMMIT
    place.mkdir(parents=True)
    return place


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with a model whose weights are links to blobs, as the hub's are, and with LoRAs."""
    cache = tmp_path_factory.mktemp("hub")
    written = write_model(tmp_path_factory.mktemp("written"))
    model = snapshot(cache, "someone/model")
    blobs = model.parents[1] / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(path for path in written.rglob("*") if path.is_file())):
        (blobs / str(number)).write_bytes(file.read_bytes())
        link = model / file.relative_to(written)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blobs / str(number))
    for repo, name in (("someone/uno", "dit_lora"), ("someone/other", "sub/styles")):
        file = snapshot(cache, repo) / f"{name}.safetensors"
        file.parent.mkdir(exist_ok=True)
        save_tensors(file, LoraInfo(TINY.mmdit, RANK, UnoPE()), make_lora())
    (snapshot(cache, "someone/diffusers") / "transformer").mkdir()
    return cache


@pytest.fixture(autouse=True)
def offline(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    hub.hub_model.cache_clear()
    hub.hub_lora.cache_clear()


def test_a_model_and_a_lora_come_from_the_cache(cache):
    model = load_model("someone/model", lora="someone/uno")
    assert model.config == TINY and model.unope == UnoPE()
    assert find_model("someone/model").is_relative_to(cache)
    assert find_lora("someone/other:sub/styles.safetensors", Path()).name == "styles.safetensors"


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda: find_model("someone/none"), "someone/none is no local path, not in the hub's local cache"),
        (
            lambda: find_model("someone/diffusers"),
            "uno-convert flux --src someone/diffusers --dst weights/diff",
        ),
        (lambda: find_lora("someone/none", Path()), "someone/none is no local path"),
        (lambda: find_lora("someone/other", Path()), "name its file as someone/other:FILE"),
        (lambda: find_lora("someone/uno:a.safetensors", Path()), "holds no a.safetensors: check the name"),
    ],
)
def test_what_the_cache_lacks_is_told_in_a_line(find, message):
    with pytest.raises(FileNotFoundError, match=message) as told:
        find()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.GatedRepoError, "needs consent"),
        (errors.RepositoryNotFoundError, "neither a local path nor a repository on the hub"),
        (OSError, r"cannot be downloaded \(no route\)"),
    ],
)
def test_what_the_hub_answers_is_told(error, message, monkeypatch):
    def refuse(*_, **__):
        answer = error.__new__(error)
        Exception.__init__(answer, "no route\nmore")
        raise answer

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(FileNotFoundError, match=message):
        find_model("someone/gated")


def test_only_a_models_own_files_are_asked_for(cache, monkeypatch):
    asked = []

    def download(repo, allow_patterns):
        asked.append(allow_patterns)
        return cache / "models--someone--model" / "snapshots" / COMMIT

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_model("someone/model") == find_model("someone/model")
    assert asked == [["*/config.json"], ["mmdit/*", "vae/*", "t5/*", "clip/*", "lora/*"]]


@pytest.mark.parametrize(
    "name", ["model", "./a/model", "/a/model", "~/model", "a/b/c", "here/model", "loras/dog.safetensors"]
)
def test_local_names_never_ask_the_hub(name, monkeypatch):
    Path("here").mkdir()
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the hub was asked")
    )
    with pytest.raises(FileNotFoundError, match="no model directory"):
        find_model(name)
    assert find_lora(name, Path()) == Path(name)
