"""The server process of a replica."""

from __future__ import annotations

import gc

from lakehouse.mds.app import create_app
from lakehouse.mds.catalogue import MdsCatalog
from lakehouse.mds.readiness import Readiness
from lakehouse.mds.settings import Settings
from lakehouse.serving import DrainingServer, server_config

# What a request may still take after the drain: longer than any of its own time-outs
_FINISH_WITHIN_S = 10


def serve(settings: Settings) -> None:
    """Serve until a signal, on all addresses of the pod; returns when the last request has been answered."""
    catalogue = MdsCatalog(settings)
    readiness = Readiness(catalogue.engine)
    config = server_config(create_app(settings, catalogue, readiness), settings.port, _FINISH_WITHIN_S)
    # what was imported stays for ever: collections need not walk through it while requests wait
    gc.freeze()
    DrainingServer(config, readiness, settings.drain_s).run()
