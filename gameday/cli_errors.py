"""How a command of `chaos` ends: an error of the harness is one sentence on stderr and the exit code it stands for."""

from __future__ import annotations

import functools
from collections.abc import Callable

import click

from gameday.errors import ChaosError


def says_errors[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """Decorate the function of a click command, below click's own decorators.

    A `ChaosError` becomes one line on stderr, without a traceback, and the exit code of its class (see
    `gameday.errors`); every other exception passes, as it is a bug whose traceback is wanted.

        @click.command()
        @click.argument("folder")
        @says_errors
        def judge(folder: str) -> None: ...
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ChaosError as error:
            sentence = " ".join(str(error).split())
            click.echo(sentence or type(error).__name__, err=True)
            raise click.exceptions.Exit(int(error.exit_code)) from None

    return wrapped
