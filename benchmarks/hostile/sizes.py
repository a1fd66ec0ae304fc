"""Numbers within their bounds that are too much together: for the memory, or for anyone's time.

What does not fit must be refused before it is tried; what only takes long must stop when it is asked to.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.hostile.case import Case, spoilt
from benchmarks.hostile.given import draw, write_json


def cases() -> Iterator[Case]:
    for base, words in SIZES:
        yield spoilt(base, " ".join(words), *words, works=True)
    big = partial(_large_reference)
    ref = ("--ref", "0.png", "--ref-size", "4096")
    yield spoilt("sample", "a reference of 4096", *ref, make=big, works=True)
    yield spoilt("jobs", "64 references of 4096", "--ref-size=4096", make=_references, works=True)
    yield spoilt("sample", "64 references", "--ref", *["0.png"] * 64, make=big, works=True)


def _large_reference(folder: Path) -> None:
    draw(folder / "0.png", side=4096)


def _references(folder: Path) -> None:
    _large_reference(folder)
    write_json(folder / "pairs.json", [{"prompt": "a", "image_paths": ["0.png"] * 64}])


SIZES = (
    ("sample", ("--width=7040", "--height=7040")),
    ("sample", ("--width=8192", "--height=4096", "--num-images=16384", "--batch-size=16384")),
    ("sample", ("--num-images=16384", "--batch-size=16384")),
    ("sample", ("--num-images=1000000",)),
    ("sample", ("--num-images=1000000", "--steps=1000")),
    ("sample", ("--steps=1000", "--true-cfg=2", "--width=4096", "--height=4096")),
    ("plan", ("--width=7040", "--height=7040", "--batch-size=16384")),
    ("plan", ("--refs=8", "--ref-size=4096")),
    ("check", ("--data.resolution=4096", "--data.ref-resolution=4096")),
    ("train", ("--batch-size=16384", "--data.resolution=512")),
    ("train", ("--data.resolution=4096", "--data.ref-resolution=4096", "--batch-size=64")),
    ("train", ("--data.resolution=2048", "--remat=none")),
    ("train", ("--batch-size=16384", "--accumulate=16384")),
    ("train", ("--steps=10000000", "--optim.warmup-steps=10000000")),
    ("train", ("--lora.rank=100000",)),
    ("train", ("--unroll=1000",)),
    ("train", ("--data.workers=1000",)),
    ("train", ("--keep-checkpoints=1000000", "--checkpoint-every=1", "--steps=1000000")),
    ("train", ("--preset=flux_dev", "--weights=")),
    ("encode", ("--data.resolution=4096", "--per-shard=1000000")),
    ("encode", ("--batch-size=16384",)),
    ("toybox suite", ("--count=100000",)),
    ("toybox suite", ("--count=2000", "--batch-size=16384")),
    ("single", ("--num-images=1000000",)),
    ("single", ("--width=7040", "--height=7040")),
    ("ceilings", ("--count=100000",)),
    ("ceilings", ("--size=1024",)),
    ("toybox", ("--count=10000000",)),
    ("toybox", ("--size=1024",)),
    ("device", ("--per-scene=10000", "--side=1024")),
    ("train_small", ("--per-scene=10000", "--minutes.base=1")),
    ("train_small", ("--batch-share=64", "--minutes.base=1")),
    ("report", ("--thumbnail=4096",)),
    ("judge", ("--num-images=1000000",)),
    ("judge", ("--rounds=1000000",)),
    ("stage subjects", ("--subjects.per-manner=1000000",)),
    ("stage scenes", ("--scenes.per-subject=1000000",)),
    ("stage diptychs", ("--diptychs.per-subject=1000000",)),
    ("stage generate", ("--generate.batch-size=16384",)),
)
