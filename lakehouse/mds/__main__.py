"""`python -m lakehouse.mds` makes the catalogue's tables where they are missing, and serves; the environment says how.

One process does both: another one before it would import the same once more, 2 s of CPU at each start of a replica,
which is when a zone is lost and there is none to spare.
"""

from __future__ import annotations

import os
import sys

from sqlalchemy.exc import SQLAlchemyError
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from lakehouse.environment import SettingsError
from lakehouse.mds.catalogue import migrate
from lakehouse.mds.server import serve
from lakehouse.mds.settings import read_settings

_FAILED = 1
_USAGE = 64
_DATABASE_DEADLINE_S = 60.0


def main(arguments: list[str]) -> int:
    """Serve until a signal; returns 0, 1 where the database did not answer, 64 for bad input."""
    if arguments:
        return _complain("usage: python -m lakehouse.mds, which takes no arguments", _USAGE)
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        return _complain(str(error), _USAGE)
    retrying = Retrying(
        retry=retry_if_exception_type(SQLAlchemyError), stop=stop_after_delay(_DATABASE_DEADLINE_S), wait=wait_fixed(1)
    )
    try:
        retrying(migrate, settings)
    except RetryError as error:
        last = error.last_attempt.exception()
        seen = " ".join(str(last).split())[:300]
        return _complain(f"waited {_DATABASE_DEADLINE_S:g} s for the database to take the migration: {seen}", _FAILED)
    serve(settings)
    return 0


def _complain(sentence: str, code: int) -> int:
    sys.stderr.write(f"mds: {sentence}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
