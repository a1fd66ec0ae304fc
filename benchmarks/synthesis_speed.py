"""The throughput on a core of the stages that select pairs: split, filter-dino, the preset's judge.

    python -m benchmarks.synthesis_speed

Drawn diptychs of 1024x512, stored as PNG; decoding, cutting and writing are part of the work. DINOv2 has the
size of facebook/dinov2-base and random weights, on which its speed does not depend.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from benchmarks.measure import least_cpu_seconds, on_one_core, table
from tools.common.manifest import Failed, Job
from tools.common.worker import Worker
from tools.synthesize_data.config import FilterDinoConfig, FilterVlmConfig, SynthConfig
from tools.synthesize_data.stages import filter_dino, filter_vlm, split
from uno_jax.toybox import diptych, load_subjects

COUNT, SIDE = 8, 512
Cases = dict[str, Callable[[], object]]


def draw_diptychs(folder: Path) -> list[Job]:
    subjects = load_subjects(split="val")
    jobs = []
    for number in range(COUNT):
        target = diptych(np.random.default_rng(number), subjects, SIDE).target
        Image.fromarray(target).save(folder / f"{number}.png")
        jobs.append(Job(f"{number:020d}", {"picture": f"{number}.png", "layout": "left-right"}))
    return jobs


def write_dinov2(folder: Path) -> str:
    sizes = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
    BitImageProcessorPil(do_center_crop=True, **sizes).save_pretrained(folder)
    Dinov2Model(Dinov2Config(image_size=518)).save_pretrained(folder)
    return str(folder)


def work(worker: Worker, jobs: list[Job]) -> None:
    if failed := [result for result in worker(jobs) if isinstance(result, Failed)]:
        raise SystemExit(failed[0].reason)


def cases(folder: Path) -> Cases:
    diptychs = draw_diptychs(folder)
    cut = split.STAGE.worker(SynthConfig(), folder)
    panels = [result["panels"] for result in cut(diptychs) if not isinstance(result, Failed)]
    pairs = [
        Job(job.id, {"first": one, "second": two, "subject": ""})
        for job, (one, two) in zip(diptychs, panels, strict=True)
    ]
    settings = {
        "filter-dino, DINOv2 base": FilterDinoConfig(model=write_dinov2(folder / "dinov2")),
        "filter-dino, EfficientNet-Lite0": FilterDinoConfig(backend="efficientnet-lite0"),
    }
    workers = {
        name: filter_dino.STAGE.worker(SynthConfig(device="cpu", filter_dino=own), folder)
        for name, own in settings.items()
    }
    judge = SynthConfig(device="cpu", filter_vlm=FilterVlmConfig(backend="features"))
    workers["filter-vlm, the preset's judge"] = filter_vlm.STAGE.worker(judge, folder)
    return {"split": partial(work, cut, diptychs)} | {
        name: partial(work, worker, pairs) for name, worker in workers.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    on_one_core()
    with tempfile.TemporaryDirectory() as folder:
        seconds = least_cpu_seconds(cases(Path(folder)), args.rounds)
    rows = [(name, f"{COUNT / spent:.1f}") for name, spent in seconds.items()]
    print(table(("stage", "pictures or pairs a second of CPU time"), rows))


if __name__ == "__main__":
    main()
