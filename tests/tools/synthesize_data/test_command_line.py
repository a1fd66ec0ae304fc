"""Arguments of uno-synthesize: every option of a command is in its help; settings come from the run."""

import re

import pytest

from tools.common.errors import ToolError
from tools.synthesize_data.command_line import COMMANDS, parse_command
from tools.synthesize_data.config_files import load_config, store_config
from tools.synthesize_data.stages.order import STAGES


def help_text(capsys, *words: str) -> str:
    """Without tyro's frames and line breaks."""
    with pytest.raises(SystemExit) as stop:
        parse_command([*words, "--help"])
    assert stop.value.code == 0
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


def test_there_is_a_command_for_every_stage():
    assert STAGES.keys() < COMMANDS.keys()


def test_without_arguments_the_commands_are_listed(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_command([])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert all(name in said for name in COMMANDS)


@pytest.mark.parametrize(
    ("command", "own"),
    [("run", "--retry-failed"), ("split", "--retry-failed"), ("import", "--source"), ("marks", "--source")],
)
def test_all_options_of_a_command_stand_in_its_help(capsys, command, own):
    said = help_text(capsys, command)
    assert all(option in said for option in ("--run", "--config", own, "--engine", "--split.min-probability"))


def test_options_of_other_commands_are_not_accepted(capsys):
    for words in (["export", "--retry-failed"], ["split", "--source", "x"]):
        assert words[1] not in help_text(capsys, words[0])


def test_help_shows_the_settings_of_the_preset(capsys):
    assert "(default: efficientnet-lite0)" in help_text(capsys, "run", "--config", "small")
    assert "(default: dinov2)" in help_text(capsys, "run")


def test_options_override_the_preset(tmp_path):
    words = ["run", "--run", str(tmp_path), "--config", "small", "--split.min-probability", "0.7"]
    command = parse_command([*words, "--retry-failed"])
    assert (command.name, command.run, command.retry_failed) == ("run", tmp_path, True)
    assert command.settings.split.min_probability == 0.7
    assert command.settings.generate == load_config("small").generate


def test_settings_come_from_the_run_if_there_is_no_config(tmp_path):
    store_config(tmp_path, load_config("small"))
    command = parse_command(["marks", f"--run={tmp_path}", "--source", "marks.json"])
    assert command.settings == load_config("small") and str(command.source) == "marks.json"
    assert parse_command(["split", "--run", str(tmp_path), "--config", "flux"]).settings == load_config(
        "flux"
    )


@pytest.mark.parametrize(
    "words",
    [["fly"], ["--run"], ["split", "--run", "{}", "--config", "small", "--wings", "2"], ["split", "--run"]],
)
def test_arguments_that_cannot_be_read_exit_2(tmp_path, capsys, words):
    with pytest.raises(SystemExit) as stop:
        parse_command([word.format(tmp_path) for word in words])
    assert stop.value.code == 2 and "error:" in capsys.readouterr().err


def test_a_run_has_to_begin_with_a_config(tmp_path):
    with pytest.raises(ToolError, match="holds no run yet: pass --config FILE"):
        parse_command(["split", "--run", str(tmp_path)])
