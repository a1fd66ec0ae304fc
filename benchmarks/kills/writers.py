"""The commands that are killed: what each reads, what it writes, and how it says that all is there."""

import atexit
import os
import subprocess
import types
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from benchmarks.kills import inputs, process
from benchmarks.kills.inputs import exits_well, words

Command = Callable[[Path, Path], object]


class Writer(NamedTuple):
    """One command. `run` and `start` take the folder of the inputs and the one that the command writes."""

    name: str
    needs: tuple[Callable[[Path], None], ...]
    """What makes its inputs, in this order, after `write_basics`."""
    run: Command
    kills: int
    start: Command | None = None
    """Makes what it begins with, where that is not an absent folder."""
    last: str = ""
    """The file it writes last, where the finished command is refused when it is run again."""


def main_of(module: str) -> Callable[[list[str]], object]:
    """The command of a module; imported when it is run, as long as it is not yet."""

    def main(arguments: list[str]) -> object:
        return import_module(module).main(arguments)

    main.__module__ = module
    return main


def train(read: Path, out: Path) -> None:
    exits_well(main_of("uno_jax.train"), "--config", read / "recipe.py", "--workdir", out)


def export(read: Path, out: Path) -> None:
    exits_well(main_of("uno_jax.train"), "--config", read / "recipe.py", "--workdir", out, "--export")


def start_export(read: Path, out: Path) -> None:
    train(read, out)


def sample(read: Path, out: Path) -> None:
    drawn = ("--jobs", read / "jobs.json", "--out", out, "--num-images", 2, *inputs.SMALL_PICTURES)
    exits_well(main_of("uno_jax.sample"), "--model", read / "weights", *drawn)


def encode(read: Path, out: Path) -> None:
    where = ("--config", read / "recipe.py", "--out", out, "--per-shard", 1)
    exits_well(main_of("uno_jax.encodings"), *where)


def pack(read: Path, out: Path) -> None:
    main_of("uno_jax.data.__main__")(words("pack", read / "pairs.json", "--out", out, "--per-shard", 1))


def toybox(read: Path, out: Path) -> None:
    where = ("--model", read / "weights", "--scorer", read / "scorer", "--out", out)
    exits_well(main_of("uno_jax.evaluate"), *where, "--count", 2, "--steps", 1)


def dreambench(read: Path, out: Path) -> None:
    where = ("--model", read / "weights", "--out", out)
    exits_well(main_of("uno_jax.evaluate"), *inputs.dreambench_words(read), *where)


def ablate(read: Path, out: Path) -> None:
    exits_well(main_of("uno_jax.ablate"), "--config", read / "grid.py", "--out", out)


def report(read: Path, out: Path) -> None:
    runs = (read / "trained", read / "scored")
    exits_well(main_of("uno_jax.report"), *runs, "--data", read / "photos", "--out", out / "report.html")


def write_runs(folder: Path) -> None:
    """A training and an evaluation to report on."""
    train(folder, folder / "trained")
    dreambench(folder, folder / "scored")


def convert(*command: str) -> Command:
    """A conversion; {read} in its words becomes the inputs' folder, {out} the written one."""

    def run(read: Path, out: Path) -> None:
        out.mkdir(exist_ok=True)
        main_of("tools.convert_weights.__main__")([word.format(read=read, out=out) for word in command])

    return run


def drawn_world(read: Path, out: Path) -> None:
    place = ("--out", out, "--count", 6, "--size", 64)
    exits_well(main_of("uno_jax.toybox.__main__"), *place)


def train_small(read: Path, out: Path) -> None:
    """Three parts of the small model's training, with a step that only counts: the real one takes half a
    minute to compile. It saves and logs all the time.
    """
    import jax.numpy as jnp
    import numpy as np

    from tests.small_training.test_run import stub_step
    from uno_jax.families.uno.config import PRESETS
    from uno_jax.small_training import loop, run
    from uno_jax.support.command_line import exit_on

    pictures = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 3)), jnp.float32)
    run.compile_step, run.make_inputs, run.draw_pictures = stub_step, lambda *_: None, lambda *_: pictures
    loop.LOG_SECONDS, loop.SAVE_SECONDS = 0.02, 0.05
    minutes = run.Minutes(autoencoder=0.003, base=0.003, decoder=0.0, stage1=0.003, stage2=0.0)
    with exit_on(ValueError, OSError, FloatingPointError):
        run.train_small(run.SmallArgs(out=out, minutes=minutes, per_scene=1), PRESETS["tiny"])


FLUX = ("flux", "--src", "{read}/pipeline/transformer", "--dst", "{out}")
LORA = ("export-lora", "--src", "{read}/lora", "--dst", "{out}/lora.safetensors")
WRITERS = (
    Writer("train", (), train, 40),
    Writer("train --export", (), export, 10, start_export),
    Writer("sample", (), sample, 20),
    Writer("encodings", (), encode, 15),
    Writer("data pack", (), pack, 15, last="records.json"),
    Writer(
        "convert pipeline",
        (inputs.write_pipeline,),
        convert("pipeline", "--src", "{read}/pipeline", "--dst", "{out}"),
        15,
    ),
    Writer(
        "convert flux --overwrite",
        (inputs.write_pipeline,),
        convert(*FLUX, "--overwrite"),
        10,
        convert(*FLUX, "--dtype", "bf16"),
    ),
    Writer(
        "convert lora to a file",
        (),
        convert(*LORA, "--format", "uno", "--overwrite"),
        10,
    ),
    Writer(
        "convert pack",
        (),
        convert("pack", "--model", "{read}/weights", "--dst", "{out}/packed", "--overwrite"),
        10,
    ),
    Writer("evaluate toybox", (inputs.write_scorer,), toybox, 10, last="scores.json"),
    Writer("evaluate dreambench", (inputs.write_dreambench,), dreambench, 15),
    Writer("ablate", (inputs.write_dreambench, inputs.write_ablation), ablate, 15),
    Writer("report", (inputs.write_dreambench, write_runs), report, 10),
    Writer("train_small", (), train_small, 15),
)


def fork_programs() -> None:
    """Lets the commands of this process start uno_jax's programs as forked children too: started anew, each
    would import for seconds before it writes anything.
    """
    from tools.synthesize_data.output import export as exporting
    from tools.synthesize_data.pipeline import uno_sampler
    from tools.synthesize_data.stages import generate
    from uno_jax.ablation import run as ablation

    def forked(command: Sequence[str]) -> None:
        if status := fork_program(command[2], command[3:]):
            raise ValueError(f"{command[2]} ended with {status}")

    ablation.run_program = lambda what, module, *arguments: forked(["", "-m", module, *arguments])
    generate.run_program = uno_sampler.run_program = forked
    exporting.subprocess = types.SimpleNamespace(
        run=lambda command: subprocess.CompletedProcess(command, fork_program(command[2], command[3:]))
    )


def fork_program(module: str, arguments: Sequence[str]) -> int:
    """The exit status of a program of uno_jax in a forked child."""
    if (child := os.fork()) == 0:
        code = 1
        try:
            atexit._clear()  # the parent's temporary folders are its own to remove
            module = f"{module}.__main__" if module == "uno_jax.data" else module
            code = process.exit_code(lambda: main_of(module)(list(arguments)))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
