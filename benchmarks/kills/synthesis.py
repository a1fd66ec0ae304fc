"""The stages of a synthesis run, each killed from the state that the stages before it leave.

Diptychs are drawn, as in the tests, so that pairs pass the filters; "generate" is also killed with the tiny
model behind it. Batches are of four rows.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.kills.inputs import exits_well
from benchmarks.kills.writers import Writer, drawn_world, main_of
from tests.tools.synthesize_data.drawn_run import Painter, drawn_config
from tools.synthesize_data.config import GenerateConfig, SynthConfig
from tools.synthesize_data.config_files import store_config
from tools.synthesize_data.pipeline.stage import accept_all
from tools.synthesize_data.stages.order import ORDER, STAGES

BATCH = 4
STEPS = (*ORDER, "report")
KILLS = 7


def with_small_batches(config: SynthConfig) -> SynthConfig:
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        part = getattr(config, field.name)
        if hasattr(part, "batch_size"):
            changed[field.name] = dataclasses.replace(part, batch_size=BATCH)
    export = dataclasses.replace(config.export, val_share=0.3)
    return dataclasses.replace(config, **changed, export=export)


def run_step(run: Path, step: str, *more: object) -> None:
    exits_well(main_of("tools.synthesize_data.__main__"), step, "--run", run, *more)


def paint() -> None:
    """Puts the painter of the tests in the sampler's place."""
    accept_some_toys()
    STAGES["generate"] = dataclasses.replace(STAGES["generate"], worker=Painter)


def accept_some_toys() -> None:
    """Lets the toy world draw for a run on a few of its subjects, where it asks for all of them."""
    STAGES["generate"] = dataclasses.replace(STAGES["generate"], check_settings=accept_all)


def write_stages(folder: Path) -> None:
    """stages/NUMBER: what the run is before each of STEPS."""
    paint()
    run = folder / "run"
    run.mkdir()
    store_config(run, with_small_batches(drawn_config(folder)))
    for number, step in enumerate(STEPS):
        shutil.copytree(run, folder / "stages" / str(number))
        run_step(run, step)


def write_drawn(folder: Path) -> None:
    drawn_world(folder, folder / "drawn")


def stage_writer(number: int, step: str) -> Writer:
    again = " of two subjects" if step in STEPS[:number] else ""

    def start(read: Path, out: Path) -> None:
        shutil.copytree(read / "stages" / str(number), out)

    def run(read: Path, out: Path) -> None:
        paint()
        run_step(out, step)

    return Writer(f"synthesis {step}{again}", (write_stages,), run, KILLS, start)


def start_sampled(read: Path, out: Path) -> None:
    """Four diptychs to be drawn by the tiny model, beside drawn panels."""
    shutil.copytree(read / "stages" / str(STEPS.index("generate")), out)
    config = with_small_batches(drawn_config(read))
    generate = GenerateConfig(
        backend="uno_jax",
        model=str(read / "weights"),
        steps=1,
        guidance=1.0,
        arguments=("--lora", "none"),
        left="toybox",
        batch_size=2,
    )
    diptychs = out / "manifest" / "diptychs.jsonl"
    kept = diptychs.read_text().splitlines(keepends=True)[:4]
    diptychs.write_text("".join(kept))
    store_config(out, dataclasses.replace(config, generate=generate))


def sampled(read: Path, out: Path) -> None:
    accept_some_toys()
    run_step(out, "generate")


def import_drawn(read: Path, out: Path) -> None:
    run_step(out, "import", "--source", read / "drawn" / "pairs.json")


def start_import(read: Path, out: Path) -> None:
    out.mkdir()
    store_config(out, with_small_batches(drawn_config(read)))


def start_marks(read: Path, out: Path) -> None:
    shutil.copytree(read / "stages" / str(len(STEPS) - 1), out)


def mark(read: Path, out: Path) -> None:
    row = json.loads((out / "manifest" / "filter-vlm.jsonl").read_text().splitlines()[0])
    marks = read / "marks.json"
    marks.write_text(json.dumps({row["id"]: "reject"}))
    run_step(out, "marks", "--source", marks)


def stage_writers() -> Iterator[Writer]:
    for number, step in enumerate(STEPS):
        yield stage_writer(number, step)
    yield Writer("synthesis generate with a model", (write_stages,), sampled, KILLS, start_sampled)
    yield Writer("synthesis import", (write_drawn,), import_drawn, KILLS, start_import)
    yield Writer("synthesis marks", (write_stages,), mark, KILLS, start_marks)
