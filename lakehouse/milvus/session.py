"""A replica's session in etcd, as Milvus has one: a key with a lease. A replica that loses it is none any more."""

from __future__ import annotations

import json
import logging
import time

from lakehouse.milvus.etcd import Etcd, EtcdError

_LOG = logging.getLogger(__name__)


class SessionLostError(RuntimeError):
    """The session ended: etcd did not hear of the replica, or the replica of etcd, for too long."""


class Session:
    """The session of a replica; `begin`, then `keep`. Raises EtcdError where it cannot begin."""

    def __init__(self, etcd: Etcd, root: str, replica: str, ttl_s: int) -> None:
        self._etcd = etcd
        self._key = f"{root}/meta/session/querynode-{replica}"
        self._ttl_s = ttl_s
        self._lease = 0

    def begin(self) -> None:
        """Write the session down, with a new lease."""
        self._lease = self._etcd.grant(self._ttl_s)
        value = json.dumps({"ServerName": "querynode", "LeaseID": self._lease}).encode()
        self._etcd.commit([], {self._key: value}, lease=self._lease)

    def keep(self) -> None:
        """Keep the session alive for ever; raises SessionLostError once it is not."""
        heard = time.monotonic()
        while time.monotonic() - heard < self._ttl_s:
            time.sleep(self._ttl_s / 4)
            asked = time.monotonic()
            try:
                if not self._etcd.keep_alive(self._lease):
                    break
                heard = asked
            except EtcdError as error:
                _LOG.warning("session: %s", error)
        raise SessionLostError("the session in etcd is lost")
