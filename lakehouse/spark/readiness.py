"""Whether a replica can serve: only where Kubernetes and the object store answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lakehouse.spark.kubernetes import Kubernetes, KubernetesError
from lakehouse.spark.store import Store

# Less than the load balancer's and the kubelet's own time-outs, so that they get an answer
_ANSWER_WITHIN_S = 0.7
# The load balancer and each node's kubelet ask every second, which is no reason to ask Kubernetes as often.
_GOOD_FOR_S = 1.5


class Readiness:
    """Checks when asked, one check at a time; `draining` is set once and for all by SIGTERM."""

    def __init__(self, kubernetes: Kubernetes, store: Store) -> None:
        self.draining = False
        self._checks: Sequence[Kubernetes | Store] = (kubernetes, store)
        # a thread of its own: a replica that is busy is still ready
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readiness")
        self._check: asyncio.Future[str | None] | None = None
        self._ended_at = 0.0

    async def reason_not_ready(self) -> str | None:
        """Return why the replica is not ready, or None where it is."""
        if self.draining:
            return "draining"
        old = time.monotonic() - self._ended_at > _GOOD_FOR_S
        if self._check is None or (self._check.done() and old):
            self._check = asyncio.get_running_loop().run_in_executor(self._thread, self._ask)
        try:
            return await asyncio.wait_for(asyncio.shield(self._check), _ANSWER_WITHIN_S)
        except TimeoutError:
            return "Kubernetes or the object store does not answer in time"

    def _ask(self) -> str | None:
        try:
            for asked in self._checks:
                asked.check()
        except KubernetesError as error:
            return str(error)
        except OSError as error:
            return f"the object store does not answer ({type(error).__name__})"
        finally:
            self._ended_at = time.monotonic()
        return None

    def close(self) -> None:
        """End the check's thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
