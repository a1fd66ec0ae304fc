"""All stages after another on drawn diptychs: what is made, kept, exported, reported, and made only once."""

import dataclasses
import json
import subprocess
import sys

import pytest

from tests.tools.synthesize_data.drawn_run import drawn_config, paint
from tools.common.errors import ToolError
from tools.synthesize_data.__main__ import main, run_steps, steps_of
from tools.synthesize_data.command_line import Command
from tools.synthesize_data.config_files import load_config
from tools.synthesize_data.output.export import export_run, subject_share
from tools.synthesize_data.output.plan import plan_run
from tools.synthesize_data.output.report import link, take_marks, write_report
from tools.synthesize_data.pipeline.lineage import said_of_pairs
from tools.synthesize_data.pipeline.run import Run, open_run
from tools.synthesize_data.stages.order import ORDER, STAGES, TWO
from uno_jax.data.config import SourceConfig
from uno_jax.data.records import parse_source
from uno_jax.support.errors import InUseError
from uno_jax.toybox import load_subjects


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("synth") / "run"
    folder.mkdir()
    config = drawn_config(folder)
    config = dataclasses.replace(config, export=dataclasses.replace(config.export, val_share=0.3))
    with pytest.MonkeyPatch.context() as patch, open_run(folder, config, STAGES) as run:
        paint(patch)
        for command in ORDER:
            if command == "export":
                export_run(run)
            else:
                run.run_stage(command)
        write_report(run)
        yield run


@pytest.mark.slow
def test_every_stage_has_a_row_for_every_job(made):
    for stage in STAGES:
        assert len(made.rows(stage)) == len(made.jobs(stage)) > 0
        ids = [json.loads(line)["id"] for line in made.manifest(stage).path.read_text().splitlines()]
        assert len(ids) == len(set(ids)) == len(made.jobs(stage))


@pytest.mark.slow
def test_pictures_without_a_seam_are_rejected_and_the_others_kept(made):
    seamless = {row.id for row in made.rows("generate") if row.inputs["seed"] % 5 == 0}
    verdicts = {row.inputs["parent"]: made.verdict("split", row) for row in made.rows("split")}
    wrong = [id for id, verdict in verdicts.items() if bool(verdict) != (id in seamless)]
    assert seamless and len(wrong) <= 1
    assert all("no seam" in verdict for verdict in verdicts.values() if verdict)


@pytest.mark.slow
def test_both_kinds_of_pairs_come_out(made):
    for kind, references in (("single", 1), ("two", 2)):
        entries = []
        for split in ("train", "val"):
            path = made.folder / "export" / kind / f"{split}.json"
            listed = json.loads(path.read_text())
            entries += listed
            if listed:
                records = parse_source(SourceConfig(str(path)))
                assert not records.sources[0].bad
                assert len(parse_source(SourceConfig(str(path), min_score=0))) == len(listed)
                assert {len(record.refs) for record in records} == {references}
        assert entries
    (sample, *_) = json.loads((made.folder / "export/two/train.json").read_text())
    assert all((made.folder / "export/two" / path).is_file() for path in sample["image_paths"])


@pytest.mark.slow
def test_no_held_out_subject_is_trained_on(made):
    shares = {"train": [], "val": []}
    panels = {row.id: row for row in made.rows("split")}
    for split in shares:
        targets = json.loads((made.folder / f"export/single/{split}.json").read_text())
        for entry in targets:
            id = entry["image_tgt_path"].split("/")[-1].split("_")[0]
            shown = filter(None, (panels[id].inputs["subject"], panels[id].inputs["other"]))
            shares[split].append(min(map(subject_share, shown)))
    assert shares["train"] and min(shares["train"]) >= 0.3
    assert shares["val"] and max(shares["val"]) < 0.3


@pytest.mark.slow
def test_shards_that_are_missing_are_written(made):
    shards = list((made.folder / "export/single").glob("train-shards-*"))
    assert len(shards) == 1
    for file in shards[0].iterdir():
        file.unlink()
    export_run(made)
    assert (shards[0] / "records.json").is_file()


@pytest.mark.slow
def test_a_run_without_second_subjects_ends_well(made, capsys):
    config = dataclasses.replace(made.config.diptychs, two=0)
    single = Run(made.folder, dataclasses.replace(made.config, diptychs=config), STAGES)
    assert single.kept("taxonomy") and single.jobs("detect") == []
    run_steps(single, TWO, retry_failed=False)
    assert "detect: no kept pair shows a second subject" in capsys.readouterr().out


@pytest.mark.slow
def test_the_datasheet_counts_what_is_there(made):
    sheet = json.loads((made.folder / "export/datasheet.json").read_text())
    listed = json.loads((made.folder / "export/single/train.json").read_text())
    assert sheet["samples"]["single/train"] == len(listed)
    assert sheet["funnel"]["split"]["rows"] == len(made.rows("split"))
    assert "no seam" in sheet["funnel"]["split"]["left out"]
    assert sum(sheet["scores"].values()) == len(made.rows("filter-vlm"))
    assert sum(sheet["cosines"].values()) == len(made.rows("filter-dino"))
    assert "EfficientNet-Lite0" in (made.folder / "export/datasheet.md").read_text()


@pytest.mark.slow
def test_the_report_shows_kept_and_rejected_pairs(made):
    page, said = (made.folder / "report.html").read_text(), said_of_pairs(made)
    for row in made.kept("filter-vlm")[:3]:
        assert row.id in page and f'src="{row.inputs["second"]}"' in page
        shown = said[row.inputs["parent"]]
        assert f"<small>{shown.prompt}</small>" in page and f"<b>{' + '.join(shown.subjects)}</b>" in page
    assert any(len(each.subjects) == 2 for each in said.values())
    assert f"<span>{sum(row.result['score'] == 4 for row in made.rows('filter-vlm'))} (" in page
    assert "filter-dino: kept" in page and "UNO's paper" in page


@pytest.mark.slow
def test_a_trial_takes_a_part_that_grows_with_its_limit(made):
    jobs = {}
    for limit in (3, 5):
        trial = Run(made.folder, dataclasses.replace(made.config, limit=limit), STAGES)
        assert len(trial.jobs("taxonomy")) == limit and len(trial.jobs("diptychs")) <= limit
        jobs[limit] = {job.id for job in trial.jobs("taxonomy")}
    assert jobs[3] < jobs[5] < {job.id for job in made.jobs("taxonomy")}


@pytest.mark.slow
def test_the_same_again_makes_nothing(made, capsys):
    before = {stage: made.manifest(stage).path.read_bytes() for stage in STAGES}
    for stage in STAGES:
        made.run_stage(stage)
    assert before == {stage: made.manifest(stage).path.read_bytes() for stage in STAGES}
    assert "ignoring" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_threshold_moves_verdicts_without_new_rows(made):
    config = made.config
    strict = dataclasses.replace(config.filter_dino, threshold=0.9)
    moved = Run(made.folder, dataclasses.replace(config, filter_dino=strict), STAGES)
    assert [job.id for job in moved.jobs("filter-dino")] != []
    assert len(moved.rows("filter-dino")) <= len(made.rows("filter-dino"))
    assert len(moved.kept("filter-dino")) < len(made.kept("filter-dino"))
    assert {job.id for job in moved.jobs("filter-vlm")} <= {job.id for job in made.jobs("filter-vlm")}


@pytest.mark.slow
def test_a_setting_that_counts_starts_its_stage_and_what_follows_anew(made):
    config = made.config
    other = dataclasses.replace(config.split, search=(0.3, 0.7))
    moved = Run(made.folder, dataclasses.replace(config, split=other), STAGES)
    assert moved.rows("generate") == made.rows("generate")
    assert moved.rows("split") == [] and len(moved.jobs("split")) == len(made.jobs("split"))


@pytest.mark.slow
def test_marks_are_a_filter_over_any_verdict(made, tmp_path):
    kept = made.kept("filter-vlm")[0]
    rejected = next(row for row in made.rows("filter-dino") if made.verdict("filter-dino", row))
    file = tmp_path / "marks.json"
    file.write_text(json.dumps({kept.id: "reject", rejected.id: "keep"}))
    take_marks(made, file)
    marked = Run(made.folder, made.config, STAGES)
    assert marked.verdict("filter-vlm", kept) == "rejected by hand"
    assert marked.verdict("filter-dino", rejected) == ""
    file.write_text(json.dumps({kept.id: "", rejected.id: ""}))
    take_marks(marked, file)
    assert Run(made.folder, made.config, STAGES).marks == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable JSON"),
        ("[1]", 'must be {"row id": "keep" or "reject"}'),
        ('{"a": "perhaps"}', 'must be {"row id": "keep" or "reject"}'),
        ('{"a": "keep"}', "are not in .*, such as a"),
    ],
)
def test_marks_that_cannot_be_taken(made, tmp_path, content, message):
    file = tmp_path / "marks.json"
    file.write_text(content)
    with pytest.raises(ToolError, match=message):
        take_marks(made, file)


@pytest.mark.slow
def test_two_commands_do_not_work_in_one_run(made):
    with (
        pytest.raises(InUseError, match="is in use by"),
        open_run(made.folder, made.config, STAGES),
    ):
        pass


def command(*words: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "tools.synthesize_data", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True)


def test_a_run_of_imported_pairs_is_filtered(tmp_path):
    command = Command(name="run", run=tmp_path)
    (tmp_path / "manifest").mkdir()
    assert steps_of(command) == ORDER
    (tmp_path / "manifest/import.jsonl").touch()
    assert steps_of(command) == ("filter-dino", "filter-vlm", "export")
    (tmp_path / "manifest/taxonomy.jsonl").touch()
    assert steps_of(command) == ORDER


def test_a_run_can_end_before_second_references(tmp_path):
    command = Command(name="run", run=tmp_path, until="export")
    assert steps_of(command) == ORDER[: ORDER.index("export") + 1] and "detect" not in steps_of(command)
    with pytest.raises(ToolError, match="--until paint: expected a stage of this run, taxonomy, subjects"):
        steps_of(dataclasses.replace(command, until="paint"))


def test_a_plan_says_what_is_asked_for_at_most():
    small = dataclasses.replace(load_config("small"), limit=40)
    planned = {row["stage"]: row for row in plan_run(small)}
    assert planned["generate, diptychs"] == {
        **{"stage": "generate, diptychs", "rows": 40, "width": 256, "height": 128},
        **{"steps": 28, "references": 0},
    }
    assert planned["second-reference"]["rows"] == 20 and planned["filter-vlm"]["rows"] == 40
    whole = {row["stage"]: row["rows"] for row in plan_run(load_config("flux_referenced"))}
    assert whole["subjects"] == 365 * 150
    assert (
        whole["generate, second panels"] + whole["generate, with another"] == whole["filter-dino"] == 219_000
    )
    assert whole["generate, first panels"] == 219_000 + whole["generate, with another"]


def test_the_toy_world_draws_a_taxonomy_of_its_own_names(tmp_path):
    listed = tmp_path / "mine.json"
    settings = load_config("small")
    mine = dataclasses.replace(settings, taxonomy=dataclasses.replace(settings.taxonomy, path=str(listed)))
    listed.write_text(json.dumps({"mine": [subject.name for subject in load_subjects(split="train")[:2]]}))
    STAGES["generate"].check_settings(mine)
    listed.write_text(json.dumps({"mine": [load_subjects(split="val")[0].name, "my cup"]}))
    with pytest.raises(ToolError, match=r"mine\.json has 2 others, such as "):
        STAGES["generate"].check_settings(mine)


def test_settings_stay_with_the_run_and_changes_are_told(tmp_path):
    first = command("taxonomy", "--run", tmp_path, "--config", "small", "--taxonomy.groups", "Objects")
    assert first.returncode == 0, first.stderr
    again = command("taxonomy", "--run", tmp_path, "--split.min-probability", "0.7")
    assert again.returncode == 0, again.stderr
    assert "settings changed: split.min_probability 0.5 -> 0.7" in again.stdout
    assert json.loads((tmp_path / "config.json").read_text())["taxonomy"]["groups"] == ["Objects"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["taxonomy"], "no run directory: pass --run DIR"),
        (["taxonomy", "--run", "{tmp}/new"], "holds no run yet: pass --config FILE"),
        (
            ["taxonomy", "--run", "{tmp}/new", "--config", "nowhere.py"],
            "expected a file, or one of flux, flux_referenced, small, small_referenced",
        ),
        (["taxonomy", "--run", "{tmp}/new", "--config", "{tmp}/empty.py"], "must define get_config"),
        (["taxonomy", "--run", "{tmp}/old"], "does not hold settings of this program"),
        (["generate", "--run", "{tmp}/new", "--config", "small"], "no row was kept before it"),
        (["export", "--run", "{tmp}/new", "--config", "small"], "no pair was kept"),
        (["import", "--run", "{tmp}/new", "--config", "small"], "pass --source"),
        (["import", "--run", "{tmp}/new", "--config", "small", "--source", "{tmp}/old"], "no Parquet files"),
        (["marks", "--run", "{tmp}/new", "--config", "small"], "no marks at None"),
    ],
)
def test_command_lines_that_cannot_work(tmp_path, capsys, words, message):
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/config.json").write_text('{"engine": "steam"}')
    with pytest.raises(SystemExit) as stop:
        main([word.format(tmp=tmp_path) for word in words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new/config.json").exists()  # what was refused is not the run's settings


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("pictures/a b.png", "pictures/a%20b.png"),
        ("/photos/ä#1?.png", "/photos/%C3%A4%231%3F.png"),
        ("https://a.org/b.png?c=1", "https://a.org/b.png?c=1"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("data:text/html,x", "data%3Atext/html%2Cx"),
        (" JavaScript:alert(1)", "%20JavaScript%3Aalert%281%29"),
        ("\ud83d.png", "%ED%A0%BD.png"),
    ],
    ids=ascii,
)
def test_the_page_links_to_pictures_alone(path, address):
    assert link(path) == address
