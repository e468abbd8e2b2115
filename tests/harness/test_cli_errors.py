"""No failure of a command is taken for a verdict: bad usage is 64, a bug is 3, and neither is 1 or 2."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gameday.cli_errors import ChaosCommand, ChaosGroup, says_errors
from gameday.errors import ExitCode, HarnessError, Inconclusive, UsageError


@click.group()
def root() -> None:
    """A group of others, as Chaos Toolkit's."""


@root.command(cls=ChaosCommand)
@click.argument("folder")
@click.option("--disaster", type=click.IntRange(1, 6))
@says_errors
def one(folder: str, disaster: int | None) -> None:
    """Print its arguments."""
    if folder == "odd":
        raise click.UsageError("these do not go together")
    click.echo(f"{folder} {disaster}")


@root.group(cls=ChaosGroup)
def many() -> None:
    """A group of ours."""


@many.command()
@click.argument("name")
def plain(name: str) -> None:
    """Print the name."""
    click.echo(name)


@many.group()
def deep() -> None:
    """A group of ours in a group of ours."""


@deep.command("plain")
@click.argument("name")
def deep_plain(name: str) -> None:
    """Print the name."""
    click.echo(name)


def run(*words: str) -> Result:
    """Run the commands of this file as a shell would."""
    return CliRunner().invoke(root, list(words))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["one"], "Missing argument 'FOLDER'"),
        (["one", "a", "--disaste"], "No such option"),
        (["one", "a", "--disaster", "9"], "Invalid value for '--disaster'"),
        (["one", "a", "--disaster"], "requires an argument"),
        (["one", "a", "b"], "unexpected extra argument"),
        (["one", "odd"], "these do not go together"),
        (["many", "none"], "No such command 'none'"),
        (["many", "--none", "plain"], "No such option"),
        (["many", "plain"], "Missing argument 'NAME'"),
        (["many", "deep", "plain"], "Missing argument 'NAME'"),
        (["many", "deep", "none"], "No such command 'none'"),
    ],
)
def test_bad_usage_is_64_and_one_sentence(words: list[str], says: str) -> None:
    """What click refuses ends with 64, with one sentence after the usage, on stderr."""
    result = run(*words)
    assert result.exit_code == ExitCode.USAGE, result.output
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert says in errors[0]


def test_a_group_without_a_command_shows_its_help_and_is_bad_usage() -> None:
    """Nothing was asked for, so nothing is answered, least of all with the code for inconclusive."""
    result = run("many")
    assert result.exit_code == ExitCode.USAGE
    assert "A group of ours." in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["one", "a", "--disaster", "5"], "a 5\n"),
        (["many", "plain", "b"], "b\n"),
        (["many", "deep", "plain", "c"], "c\n"),
        (["one", "--help"], "Print its arguments."),
        (["many", "--help"], "A group of ours."),
    ],
)
def test_good_usage_is_as_ever(words: list[str], says: str) -> None:
    """Arguments arrive, and help is no error."""
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert says in result.stdout


def ends(error: Exception) -> Result:
    """Return how a command ends whose function raises `error`."""

    @click.command(cls=ChaosCommand)
    @says_errors
    def command() -> None:
        raise error

    return CliRunner().invoke(command, [])


@pytest.mark.parametrize("error", [UsageError("two\n lines"), Inconclusive("so"), HarnessError("broken")])
def test_an_error_of_the_harness_is_one_sentence(error: UsageError | Inconclusive | HarnessError) -> None:
    """No traceback, one line on stderr, and the code of its class."""
    result = ends(error)
    assert result.exit_code == error.exit_code
    assert result.stderr == " ".join(str(error).split()) + "\n"


@pytest.mark.parametrize("error", [KeyError("bug"), OSError("disk"), EOFError("end"), RuntimeError("odd")])
def test_a_bug_shows_its_traceback_and_is_a_harness_error(error: Exception) -> None:
    """A bug says nothing of a promise: it must not end with 1."""
    result = ends(error)
    assert result.exit_code == ExitCode.HARNESS_ERROR
    assert result.stdout == ""
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.stderr.endswith(f"{type(error).__name__}: {error}\n")


@pytest.mark.parametrize(
    ("error", "code"), [(click.exceptions.Exit(7), 7), (click.Abort(), 1), (click.ClickException("no"), 1)]
)
def test_what_click_raises_is_clicks_own(error: Exception, code: int) -> None:
    """A command that ends itself does so as it says."""
    result = ends(error)
    assert result.exit_code == code
    assert "Traceback" not in result.stderr


_WAITS = """
import signal, subprocess
import click
from gameday.cli_errors import says_errors

@click.command()
@says_errors
def waits():
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            print(child.pid, flush=True)
            child.wait()
        finally:
            child.terminate()
            # a Popen that is left by KeyboardInterrupt does not wait
            child.wait()

# where tests run in the background it is ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
waits()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_ends_what_it_started_and_gives_no_verdict(number: signal.Signals) -> None:
    """Its exit code is that of an error of the harness: click's own is 1, which says that a promise is broken."""
    command = [sys.executable, "-c", _WAITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        child = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(timeout=30) == ExitCode.HARNESS_ERROR
        assert process.stderr.read() == "stopped before it had ended\n"
    assert not Path(f"/proc/{child}").exists()
