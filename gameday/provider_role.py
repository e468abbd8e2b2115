"""The part of a cloud provider that no person plays: the Node object of a dead machine is removed after a while.

A cloud's node lifecycle controller does this for a machine that does not exist any more, and only then are pods that
are bound to it (terminating, or of a StatefulSet) let go. Without a cloud it is played here, automatically, after a
declared delay, and written on the timeline as the provider's act.
"""

from __future__ import annotations

import threading

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from gameday.clusters import is_ready
from gameday.errors import HarnessError
from gameday.session import Session
from gameday.timeline import now

# Seconds from a node being NotReady and its machine dead to the removal of its Node object. The document names no
# figure; this is longer than the pods' own toleration (5 s), so that they are evicted first, as on a cloud.
NODE_REMOVAL_DELAY_S = 10.0
_LOOK_EVERY_S = 1.0


class ProviderRole:
    """Looks at nodes and machines from `start` until `stop`, in a thread of its own."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._since: dict[str, float] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._loop, daemon=True, name="provider").start()

    def stop(self) -> None:
        """Stop looking; a removal under way is finished."""
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            try:
                self._look()
            except (ApiException, HTTPError, HarnessError) as error:
                self._session.timeline.append("error", "harness", where="provider", message=str(error).splitlines()[0])

    def _look(self) -> None:
        nodes = self._session.core.list_node(_request_timeout=5).items
        lost = {node.metadata.name for node in nodes if not is_ready(node)}
        dead = lost - self._running() if lost else lost
        _, moment = now()
        self._since = {name: self._since.get(name, moment) for name in dead}
        for name, since in self._since.items():
            if moment - since >= NODE_REMOVAL_DELAY_S:
                self._session.core.delete_node(name)
                self._session.timeline.append("provider.act", "provider", act="node-removed", node=name)

    def _running(self) -> set[str]:
        return {item.name for item in self._session.region.nodes(self._session.engine) if item.running}
