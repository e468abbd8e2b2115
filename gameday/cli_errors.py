"""How a command of `chaos` ends: what went wrong is on stderr, and the exit code says what kind of thing it was.

The exit codes 1 and 2 are verdicts here (see `gameday.errors`), but 1 is also Python's for an exception, and 2 click's
for bad usage; neither may be taken for a verdict.
"""

from __future__ import annotations

import functools
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from gameday.errors import ChaosError, ExitCode


def says_errors[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """Decorate the function of a click command, below click's own decorators.

    A `ChaosError` becomes one line on stderr, without a traceback, and the exit code of its class (see
    `gameday.errors`); click's own exceptions pass; every other exception is a bug of the harness, whose traceback is
    shown, and which ends with `ExitCode.HARNESS_ERROR`. So does a command that was stopped by SIGINT or SIGTERM, which
    are the same here: what it had started is ended on the way out.

        @click.command(cls=ChaosCommand)
        @click.argument("folder")
        @says_errors
        def judge(folder: str) -> None: ...
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            _stop_on_sigterm()
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            click.echo("stopped before it had ended", err=True)
            raise click.exceptions.Exit(int(ExitCode.HARNESS_ERROR)) from None
        except ChaosError as error:
            sentence = " ".join(str(error).split())
            click.echo(sentence or type(error).__name__, err=True)
            raise click.exceptions.Exit(int(error.exit_code)) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception:  # noqa: BLE001 - a bug may be any; its traceback is shown
            click.echo(traceback.format_exc(), nl=False, err=True)
            raise click.exceptions.Exit(int(ExitCode.HARNESS_ERROR)) from None

    return wrapped


def _stop_on_sigterm() -> None:
    """Take SIGTERM for Ctrl-C where nobody else takes it: by itself it ends Python with no clean-up at all."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def _usage_is_64() -> Iterator[None]:
    # shown here, where the exception is, as the exit code of click's exception is that of its class
    try:
        yield
    except click.UsageError as error:
        error.show()
        raise click.exceptions.Exit(int(ExitCode.USAGE)) from None


class ChaosCommand(click.Command):
    """A command for which an unknown option, a missing argument or a bad value ends with `ExitCode.USAGE`."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: ANN401 - handed on to click as it is
        """Parse the arguments, as click does."""
        with _usage_is_64():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - a command returns what it likes
        """Run the command, as click does: it may find values that do not go together."""
        with _usage_is_64():
            return super().invoke(ctx)


class ChaosGroup(ChaosCommand, click.Group):
    """A group for which the same holds, and an unknown or missing command; its commands need no class of their own."""
