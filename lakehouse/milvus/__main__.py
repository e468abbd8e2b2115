"""`python -m lakehouse.milvus` serves; the environment says how."""

from __future__ import annotations

import logging
import os
import sys

from lakehouse.environment import SettingsError
from lakehouse.milvus.server import serve
from lakehouse.milvus.settings import read_settings

_USAGE = 64


def main() -> int:
    """Serve and return the exit code: 0 after a signal, 64 for bad input."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"milvus: {error}\n")
        return _USAGE
    serve(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
