"""The server process of a replica of the submission service."""

from __future__ import annotations

from functools import partial

from lakehouse.serving import DrainingServer, server_config
from lakehouse.spark.app import create_app
from lakehouse.spark.kubernetes import Kubernetes
from lakehouse.spark.readiness import Readiness
from lakehouse.spark.service import Jobs
from lakehouse.spark.settings import Settings
from lakehouse.spark.store import open_store
from lakehouse.spark.submission import environment, submit

# What a request may still take after the drain: longer than any of its own time-outs
_FINISH_WITHIN_S = 15


def serve(settings: Settings) -> None:
    """Serve until a signal, on all addresses of the pod; returns when what was taken has been submitted."""
    kubernetes, store = Kubernetes(settings.namespace), open_store(settings)
    readiness = Readiness(kubernetes, store)
    jobs = Jobs(settings, kubernetes, store, partial(submit, settings=settings, environment=environment()))
    config = server_config(create_app(settings.replica, jobs, readiness), settings.port, _FINISH_WITHIN_S)
    DrainingServer(config, readiness, settings.drain_s).run()
