"""What ``--help``, the manual page and completion say about each command."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from geartrain.cli.app import app
from geartrain.cli.example_command import ExampleCommand
from geartrain.cli.man_page import format_man_page
from tests.cli.command import geartrain

CONTEXT = click.Context(app, info_name="geartrain", **app.context_settings)
COMMANDS = app.list_commands(CONTEXT)
commands = pytest.mark.parametrize("name", COMMANDS)


def load(name: str) -> ExampleCommand:
    command = app.get_command(CONTEXT, name)
    assert isinstance(command, ExampleCommand)
    return command


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_fits_80_columns(name: str | None) -> None:
    arguments = [] if name is None else [name]
    result = CliRunner().invoke(app, [*arguments, "--help"], prog_name="geartrain", terminal_width=80)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80


@commands
def test_help_describes_every_option_and_its_default(name: str) -> None:
    command = load(name)
    context = click.Context(command, CONTEXT, name)
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help
            _, text = option.get_help_record(context) or ("", "")
            is_flag = option.is_flag or option.count
            assert is_flag or option.multiple or "default" in text.lower(), option.name


@commands
def test_the_examples_of_a_command_are_valid(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").touch()
    command = load(name)
    assert command.examples
    for example in command.examples:
        assert len(example) <= 78
        words = shlex.split(example, posix=True)
        start = words.index("geartrain")
        assert words[start + 1] == name
        arguments = words[start + 2 :]
        end = next((index for index, word in enumerate(arguments) if word in ("|", "<", ">")), None)
        with command.make_context(name, arguments[:end], parent=CONTEXT):
            pass  # only parse them, and close the file


def test_the_manual_page_describes_every_command_and_is_valid() -> None:
    page = format_man_page(CONTEXT)
    for name in COMMANDS:
        command = load(name)
        assert f'\n.SS "geartrain {name} ' in page
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[-1].replace("-", "\\-") in page
        assert all(example.replace("-", "\\-").replace('"', "\\(dq") in page for example in command.examples)
    check = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-z"], input=page.encode(), capture_output=True, check=True
    )
    assert check.stderr == b""
    assert geartrain("--man-page").stdout.decode() == page


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_completion_script(shell: str) -> None:
    result = geartrain(environment={"_GEARTRAIN_COMPLETE": f"{shell}_source"})
    assert (result.returncode, result.stderr) == (0, b"")
    assert f"_GEARTRAIN_COMPLETE={shell}_complete".encode() in result.stdout


@pytest.mark.parametrize(
    ("line", "completions"), [("geartrain sub", ["plain,submit"]), ("geartrain status --so", ["plain,--sort"])]
)
def test_commands_and_options_are_completed(line: str, completions: list[str]) -> None:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    result = geartrain(environment={"_GEARTRAIN_COMPLETE": "bash_complete", **words})
    assert result.stdout.decode().splitlines() == completions
