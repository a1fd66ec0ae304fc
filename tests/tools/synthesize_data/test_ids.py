"""Ids of rows are pinned: an id that moves makes finished runs do everything anew."""

import hashlib

import pytest

from tools.common.manifest import identity
from tools.synthesize_data.config_files import load_config
from tools.synthesize_data.pipeline.run import open_run
from tools.synthesize_data.stages.order import STAGES
from tools.vlm_judge.cases import Case
from tools.vlm_judge.judge import JudgeConfig, round_jobs

INPUTS = {"parent": "0123456789abcdef0123", "subject": "a red mug", "seed": 7, "panel": [128, 128]}
OF_SETTINGS = {
    "small": {
        "taxonomy": "c8a44603300a92351e2d",
        "subjects": "3735b60a4676fb63c95a",
        "scenes": "77087fdee5f45e75602c",
        "diptychs": "7ccb0f50e59cf07c9c72",
        "generate": "6a4a73210ec5cbf9354c",
        "split": "7d79a0639badd3486459",
        "filter-dino": "251f1ca6c7b7e4122b28",
        "filter-vlm": "e586b1d1400e187661e7",
        "detect": "be936be5d694aff0a817",
        "second-reference": "a6f355af888f6747b73b",
        "hashes": "4a73ce2d5077d397c82b",
    },
    "flux": {
        "taxonomy": "c8a44603300a92351e2d",
        "subjects": "71ccf20c53223ce1fdb4",
        "scenes": "1d1db57d0a68ab16de4e",
        "diptychs": "93bc94106bd32df5693b",
        "generate": "85e9319d09f42a0d1460",
        "split": "7d79a0639badd3486459",
        "filter-dino": "053a2e6331e3259ace17",
        "filter-vlm": "710348cdae00258111b1",
        "detect": "5f03c147ffe0d0f4742c",
        "second-reference": "ab0eab5c3cb832efc744",
        "hashes": "4a73ce2d5077d397c82b",
    },
}
OF_A_RUN = {
    "taxonomy": (544, "2e18177ba76a700f6971", "8cc165d3ac27740f"),
    "subjects": (544, "7ff47057385849be5c9d", "07644832ed959e96"),
    "scenes": (544, "35d7e24b0fefdee0b99e", "b0dcb3a35fa11015"),
    "diptychs": (1088, "67070a1ebc42c352d5e6", "6d343887eb14c7ce"),
    "generate": (1088, "7eb5b9adfebd362b1d29", "5c009912e27b843d"),
}
IMPORTED = "dfd8e6ba76cd39a0c671"
JUDGED_APART = ["5b44f50d274954a3c681", "c9f442c46f1b59e845c5"]
JUDGED = "ca280a244d4edfa3509d"


@pytest.mark.parametrize("preset", OF_SETTINGS)
def test_ids_of_known_inputs(preset):
    config = load_config(preset)
    ids = {name: identity(name, stage.settings(config), INPUTS) for name, stage in STAGES.items()}
    assert ids == OF_SETTINGS[preset]


def test_ids_of_an_imported_pair():
    assert identity("import", None, {"source": "/lists/a.json", "entry": 0}) == IMPORTED


def test_ids_of_a_judges_answer(tmp_path):
    """Two references and a picture, the second of three rounds."""
    paths = [tmp_path / name for name in ("a.png", "b.png", "0_0.png")]
    case = Case(paths[2], "a cat and a can", tuple(paths[:2]), ("cat", "can"))
    digests = {path: hashlib.sha256(path.name.encode()).hexdigest() for path in paths}
    assert round_jobs(case, digests, JudgeConfig())[1].id == JUDGED
    ids = [job.id for job in round_jobs(case, digests, JudgeConfig(form="context"))]
    assert ids[:2] == JUDGED_APART and len(set(ids)) == 6


@pytest.mark.slow
def test_the_jobs_of_a_small_run(tmp_path):
    """The stages before the first picture: how many jobs, the first one's id, and a hash of all ids."""
    found = {}
    with open_run(tmp_path, load_config("small"), STAGES) as run:
        for stage in ("taxonomy", "subjects", "scenes", "diptychs"):
            run.run_stage(stage)
        for stage in OF_A_RUN:
            ids = [job.id for job in run.jobs(stage)]
            found[stage] = (len(ids), ids[0], hashlib.sha256("".join(ids).encode()).hexdigest()[:16])
    assert found == OF_A_RUN
