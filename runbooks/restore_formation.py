"""Restore the objects of a formation from its newest backup by Velero."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from kubernetes import client

from gameday.errors import UsageError
from gameday.regions import api_client
from gameday.waiting import wait_until
from lakehouse.backups.backup import NEWEST, pick
from lakehouse.backups.velero import VeleroBackups
from lakehouse.deploy import endpoints, not_ready, not_serving
from lakehouse.formation import FORMATION_LABEL, NAMESPACE, RESTARTED, Formation
from lakehouse.formations import FORMATIONS
from runbooks.runbook import Parameter, Runbook, Situation, Step

_READY_DEADLINE_S = 240.0
_SERVING_DEADLINE_S = 120.0


def _choose(situation: Situation) -> str:
    """Find the backup that is asked for among those that can be restored from."""
    formation = _formation(situation)
    listed = VeleroBackups(situation.region, situation.engine, formation).backups()
    asked = situation.values["backup"]
    chosen = pick(listed, asked)
    if chosen is None:
        kind = f"velero-{formation.name}"
        raise UsageError(
            f"there is no backup {asked} to restore {formation.name} from: see `chaos backup status {kind}`"
        )
    situation.found["backup"] = chosen.name
    return f"{chosen.name}, {chosen.age_s(time.time()):.0f} s old"


def _formation(situation: Situation) -> Formation:
    asked = situation.values["formation"]
    for formation in FORMATIONS:
        if formation.name == asked:
            return formation
    raise UsageError(f"there is no formation {asked!r}: there are {', '.join(one.name for one in FORMATIONS)}")


def _restore(situation: Situation) -> str:
    backups = VeleroBackups(situation.region, situation.engine, _formation(situation))
    status = backups.restore(situation.found["backup"])
    return f"{status['progress']['itemsRestored']} of {status['progress']['totalItems']} objects"


def _restart(situation: Situation) -> str:
    """Roll all pods out anew: what runs read its settings when it began, and may have read corrupted ones."""
    apps = client.AppsV1Api(api_client(situation.region.kubeconfig))
    selector = f"{FORMATION_LABEL}={situation.values['formation']}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    patch = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}}
    names = []
    for item in apps.list_namespaced_deployment(NAMESPACE, label_selector=selector).items:
        apps.patch_namespaced_deployment(item.metadata.name, NAMESPACE, patch)
        names.append(item.metadata.name)
    for item in apps.list_namespaced_stateful_set(NAMESPACE, label_selector=selector).items:
        apps.patch_namespaced_stateful_set(item.metadata.name, NAMESPACE, patch)
        names.append(item.metadata.name)
    return ", ".join(names)


def _await_ready(situation: Situation) -> str:
    api, formation = api_client(situation.region.kubeconfig), _formation(situation)
    wait_until(f"{formation.name} to be ready", lambda: not_ready(api, formation), deadline_s=_READY_DEADLINE_S)
    return f"{formation.replicas} pods"


def _await_serving(situation: Situation) -> str:
    formation = _formation(situation)
    address = endpoints(situation.region, situation.engine)[formation.name]
    wait_until(f"{formation.name} to serve", lambda: not_serving(formation, address), deadline_s=_SERVING_DEADLINE_S)
    return f"at {address}"


RESTORE_FORMATION = Runbook(
    name="restore-formation",
    title="Restore the objects of a formation from a backup by Velero",
    when="ConfigMaps, Secrets or other objects of a formation are deleted or corrupted, or all of it is gone. "
    "Its volumes are left as they are.",
    steps=(
        Step("choose-backup", "sre", "choose the backup to restore from", _choose, _choose),
        Step("restore-objects", "sre", "have Velero put the objects back, and mend those that differ", _restore),
        Step("restart-pods", "sre", "roll its pods out anew, so that none goes on with corrupted settings", _restart),
        Step("await-ready", "sre", "wait until all of its pods are ready", _await_ready),
        Step("await-serving", "sre", "wait until clients are served", _await_serving),
    ),
    parameters=(
        Parameter("formation", f"which one: {', '.join(formation.name for formation in FORMATIONS)}"),
        Parameter("backup", "the name of a backup (`chaos backup status`), or `newest`", NEWEST),
    ),
)
