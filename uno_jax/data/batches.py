"""Records -> Batches of numpy arrays, through grain.

The order is a pure function of the seed and the records. Records are grouped by source, number of references
and, where its size is known (see `sizes`), bucket of the target (all buckets where encodings are cached, see
`cached_encodings`); each group is shuffled anew every epoch, cut into batches, and the groups' batches are
mixed in proportion. A batch without known sizes gets the bucket of its mean height/width, as in UNO;
references always do, slot by slot.

Every process plans the same global batches and reads its own share of each, so that the number of processes
changes nothing. A record that cannot be read is replaced by the next good one of its group, and a batch of a
group without a good record by one of the next group.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags
from jaxtyping import Float64, Int64
from tqdm import tqdm

from uno_jax.data.config import DataConfig
from uno_jax.data.entries import DataError
from uno_jax.data.image_files import MASK_CELL, READ_ERRORS, bucket_array, mask_array
from uno_jax.data.records import MASK, PICTURES, SHOWN_PROBLEMS, Records, Source, picture_ratios
from uno_jax.families.family import BatchParts
from uno_jax.families.registry import all_encoders
from uno_jax.support import images
from uno_jax.support.json_files import JsonError, check_fields
from uno_jax.support.words import counted

EPOCHS = 1_000_000  # practically endless; the length of a truly endless dataset overflows in grain
JUDGED_AFTER = 1000  # records read (or all there are) before the share of bad ones can stop a run
MAX_REPLACED = 64  # records in a row that may be bad, also where `max_bad_share` allows fewer


MakeBatch = Callable[[BatchParts], Any]
"""What was read -> a training batch (`Family.make_batch`)."""


class Loaded(NamedTuple):
    """A process's share of a batch; (name, reason) of each record that it had to replace; and the names of
    the whole batch's records, as planned where other processes read them.
    """

    batch: Any
    bad: tuple[tuple[str, str], ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Records of one source, number of references and, where sizes are known, bucket or buckets."""

    records: Records
    members: Int64[np.ndarray, " m"]
    """Indices in `records`."""

    @property
    def source(self) -> Source:
        """The list that the records come from."""
        return self.records.sources[int(self.records.source[self.members[0]])]

    def name(self, place: int) -> str:
        """The record at a place in `members`, for messages."""
        return self.records.name(int(self.members[place]))


@dataclass(frozen=True)
class Loader:
    """Reads one process's share of planned batches."""

    config: DataConfig
    make_batch: MakeBatch
    groups: tuple[Group, ...]
    seed: int
    process_index: int
    process_count: int

    def __call__(self, number: int, plan: tuple[int, list[int]]) -> Loaded:
        """The share of batch `number`, from places in a group: pictures in the batch's buckets and tokens, or
        their cached encodings. Where the group has no good record, it is a batch of the next one.

        Raises DataError when no group has one.
        """
        first, places = plan
        bad: list[tuple[str, str]] = []
        for group in (*self.groups[first:], *self.groups[:first]):
            try:
                loaded = self._load(number, group, places)
                return loaded._replace(bad=(*bad, *loaded.bad))
            except NoGoodRecordError as error:
                bad += error.bad
        raise _many_in_a_row(bad)

    def _load(self, number: int, group: Group, places: list[int]) -> Loaded:
        kept = np.random.default_rng((self.seed, number)).random(len(places)) >= self.config.text_dropout
        most = max(MAX_REPLACED, self.config.max_bad_share * len(group.records))
        slots = [_first_good(group, place, picture_ratios, most) for place in places]
        mean, *ref_means = np.mean([slot.value for slot in slots], axis=0)
        sizes = [
            group.source.target_size(mean, self.config.resolution),
            *(images.ratio_bucket_size(ref_mean, self.config.ref_resolution) for ref_mean in ref_means),
        ]
        share = len(places) // self.process_count
        own = slice(self.process_index * share, (self.process_index + 1) * share)
        try:
            arrays = partial(_arrays, sizes, self.config.mask_weight != 1)
            read = [_first_good(group, slot.place, arrays, most) for slot in slots[own]]
        except NoGoodRecordError as error:
            if self.process_count > 1:  # the others cannot know, and would go on with this group
                raise _many_in_a_row(error.bad) from None
            raise
        batch = self.make_batch(stacked(group, read, kept[own].tolist()))
        bad = tuple(bad for slot in (*slots[own], *read) for bad in slot.bad)
        slots[own] = read
        return Loaded(batch, bad, tuple(group.name(slot.place) for slot in slots))


class Slot(NamedTuple):
    """A usable record's place in its group, what was read of it, and the bad records that it replaces."""

    place: int
    value: Any
    bad: list[tuple[str, str]]


def stacked(group: Group, read: Sequence[Slot], kept: Sequence[bool]) -> BatchParts:
    """What was read, as arrays; texts that are not `kept` become those of the empty prompt."""
    records, empty = group.records, group.records.encodings(None)
    samples = [slot.value for slot in read]
    texts = [sample if keep else empty for sample, keep in zip(samples, kept, strict=True)]
    rows = [int(group.members[slot.place]) for slot in read]

    def stack(arrays: Sequence[dict[str, np.ndarray]], name: str) -> np.ndarray:
        return np.stack([part[name] for part in arrays])

    return BatchParts(
        target=stack(samples, PICTURES[0]),
        refs=tuple(stack(samples, name) for name in PICTURES[1:] if name in samples[0]),
        prompts=[records[row].prompt if keep else "" for row, keep in zip(rows, kept, strict=True)],
        texts={kind: stack(texts, made.text) for kind, made in all_encoders().items() if made.text in empty},
        mask=stack(samples, MASK) if MASK in samples[0] else None,
    )


class NoGoodRecordError(Exception):
    """None of a group's records can be used; `bad` holds (name, reason) of each."""

    def __init__(self, bad: list[tuple[str, str]]) -> None:
        super().__init__()
        self.bad = bad


def _first_good(group: Group, place: int, read: Any, most: float) -> Slot:
    bad: list[tuple[str, str]] = []
    for step in range(len(group.members)):
        at = (place + step) % len(group.members)
        index = int(group.members[at])
        try:
            return Slot(at, read(group.records, index), bad)
        except READ_ERRORS as error:
            bad.append((group.name(at), str(error)))
        if len(bad) > most:
            raise _many_in_a_row(bad)
    raise NoGoodRecordError(bad)


def _many_in_a_row(bad: Sequence[tuple[str, str]]) -> DataError:
    shown = "; ".join(f"{name}: {why}" for name, why in bad[:SHOWN_PROBLEMS])
    return DataError(f"{counted(len(bad), 'bad record')} in a row: {shown}")


def _arrays(
    sizes: Sequence[tuple[int, int]], masks: bool, records: Records, index: int
) -> dict[str, np.ndarray]:
    """A record's cached encodings, its pictures where those are not cached, and with `masks` its mask."""
    arrays = dict(records.encodings(index))
    mask = arrays.pop(MASK, None)
    if PICTURES[0] not in arrays:
        record = records[index]
        named = zip(PICTURES, (record.target, *record.refs), sizes, strict=False)
        arrays |= {name: bucket_array(path, size) for name, path, size in named}
        if masks and record.mask:
            mask = mask_array(record.mask, sizes[0], picture_ratios(records, index)[0])
    if masks:
        height, width = (side // MASK_CELL for side in sizes[0])
        arrays[MASK] = np.zeros((height, width), np.uint8) if mask is None else mask
    return arrays


def make_groups(records: Records, config: DataConfig) -> list[tuple[Group, float]]:
    """The groups that batches are cut from, each with its share of the samples."""
    sized = np.array([source.size is not None for source in records.sources])[records.source]
    columns = [np.where(sized, 0, bucket_numbers(records.ratios[:, 0], config.resolution))]
    if PICTURES[0] in records.encoded:  # encoded at their own size, not at the batch's mean
        columns += [bucket_numbers(column, config.ref_resolution) for column in records.ratios.T[1:]]
    keys = np.stack([records.source, records.refs, *columns], axis=1)
    kinds, which, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    sizes = np.bincount(records.source, minlength=len(records.sources))
    total = sum(source.weight for source in records.sources)
    members = np.split(np.argsort(which.reshape(-1), kind="stable"), np.cumsum(counts)[:-1])
    shares = [records.sources[kind[0]].weight / total / sizes[kind[0]] for kind in kinds]
    return [(Group(records, group), len(group) * share) for group, share in zip(members, shares, strict=True)]


def bucket_numbers(ratios: Float64[np.ndarray, " r"], resolution: int) -> Int64[np.ndarray, " r"]:
    """A number for each bucket that occurs; -1 for unknown ratios."""
    buckets: dict[tuple[int, int], int] = {}
    known, inverse = np.unique(ratios, return_inverse=True)
    numbers = [
        -1 if np.isnan(r) else buckets.setdefault(images.ratio_bucket_size(r, resolution), len(buckets))
        for r in known
    ]
    return np.array(numbers)[inverse.reshape(-1)]


def plan_batches(groups: Sequence[tuple[Group, float]], batch_size: int, seed: int) -> grain.MapDataset:
    """(number of a group, places in it) of every batch, endlessly, in the order that `seed` fixes."""
    batches = []
    for number, (group, _) in enumerate(groups):
        own_seed = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
        places = grain.MapDataset.range(len(group.members)).seed(own_seed).shuffle().repeat(EPOCHS)
        batches.append(places.batch(batch_size, batch_fn=list).map(partial(_with_group, number)))
    return grain.MapDataset.mix(batches, [share for _, share in groups]) if len(batches) > 1 else batches[0]


def _with_group(group: int, places: list[int]) -> tuple[int, list[int]]:
    return group, places


def make_dataset(
    records: Records,
    config: DataConfig,
    batch_size: int,
    make_batch: MakeBatch,
    seed: int,
    share: tuple[int, int] = (0, 1),
) -> "Batches":
    """Endless batches in an order fixed by `seed`: the part of each global batch of `batch_size` records that
    process `share`, (index, count), feeds.

    Raises DataError when the batch does not divide evenly over the processes.
    """
    if batch_size % share[1]:
        raise DataError(f"batch_size {batch_size} does not divide over {share[1]} processes")
    groups = make_groups(records, config)
    plan = plan_batches(groups, batch_size, seed)
    loader = Loader(config, make_batch, tuple(group for group, _ in groups), seed, *share)
    return Batches(records, config, plan.map_with_index(loader))


class Batches(Iterator[Any]):
    """An iterator over batches, which owns the reading threads or processes. `read` counts records as often
    as they were read; `bad` maps the names of those left out to the reasons, each of which is printed once.
    `names` are the records of the last batch.

    `get_state` and `set_state` resume exactly, whatever the numbers of workers and processes.
    """

    def __init__(self, records: Records, config: DataConfig, dataset: grain.MapDataset) -> None:
        self._records, self._config, self._dataset = records, config, dataset
        self._next = 0
        self._iterator: Iterator[Loaded] | None = None
        self.read = 0
        self.bad: dict[str, str] = {}
        self.names: tuple[str, ...] = ()

    def __next__(self) -> Any:
        """The next batch.

        Raises DataError when more than `max_bad_share` of the different records read were bad.
        """
        if self._iterator is None:
            self._iterator = self._start()
        batch, bad, self.names = next(self._iterator)
        self._next += 1
        self.read += len(batch.target)
        for name, why in bad:
            if name not in self.bad:
                tqdm.write(f"left out {name}: {why}")
                self.bad[name] = why
        check_bad_share(self.bad, self.read, len(self._records), self._config.max_bad_share)
        return batch

    def get_state(self) -> dict[str, Any]:
        """The position as JSON values."""
        return {
            "next_index": self._next,
            "read": self.read,
            "bad": dict(self.bad),
            "records": self._records.fingerprint(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Moves to the position of a state.

        Raises DataError when the lists are not those of the state, JsonError for anything but a state.
        """
        check_fields(
            state, {"records": str, "next_index": int, "read": int, "bad": dict[str, str]}, "position"
        )
        if min(state["next_index"], state["read"]) < 0:
            raise JsonError(f"position must not be negative, got {state['next_index']}, {state['read']}")
        if state["records"] != self._records.fingerprint():
            paths = ", ".join(source.path for source in self._records.sources)
            raise DataError(
                f"{paths}: the records are not those of the checkpoint (lists, sizes, scores or weights "
                "changed), so their order cannot be continued; start a new run from its weights"
            )
        self._next, self.read = state["next_index"], state["read"]
        self.bad, self._iterator = dict(state["bad"]), None

    def _start(self) -> Iterator[Loaded]:
        threads, workers = self._config.threads, self._config.workers
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        batches = self._dataset[self._next :].to_iter_dataset(options)
        if workers:
            # grain asks absl flags, which only absl.app.run would have parsed.
            flags.FLAGS.mark_as_parsed()
            in_processes = grain.MultiprocessingOptions(num_workers=workers)
            batches = batches.mp_prefetch(in_processes, worker_init_fn=outlive_first_interrupt)
        return iter(batches)


def outlive_first_interrupt(*_: int) -> None:
    """Leaves the first Ctrl-C, which a terminal sends to workers too, and SIGHUP to the program that reads
    from this worker: it may need more batches before it has saved.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, signal.SIG_DFL))


def check_bad_share(bad: dict[str, str], read: int, total: int, max_bad_share: float) -> None:
    """Raises DataError, with the first reasons, when too many of the `total` records were bad, or of those
    read so far if these are fewer. A record that is met again counts once.
    """
    read = min(read, total)
    if read >= min(JUDGED_AFTER, total) and len(bad) > max_bad_share * read:
        shown = "; ".join(f"{name}: {why}" for name, why in list(bad.items())[:SHOWN_PROBLEMS])
        raise DataError(
            f"{len(bad)} of {read} records read were bad, more than max_bad_share {max_bad_share}: {shown}"
        )
