"""Whether a replica can serve, which is true only where its database answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

# Less than the load balancer's and the kubelet's own time-outs, so that they get an answer
_ANSWER_WITHIN_S = 0.4


class Readiness:
    """Checks the database when asked, one check at a time; `draining` is set once and for all by SIGTERM."""

    def __init__(self, engine: Engine) -> None:
        self.draining = False
        self._engine = engine
        # a thread of its own: a replica that is full is still ready
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readiness")
        self._check: asyncio.Future[str | None] | None = None

    async def reason_not_ready(self) -> str | None:
        """Return why the replica is not ready, or None where it is."""
        if self.draining:
            return "draining"
        if self._check is None or self._check.done():
            self._check = asyncio.get_running_loop().run_in_executor(self._thread, self._ask_database)
        try:
            return await asyncio.wait_for(asyncio.shield(self._check), _ANSWER_WITHIN_S)
        except TimeoutError:
            return "the database does not answer in time"

    def _ask_database(self) -> str | None:
        try:
            with self._engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError as error:
            return f"the database does not answer ({type(error).__name__})"
        return None

    def close(self) -> None:
        """End the check's thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
