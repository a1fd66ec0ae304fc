"""Seams are found where they are, single pictures have none, and panels are cut there."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import seam as benchmark
from tools.common.errors import ToolError
from tools.common.manifest import Failed, Job, Row
from tools.synthesize_data.config import SplitConfig, SynthConfig
from tools.synthesize_data.judges.seam import find_seam
from tools.synthesize_data.pipeline.image_files import load_image, save_image
from tools.synthesize_data.stages import split


def textured(seed: int, height: int, width: int) -> np.ndarray:
    """A picture of soft blobs, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return (smooth + rng.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8)


def beside(first: int, second: int, height: int, line: int = 0) -> np.ndarray:
    white = np.full((height, line, 3), 255, np.uint8)
    return np.concatenate([textured(1, height, first), white, textured(2, height, second)], axis=1)


@pytest.mark.parametrize("widths", [(725, 811), (793, 743), (128, 128), (100, 140)])
def test_a_seam_off_the_middle_is_found(widths):
    found = find_seam(beside(*widths, 2 * min(widths) // 3))
    assert abs(found.position - widths[0]) <= 1 and found.probability > 0.9
    assert found.gutter[0] == found.gutter[1]


def test_a_line_between_the_panels_is_told():
    found = find_seam(beside(300, 320, 256, line=5))
    assert found.gutter == (300, 305) and found.probability > 0.9


def test_an_edge_of_part_of_the_height_is_no_seam():
    single = textured(1, 256, 512)
    single[100:230, 250:] = textured(2, 130, 262)
    assert find_seam(single).probability < 0.5
    assert find_seam(np.full((256, 512, 3), 130, np.uint8)).probability < 0.5
    assert find_seam(textured(3, 256, 512)).probability < 0.5


def test_a_seam_outside_the_search_is_not_found():
    assert find_seam(beside(120, 480, 256), (0.35, 0.65)).probability < 0.5
    assert abs(find_seam(beside(120, 480, 256), (0.1, 0.3)).position - 120) <= 1


def test_drawn_diptychs_and_single_pictures():
    """A light instance of benchmarks/seam.py, which says 99.6 % close and 97.8 % rejected of 500 each."""
    shares = dict(benchmark.measure(count=25))
    assert shares["diptychs, seam within 4 pixels"] >= 0.92
    assert shares["single pictures rejected"] >= 0.88


def jobs_of(folder, pixels, layout):
    path = save_image(Image.fromarray(pixels), folder, "generate", "aabb")
    return [Job("ccdd", {"picture": path, "layout": layout})]


def test_panels_are_cut_at_the_seam_without_the_line(tmp_path):
    worker = split.STAGE.worker(SynthConfig(), tmp_path)
    pixels = beside(210, 190, 192, line=4)
    (across,) = worker(jobs_of(tmp_path, pixels, "left-right"))
    assert across["seam"] == 212
    first, second = (load_image(tmp_path, path) for path in across["panels"])
    assert np.array_equal(np.asarray(first), pixels[:, :210])
    assert np.array_equal(np.asarray(second), pixels[:, 214:])
    (down,) = worker(jobs_of(tmp_path, np.ascontiguousarray(pixels.transpose(1, 0, 2)), "top-bottom"))
    assert (down["seam"], down["probability"]) == (across["seam"], across["probability"])
    assert [load_image(tmp_path, path).size for path in down["panels"]] == [(192, 210), (192, 190)]


def test_the_verdict_follows_the_limit_without_doing_anything_again():
    row = Row("id", {}, {"seam": 5, "probability": 0.7, "panels": ["a", "b"]})
    assert split.verdict(SynthConfig(), row) == ""
    strict = SynthConfig(split=SplitConfig(min_probability=0.8))
    assert split.verdict(strict, row) == "no seam: probability 0.70 is below 0.8"


def test_pictures_that_cannot_be_split_fail_alone(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    broken = Job("a", {"picture": "broken.png", "layout": "left-right"})
    tiny = jobs_of(tmp_path, np.zeros((20, 40, 3), np.uint8), "left-right")[0]
    absent = Job("b", {"picture": "absent.png", "layout": "left-right"})
    results = split.STAGE.worker(SynthConfig(), tmp_path)([broken, tiny, absent])
    assert all(isinstance(result, Failed) for result in results)
    assert "broken.png is not a readable picture" in results[0].reason
    assert "40x20" in results[1].reason


@pytest.mark.parametrize("search", [(0.6, 0.4), (0.0, 0.5), (0.5, 1.2)])
def test_a_senseless_search_is_refused(search, tmp_path):
    with pytest.raises(ToolError, match="split.search"):
        split.STAGE.worker(SynthConfig(split=SplitConfig(search=search)), tmp_path)
