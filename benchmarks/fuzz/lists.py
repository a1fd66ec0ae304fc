"""Mutated lists and settings, read by the commands' own readers: each is taken, or refused with one message.

    python -m benchmarks.fuzz.lists --runs 200000     # minutes on one core
    python -m benchmarks.fuzz.lists --runs 200000 --only jobs --keep FOLDER

Prints a row for each kind of file. A good run is one whose file was read, with or without records left out; a
clear error is of the exceptions that the commands print in one line, and names the file. Everything else is
printed with its run's number, which with --seed gives the same file again, and makes the exit status 1.
"""

import argparse
import collections
import dataclasses
import json
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from benchmarks.fuzz.json_mutations import mutated
from tools.common.errors import ToolError
from tools.common.manifest import Manifest
from tools.convert_weights.mapping import ConversionError
from tools.convert_weights.source import read_json as read_hub_config
from tools.synthesize_data.config import SynthConfig
from tools.synthesize_data.config_files import stored_config
from tools.synthesize_data.judges.catalog_detector import read_catalog
from tools.synthesize_data.pipeline.import_lists import json_rows
from tools.synthesize_data.pipeline.run import read_marks
from tools.synthesize_data.stages.taxonomy import read_groups
from tools.vlm_judge.cases import read_list as read_judged
from uno_jax.data.cached_encodings import read_info
from uno_jax.data.config import SourceConfig
from uno_jax.data.entries import DataError
from uno_jax.data.records import parse_source
from uno_jax.families.uno.config import PRESETS, LoraConfig, UnoPE
from uno_jax.networks.registry import NETWORKS
from uno_jax.reporting.evaluations import ReportError, read_evaluation
from uno_jax.reporting.runs import read_training
from uno_jax.sampling.job_list import JobDefaults, JobError, read_jobs
from uno_jax.support.errors import CheckpointError, RecipeError
from uno_jax.support.json_files import read_json
from uno_jax.support.settings import to_dict
from uno_jax.training.checkpoints import RECIPE_VERSION, complete_recipe
from uno_jax.training.config import TrainConfig
from uno_jax.weights.checkpoint import network_record, read_config, read_lora

TINY = PRESETS["tiny"]
SHOWN = 20  # failures that are printed


class Kind(NamedTuple):
    """One kind of file: a good one, and its reader, which gets its path."""

    name: str
    file: str
    content: bytes
    read: Callable[[Path], Any]
    error: type[Exception]


class Result(NamedTuple):
    """How often the runs of a kind ended in each way; `failures` are (number, trace) of the others."""

    good: int
    clear: int
    failures: list[tuple[int, str]]
    slowest: float


def kinds() -> Iterator[Kind]:
    """Every kind of file."""
    yield from lists()
    yield from checkpoints()
    yield from synthesis()
    yield from results()


def lists() -> Iterator[Kind]:
    """Lists of pairs, of labels and of jobs; encodings of them."""
    pair = {"prompt": "a dög", "image_paths": ["r.png"], "image_tgt_path": "t.png", "score": 3.5}
    pairs = [pair, pair | {"image_sizes": [[64, 64], [64, 64]], "id": 7}, pair | {"image_path": "r.png"}]
    label = {
        "img_path1": "r.png",
        "img_path2": "t.png",
        "caption": {"img_path2": "a dog"},
        "vlm_filter_cot": {"score_final": 4.0},
    }
    jobs = [
        pair,
        {"prompt": "a", "width": 64, "height": 64, "seed": 1},
        {"prompt": "b", "left_path": "r.png"},
    ]
    encodings = {
        "encoders": {"vae": {"config": to_dict(TINY.vae), "weights": "ab"}},
        "dtype": "bfloat16",
        "resolution": 64,
        "ref_resolution": 64,
        "sources": [],
        "records": 3,
        "fingerprint": "abcd",
        "per_shard": 2,
        "format": 1,
    }
    yield Kind("list of pairs", "list.json", as_json(pairs), read_pairs, DataError)
    yield Kind("JSON Lines", "list.jsonl", as_lines(pairs), read_pairs, DataError)
    yield Kind("labels", "labels.json", as_json([label] * 3), read_pairs, DataError)
    yield Kind("jobs", "jobs.json", as_json(jobs), lambda path: read_jobs(path, JobDefaults(TINY)), JobError)
    yield Kind(
        "encodings.json", "encodings.json", as_json(encodings), lambda path: read_info(path.parent), DataError
    )


def checkpoints() -> Iterator[Kind]:
    """Configs of networks and of a LoRA, and the recipe of a checkpoint."""
    defaults = {kind: row.config() for kind, row in NETWORKS.items()}
    for kind, config in (defaults | {"mmdit": TINY.mmdit, "vae": TINY.vae}).items():
        yield Kind(
            f"{kind} config.json",
            "config.json",
            as_json(stored(network_record(config))),
            read_network,
            CheckpointError,
        )
    mmdit = network_record(TINY.mmdit)["config"]
    lora = {"kind": "lora", "mmdit": mmdit, "lora": to_dict(LoraConfig(rank=4)), "unope": to_dict(UnoPE())}
    yield Kind(
        "LoRA config.json",
        "config.json",
        as_json(stored(lora)),
        lambda path: read_lora(path.parent),
        CheckpointError,
    )
    recipe = {"version": RECIPE_VERSION, **to_dict(TrainConfig())}
    yield Kind("recipe", "recipe.json", as_json(recipe), read_recipe, RecipeError)
    hub = {"weight_map": {"a": "model.safetensors"}, "hidden_size": 64}
    yield Kind("hub's config.json", "config.json", as_json(hub), read_hub_config, ConversionError)


def synthesis() -> Iterator[Kind]:
    """Files of a synthesis run, and those that it is given."""
    row = {"id": "0a", "inputs": {"first": "a.png", "kind": "x"}, "result": {"score": 1.5}}
    lists = [{"prompt": "a", "image_paths": ["r.png"], "image_tgt_path": "t.png"}]
    catalog = [{"name": "dog", "file": "r.png"}, {"name": "cat", "file": "t.png"}]
    settings = dataclasses.asdict(SynthConfig())
    yield Kind(
        "synthesis settings",
        "config.json",
        as_json(settings),
        lambda path: stored_config(path.parent),
        ToolError,
    )
    yield Kind("marks.json", "marks.json", as_json({"0a": "keep", "0b": "reject"}), read_marks, ToolError)
    rows = [row, row | {"id": "0b"}, row | {"id": "0c", "result": None}]
    yield Kind("manifest", "rows.jsonl", as_lines(rows), lambda path: Manifest(path).read(), ToolError)
    yield Kind("import", "pairs.json", as_json(lists), lambda path: list(json_rows(path)), ToolError)
    yield Kind("categories", "groups.json", as_json({"animals": ["dog", "cat"]}), read_groups, ToolError)
    yield Kind(
        "catalog", "manifest.json", as_json(catalog), lambda path: read_catalog(path.parent), ToolError
    )
    yield Kind(
        "judge's list", "prompts.json", as_json(lists), lambda path: read_judged(path, None), ToolError
    )


def results() -> Iterator[Kind]:
    """What a report is made of."""
    score = {"mean": 0.5, "interval": [0.4, 0.6], "groups": {"dog": 0.5}, "categories": {"live": 0.5}}
    row = {"picture": "0_0.png", "subjects": ["dog"], "prompt": "a dog", "category": "live", "dino": 0.5}
    scores = {"suite": "dreambench-single", "scores": {"dino": score}, "rows": [row], "seed": 1}
    steps = [{"step": number, "loss": 1.0 / number, "images/s": 2} for number in (1, 2, 3)]
    yield Kind(
        "scores.json",
        "scores.json",
        as_json(scores),
        lambda path: read_evaluation(path.parent, None),
        ReportError,
    )
    yield Kind("metrics.jsonl", "metrics.jsonl", as_lines(steps), read_training, ReportError)


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode()


def as_lines(values: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def stored(record: dict[str, Any]) -> dict[str, Any]:
    """A record of config.json beside no parameters."""
    return {"format": 1, **record, "params_bytes": 0}


def read_pairs(path: Path) -> Any:
    return parse_source(SourceConfig(str(path)))


def read_network(path: Path) -> Any:
    return read_config(path.parent)


def read_recipe(path: Path) -> Any:
    try:
        return complete_recipe(read_json(path))
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from None


def fuzz(kind: Kind, runs: int, seed: int, folder: Path) -> Result:
    """Reads `runs` mutations of a kind's file in a folder that holds r.png and t.png."""
    path, good, clear, slowest, failures = folder / kind.file, 0, 0, 0.0, []
    path.write_bytes(kind.content)
    kind.read(path)  # the file itself is a good one
    for number in range(runs):
        start = time.perf_counter()
        try:
            read = read_once(kind, mutation(kind, number, seed), path)
            good, clear = good + read, clear + (not read)
        except Exception:
            failures.append((number, shortened_trace()))
        slowest = max(slowest, time.perf_counter() - start)
    return Result(good, clear, failures, slowest)


def read_once(kind: Kind, content: bytes, path: Path) -> bool:
    """Whether a kind's reader takes the content, or refuses it clearly.

    Raises whatever else the reader does, and AssertionError for a refusal that does not name the file.
    """
    path.write_bytes(content)
    try:
        kind.read(path)
    except kind.error as error:
        if str(path) in str(error) or str(path.parent) in str(error):
            return False
        raise AssertionError(f"does not name the file: {error}") from error
    return True


def shortened_trace() -> str:
    """The place and the message of the exception that is being handled."""
    _, error, trace = sys.exc_info()
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(trace)[-3:]]
    return f"{type(error).__name__} at {' > '.join(places)}: {str(error)[:160]!r}"


def mutation(kind: Kind, number: int, seed: int) -> bytes:
    """The file of one run."""
    return mutated(random.Random(f"{seed} {kind.name} {number}"), kind.content)


def write_pictures(folder: Path) -> None:
    for name in ("r.png", "t.png"):
        Image.new("RGB", (64, 64), "green").save(folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20_000, help="over all kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds whose name has this in it")
    parser.add_argument("--keep", type=Path, help="folder for the files of failures")
    args = parser.parse_args()
    chosen = [kind for kind in kinds() if args.only in kind.name]
    print(f"{'kind':22} {'runs':>7} {'good':>7} {'clear errors':>13} {'other':>6} {'slowest':>9}")
    totals: collections.Counter[str] = collections.Counter()
    for kind in chosen:
        with tempfile.TemporaryDirectory() as name:
            write_pictures(Path(name))
            found = fuzz(kind, args.runs // len(chosen), args.seed, Path(name))
        totals.update(good=found.good, clear=found.clear, other=len(found.failures))
        print_row(kind.name, found)
        if args.keep:
            keep(kind, [number for number, _ in found.failures], args.seed, args.keep)
    print(f"{'total':22} {totals.total():7} {totals['good']:7} {totals['clear']:13} {totals['other']:6}")
    sys.exit(1 if totals["other"] else 0)


def print_row(name: str, found: Result) -> None:
    runs = found.good + found.clear + len(found.failures)
    counts = f"{runs:7} {found.good:7} {found.clear:13} {len(found.failures):6}"
    print(f"{name:22} {counts} {found.slowest * 1000:6.0f} ms", flush=True)
    for number, trace in found.failures[:SHOWN]:
        print(f"  run {number}: {trace}", file=sys.stderr)


def keep(kind: Kind, numbers: Sequence[int], seed: int, folder: Path) -> None:
    """Writes the files of some runs."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number}_{kind.file}").write_bytes(mutation(kind, number, seed))


if __name__ == "__main__":
    main()
