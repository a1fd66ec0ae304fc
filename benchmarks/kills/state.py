"""What a run has left, as text by path, so that two runs can be compared byte for byte.

Left out is what says when it was made: times in Orbax's metadata and TensorBoard's events, rates in the logs;
and a trained LoRA's hash in what was drawn with it, which covers the names of the OCDBT store's files.
An OCDBT store, whose files have random names, is compared by its keys and values, TensorBoard's files by what
TensorBoard shows of them. The small model's training goes by the clock: its log must count on.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RATES = ("images_per_second", "mfu")
SIZES = ("params_bytes",)  # with the compressed times
LORA_ID = re.compile(rb'"lora_id": "[0-9a-f]{64}"')
TIMES = ("init_timestamp_nsecs", "commit_timestamp_nsecs")


def state_of(root: Path) -> dict[str, str]:
    """Every file below a folder and every empty folder."""
    return dict(_found(root, root))


def _found(root: Path, folder: Path) -> Iterator[tuple[str, str]]:
    paths = sorted(folder.iterdir())
    name = str(folder.relative_to(root))
    if not paths:
        yield f"{name}/", "empty"
    stored = {path.name for path in paths} >= {"manifest.ocdbt", "d"}
    if stored:
        yield f"{name}/manifest.ocdbt", _digest(_stored_values(folder))
        paths = [path for path in paths if path.name not in ("manifest.ocdbt", "d")]
    if folder.name == "tensorboard":
        yield f"{name}/", json.dumps(_shown(paths), sort_keys=True)
        return
    for path in paths:
        if stored and path.name.startswith("ocdbt.process_"):
            continue  # the values are in the store above
        if path.is_dir():
            yield from _found(root, path)
        else:
            yield str(path.relative_to(root)), _content(path)


def _content(path: Path) -> str:
    """What is compared of a file: its digest, or its text without times."""
    match path.name:
        case "_CHECKPOINT_METADATA":
            return json.dumps(_without(json.loads(path.read_text()), TIMES))
        case "commit_success.txt":
            return ""  # names the folder aside in which Orbax wrote
        case "config.json" if (path.parent / "params").is_dir():
            return json.dumps(_without(json.loads(path.read_text()), SIZES))
        case "digests.json":
            return _fits(path.parent, json.loads(path.read_text()))
        case "metrics.jsonl":
            return "\n".join(json.dumps(_without(json.loads(line), RATES)) for line in _lines(path))
        case "log.jsonl":
            return _counts_on([json.loads(line) for line in _lines(path)])
    return _digest(LORA_ID.sub(b'"lora_id": ""', path.read_bytes()))


def _fits(folder: Path, recorded: dict[str, Any]) -> str:
    """Whether the files are those that the digests are of; an OCDBT store has some more or fewer of them."""
    wrong = [
        name
        for name, each in recorded["files"].items()
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != each["sha256"]
    ]
    return f"of other files: {', '.join(wrong)}" if wrong else "of these files"


def _without(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _lines(path: Path) -> list[str]:
    text = path.read_text()
    return [*text.splitlines(), *([] if text.endswith("\n") or not text else ["null"])]


def _counts_on(lines: list[dict[str, Any]]) -> str:
    """The parts of the small model's training in the order of their lines; "not in order" where a part's
    steps do not grow.
    """
    parts = list(dict.fromkeys(line["part"] for line in lines))
    steps = [(parts.index(line["part"]), line["steps"]) for line in lines]
    return " ".join(parts) if steps == sorted(set(steps)) else f"not in order: {steps}"


def _digest(content: bytes) -> str:
    return f"{len(content)} bytes {hashlib.sha256(content).hexdigest()[:16]}"


def _stored_values(folder: Path) -> bytes:
    import tensorstore

    base = {"driver": "file", "path": f"{folder}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    keys = sorted(store.list().result())
    return b"".join(key + b"\0" + store.read(key).result().value for key in keys)


def _shown(paths: list[Path]) -> dict[str, str]:
    """Step and tag -> value: what an earlier file has from the step on where a later one starts is hidden."""

    shown: dict[tuple[int, str], str] = {}
    files = [events for path in paths if (events := _events(path))]  # of a killed run it may be empty
    for events in sorted(files, key=lambda events: events[0].wall_time):
        for event in events:
            if event.HasField("session_log"):
                shown = {key: value for key, value in shown.items() if key[0] < event.step}
            for value in event.summary.value:
                if value.tag not in RATES:
                    shown[event.step, value.tag] = _digest(value.SerializeToString())
    return {f"{step} {tag}": value for (step, tag), value in shown.items()}


def _events(path: Path) -> list[Any]:
    """The complete records of an event file: length, its checksum, content, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content, at, events = path.read_bytes(), 0, []
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        if at + length + 16 > len(content):
            break
        events.append(Event.FromString(content[at + 12 : at + 12 + length]))
        at += length + 16
    return events


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """What is not as it should be, but for files too many."""
    return [
        f"{name}: {found.get(name, 'absent')[:2000]} in place of {value[:2000]}"
        for name, value in expected.items()
        if found.get(name) != value
    ]


def left_over(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Files that an undisturbed run does not leave."""
    return sorted(found.keys() - expected.keys())
