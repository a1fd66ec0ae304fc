"""`uno-encode --config RECIPE --out DIR`: a recipe's lists -> their encodings on disk, once.

Runs of the recipe with `--data.encodings DIR` then read these and run no encoder. Every picture is encoded
at the bucket of its own aspect ratio, as moments of its posterior, in the recipe's dtype. After an
interruption the same command makes what is missing (`uno_jax.data.cached_encodings` defines the files).
"""

import dataclasses
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from uno_jax.data.batches import check_bad_share
from uno_jax.data.cached_encodings import (
    Arrays,
    Info,
    Table,
    has_empty,
    read_info,
    read_table,
    select_rows,
    shard_path,
    write_empty,
    write_info,
    write_shard,
)
from uno_jax.data.config import DataConfig
from uno_jax.data.entries import DataError
from uno_jax.data.image_files import READ_ERRORS, bucket_array, mask_array
from uno_jax.data.records import MASK, PICTURES, Records, check_masks, picture_ratios, read_records
from uno_jax.families.model import Model
from uno_jax.families.registry import family_of, picture_encoders
from uno_jax.sampling.prompt_length import cut_prompts
from uno_jax.sharding.processes import place_batch, wait_for_all
from uno_jax.support import images
from uno_jax.support.errors import RecipeError
from uno_jax.support.memory import refuse_beyond_memory
from uno_jax.support.prefetch import prefetch
from uno_jax.support.settings import differences, to_dict
from uno_jax.support.words import counted
from uno_jax.training.cached import describe_network
from uno_jax.training.config import TrainConfig
from uno_jax.training.config_check import check_recipe
from uno_jax.training.start_check import smallest_target
from uno_jax.training.state import make_run_mesh, model_config, run_family
from uno_jax.weights.checkpoint import restore_network
from uno_jax.weights.load import held_bytes

Encoder = Callable[[np.ndarray], Any]


class Input(NamedTuple):
    """An encoder's input, and which part of which record its encoding becomes."""

    row: int
    name: str
    array: np.ndarray


def encode_lists(
    config: TrainConfig,
    out: Path,
    kinds: Sequence[str] | None = None,
    per_shard: int = 256,
    process_index: int | None = None,
    process_count: int | None = None,
) -> dict[str, str]:
    """Encodes what `out` lacks of the recipe's lists with the networks `kinds` (default: all of the
    family's encoders); returns the names of the records left out, with the reasons. Each process makes its
    own share of the shards, independently.

    Raises RecipeError, DataError or FileNotFoundError before any weight is loaded where `out` holds
    encodings of other settings or the recipe cannot be encoded, DataError when more than `max_bad_share` of
    the records are bad.
    """
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, encodings=""))
    kinds = check_encoders(config, kinds)
    records = read_records(config.data)
    check_masks(records, config.data)
    mesh, model = make_run_mesh(config, jax.local_devices()), model_config(config)
    info = make_info(config, kinds, records, per_shard)
    claim_directory(out, info, first=index == 0)
    wait_for_all(f"claimed {out}")
    own = range(index, info.shards, count)
    done = [number for number in own if shard_path(out, number).is_file()]
    todo = sorted(set(own) - set(done))
    bad = {name: why for number in done for name, why in read_table(out, number).bad.items()}
    read = sum(len(shard_rows(info, number)) for number in done)
    if not todo and has_empty(out):
        return bad
    if any(family_of(model).need_trainer().encoders[kind].text for kind in kinds):
        for line in cut_prompts(model, (records[row].prompt for n in todo for row in shard_rows(info, n))):
            print(line, file=sys.stderr)
    check_memory(config, model, kinds)
    encoders = {kind: load_encoder(config, model, kind, mesh) for kind in kinds}
    with jax.set_mesh(mesh):
        if index == 0 and not has_empty(out):
            write_empty(out, encode_empty(model, encoders, config.batch_size))
        with tqdm(total=count_inputs(records, info, todo), unit="encoding", dynamic_ncols=True) as bar:
            for number in todo:
                rows = shard_rows(info, number)
                table, samples = encode_shard(config, model, records, rows, encoders, bar)
                bad, read = bad | table.bad, read + len(rows)
                check_bad_share(bad, read, len(records), config.data.max_bad_share)
                write_shard(out, number, table, samples)
    return bad


def check_encoders(config: TrainConfig, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The networks to encode with, in the family's order: those `asked` for, or all of its encoders.

    Raises RecipeError for a recipe whose lists they cannot encode.
    """
    check_recipe(config)
    if config.objective != "flow":
        raise RecipeError("the autoencoder objective learns from pictures, not from encodings")
    known = run_family(config).need_trainer().encoders
    if asked is not None and (not asked or set(asked) - known.keys()):
        raise RecipeError(f"--networks must be some of {','.join(known)}, got {','.join(asked) or 'none'}")
    kinds = tuple(kind for kind in known if asked is None or kind in asked)
    for kind in kinds:
        if config.trains(kind):
            raise RecipeError(f"the recipe trains {kind}, and its encodings would not follow; leave it out")
        if not (place := config.weights_dir / kind).is_dir() or not config.weights:
            raise RecipeError(f"{kind} has no weights to encode with: expected {place} to hold it")
    return kinds


def make_info(config: TrainConfig, kinds: Sequence[str], records: Records, per_shard: int) -> Info:
    """The description of the encodings that are to be made."""
    sources = [to_dict(source) for source in records.sources]
    return Info(
        {kind: describe_network(config.weights_dir / kind, kind) for kind in kinds},
        config.dtype,
        config.data.resolution,
        config.data.ref_resolution,
        [{name: value for name, value in source.items() if name != "bad"} for source in sources],
        len(records),
        records.fingerprint(),
        per_shard,
    )


def claim_directory(out: Path, info: Info, first: bool) -> None:
    """Makes `out` the directory of these encodings, which the `first` of several processes does.

    Raises DataError when it holds encodings of other settings.
    """
    if (out / "encodings.json").exists():
        old, new = (dataclasses.asdict(each) for each in (read_info(out), info))
        if changes := differences(old, new):
            raise DataError(
                f"{out} has encodings of other settings: {'; '.join(changes)}. Choose another --out"
            )
    elif first:
        write_info(out, info)


def check_memory(config: TrainConfig, model: Any, kinds: Sequence[str]) -> None:
    """Raises RecipeError where the networks and a batch of the smallest pictures cannot fit into memory."""
    weights, size = held_bytes(config.weights_dir, kinds, config.dtype), smallest_target(config.data)
    for kind in kinds:
        encoder = family_of(model).need_trainer().encoders[kind]
        inputs = counted(config.batch_size, "prompt" if encoder.text else "picture")
        need = weights + encoder.least_bytes(model, config.batch_size, size, config.dtype)
        refuse_beyond_memory(need, f"the weights and {inputs} in {kind} at once", "give a smaller batch_size")


def load_encoder(config: TrainConfig, model: Any, kind: str, mesh: Mesh) -> Encoder:
    """A network as in training, sharded and compiled: a function from inputs to encodings on devices."""
    _, params = restore_network(config.weights_dir / kind, kind, mesh, config.dtype)
    here = Model(model, {kind: params}, dtype=config.dtype)
    encode = family_of(model).need_trainer().encoders[kind].encode
    return lambda inputs: encode(here, place_batch(mesh, inputs))


def encode_empty(model: Any, encoders: dict[str, Encoder], size: int) -> Arrays:
    """The encodings of the empty prompt, by the names of a record's parts."""
    trainer = family_of(model).need_trainer()
    inputs = {kind: [Input(0, kind, tokens[0])] for kind, tokens in trainer.tokenize(model, [""]).items()}
    return {
        trainer.encoders[kind].text: array
        for kind in encoders.keys() & inputs.keys()
        for _, _, array in encoded(encoders[kind], [inputs[kind]], size)
    }


def encode_shard(
    config: TrainConfig,
    model: Any,
    records: Records,
    rows: range,
    encoders: dict[str, Encoder],
    bar: tqdm,
) -> tuple[Table, list[Arrays]]:
    """The table of the good records among `rows`, and the encodings of each."""
    end = bar.n + sum(inputs_of(records, row, encoders) for row in rows)
    ratios: dict[int, list[float]] = {}
    bad: dict[int, str] = {}
    for row in rows:
        try:
            ratios[row] = picture_ratios(records, row)
        except READ_ERRORS as error:
            bad[row] = str(error)
    samples: dict[int, Arrays] = {row: {} for row in ratios}
    for kind in picture_encoders(encoders):
        chunks = read_pictures(config, records, ratios, bad)
        for row, name, array in encoded(encoders[kind], chunks, config.batch_size):
            samples[row][name] = array
            bar.update()
    add_masks(config, records, ratios, samples, bad)
    good = [row for row in rows if row not in bad]
    trainer = family_of(model).need_trainer()
    for kind, tokens in trainer.tokenize(model, [records[row].prompt for row in good]).items():
        if kind in encoders:
            inputs = [
                Input(row, trainer.encoders[kind].text, ids) for row, ids in zip(good, tokens, strict=True)
            ]
            for row, name, array in encoded(
                encoders[kind], cut_chunks(inputs, config.batch_size), config.batch_size
            ):
                samples[row][name] = array
                bar.update()
    bar.update(end - bar.n)
    named = {records.name(row): why for row, why in bad.items()}
    table = select_rows(records, good, [ratios[row] for row in good])
    return Table(table, named), [samples[row] for row in good]


def read_pictures(
    config: TrainConfig, records: Records, ratios: dict[int, list[float]], bad: dict[int, str]
) -> Iterator[list[Input]]:
    """Pictures of equal buckets, at most batch_size at a time; records that cannot be read are added to
    `bad`.
    """
    places: dict[tuple[int, int], list[tuple[int, str, str]]] = defaultdict(list)
    for row, values in ratios.items():
        record = records[row]
        for name, path, ratio in zip(PICTURES, (record.target, *record.refs), values, strict=False):
            places[picture_bucket(config.data, records, row, name, ratio)].append((row, name, path))

    def read(chunk: tuple[tuple[int, int], list[tuple[int, str, str]]]) -> list[Input]:
        size, pictures = chunk
        inputs = []
        for row, name, path in pictures:
            try:
                inputs.append(Input(row, name, bucket_array(path, size)))
            except READ_ERRORS as error:
                bad[row] = str(error)
        return inputs

    chunks = [
        (size, chunk) for size in sorted(places) for chunk in cut_chunks(places[size], config.batch_size)
    ]
    return prefetch(read, chunks, config.data.threads)


def add_masks(
    config: TrainConfig,
    records: Records,
    ratios: dict[int, list[float]],
    samples: dict[int, Arrays],
    bad: dict[int, str],
) -> None:
    """Adds the masks of the targets to `samples`; records whose mask cannot be read are added to `bad`."""
    paths = {row: path for row in ratios if (path := records[row].mask)}

    def read(row: int) -> None:
        target = ratios[row][0]
        try:
            bucket = picture_bucket(config.data, records, row, PICTURES[0], target)
            samples[row][MASK] = mask_array(paths[row], bucket, target)
        except READ_ERRORS as error:
            bad[row] = str(error)

    for _ in prefetch(read, list(paths), config.data.threads):
        pass


def picture_bucket(data: DataConfig, records: Records, row: int, name: str, ratio: float) -> tuple[int, int]:
    """(height, width) in pixels at which a picture of this height/width is encoded."""
    if name == PICTURES[0]:
        return records.sources[int(records.source[row])].target_size(ratio, data.resolution)
    return images.ratio_bucket_size(ratio, data.ref_resolution)


def encoded(encoder: Encoder, chunks: Iterable[list[Input]], size: int) -> Iterator[Input]:
    """The encodings of inputs, by chunks of equal shapes, filled up to `size` for one program a shape."""
    for chunk in filter(None, chunks):
        inputs = np.stack([item.array for item in chunk])
        outputs = np.asarray(encoder(np.resize(inputs, (size, *inputs.shape[1:]))))
        yield from (item._replace(array=output) for item, output in zip(chunk, outputs, strict=False))


def cut_chunks(items: Sequence[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def shard_rows(info: Info, number: int) -> range:
    """Indices of the records of shard `number`."""
    return range(number * info.per_shard, min((number + 1) * info.per_shard, info.records))


def inputs_of(records: Records, row: int, encoders: Collection[str]) -> int:
    """Number of encodings of a record."""
    return len(encoders) + len(picture_encoders(encoders)) * int(records.refs[row])


def count_inputs(records: Records, info: Info, shards: Iterable[int]) -> int:
    """Number of encodings of several shards."""
    return sum(
        inputs_of(records, row, info.encoders) for number in shards for row in shard_rows(info, number)
    )
