"""All runbooks there are."""

from __future__ import annotations

from runbooks.restore_etcd import RESTORE_ETCD
from runbooks.restore_formation import RESTORE_FORMATION
from runbooks.restore_postgres import RESTORE_POSTGRES
from runbooks.runbook import Runbook

RUNBOOKS: tuple[Runbook, ...] = (RESTORE_FORMATION, RESTORE_ETCD, RESTORE_POSTGRES)
