"""`python -m lakehouse.spark serve` serves submissions; with `driver …` and `executor` Spark starts its pods."""

from __future__ import annotations

import os
import subprocess
import sys

from lakehouse.spark.entrypoint import driver_command, executor_command, start

_FAILED = 1
_USAGE = 64


def main(arguments: list[str]) -> int:
    """Run what the first word says and return its exit code: 1 where Spark cannot be started, 64 for bad input."""
    word, *others = arguments or [""]
    try:
        if word == "executor":
            start(executor_command(os.environ), os.environ["SPARK_HOME"])
        if word == "driver":
            start(driver_command(os.environ, others), os.environ["SPARK_HOME"])
    except KeyError as error:
        return _complain(f"{error.args[0]} is not set", _USAGE)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        return _complain(f"the {word} cannot be started: {said}", _FAILED)
    if arguments != ["serve"]:
        return _complain("usage: python -m lakehouse.spark serve|driver|executor", _USAGE)
    return _serve()


def _serve() -> int:
    # only here: what the service is made of takes a second to load, and pods of Spark need none of it
    from lakehouse.environment import SettingsError  # noqa: PLC0415
    from lakehouse.spark.server import serve  # noqa: PLC0415
    from lakehouse.spark.settings import read_settings  # noqa: PLC0415

    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        return _complain(str(error), _USAGE)
    serve(settings)
    return 0


def _complain(sentence: str, code: int) -> int:
    sys.stderr.write(f"spark: {sentence}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
