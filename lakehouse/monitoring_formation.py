"""What watches the formations: Prometheus, Alertmanager and kube-state-metrics, deployed as a formation is.

It is none of the engines: nobody loads it, no promise is about it, and its pods do not carry the label of formations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import httpx
import yaml

from gameday.alerts import PATH as WEBHOOK_PATH
from gameday.alerts import PORT as WEBHOOK_PORT
from lakehouse.alert_rules import (
    ANSWERS,
    ERROR_RATIO,
    ERRORS_OVER_S,
    ETCD,
    EVALUATE_EVERY_S,
    FOR_S,
    KUBERNETES,
    LEADER,
    LOAD_BALANCER,
    SCRAPE_EVERY_S,
    SELF,
    SERVERS_UP,
    Etcd,
    Objects,
    alert_rules,
    etcds,
)
from lakehouse.backup.ages import EVERY, NEWEST, SIZE
from lakehouse.backup_settings import AGES, AGES_PORT, BACKUP, schedules
from lakehouse.formation import NAMESPACE, SERVICE_LABEL, Entrance, Formation, FormationValues
from lakehouse.provider import LOAD_BALANCER_STATE_PORT

NAME = "monitoring"
REPLICAS = 2
PORT, NODE_PORT = 9090, 30090
# A target on a dead machine refuses nothing, so it is given up in time for the next scrape.
_SCRAPE_TIMEOUT_S = 3
# Alertmanager waits for so long whether more alerts of a kind come of a formation; and, when it has told of some, until
# it tells what is new of them.
GROUP_WAIT_S, GROUP_INTERVAL_S = 1, 5
# From a fault that a scrape can see to its notification: one scrape, one evaluation, `for`, a group's interval, and the
# wait of the second Alertmanager (3 s) are 23 s.
NOTIFIED_WITHIN_S = 30
# The Services of the manifests by which pods are found, and the ports that these listen on.
PEERS, ALERTMANAGER_PORT = "monitoring-peers", 9093
STATE, STATE_PORT = "kube-state-metrics", 8080
# Begins the name of such a Service of an etcd.
_OF_ETCD = "monitoring-"


def monitoring(watched: Mapping[Formation, Objects]) -> Formation:
    """Return what watches these formations, each given with the objects that it was rendered to."""
    found = [etcd for objects in watched.values() for etcd in etcds(objects)]
    wanted = {SELF: 1, LOAD_BALANCER: 1, KUBERNETES: REPLICAS, BACKUP: 1, ETCD: sum(etcd.members for etcd in found)}
    return Formation(
        name=NAME,
        deployments={NAME: REPLICAS, STATE: REPLICAS},
        entrance=Entrance(PORT, NODE_PORT, "/-/ready"),
        config=partial(_config, watched, found),
        declared={
            "monitoring.scrape-every_s": SCRAPE_EVERY_S,
            "monitoring.evaluate-every_s": EVALUATE_EVERY_S,
            "monitoring.for_s": FOR_S,
            "monitoring.errors-over_s": ERRORS_OVER_S,
            "monitoring.error-ratio": ERROR_RATIO,
            "monitoring.group-wait_s": GROUP_WAIT_S,
            "monitoring.group-interval_s": GROUP_INTERVAL_S,
            "monitoring.notified-within_s": NOTIFIED_WITHIN_S,
        },
        lacks=partial(_lacks, wanted),
    )


def _config(
    watched: Mapping[Formation, Objects], found: Sequence[Etcd], values: FormationValues
) -> list[dict[str, Any]]:
    scheduled = schedules([formation.name for formation in watched], values.hour_s)
    documents = {
        "prometheus.yml": prometheus_config(found, values.load_balancer_address),
        "rules.yml": alert_rules(watched, scheduled),
        "alertmanager.yml": alertmanager_config(f"http://{values.harness_address}:{WEBHOOK_PORT}{WEBHOOK_PATH}"),
    }
    data = {name: yaml.safe_dump(document, sort_keys=False, width=120) for name, document in documents.items()}
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(NAME), "data": data}
    return [settings, *(_members(etcd) for etcd in found)]


def _members(etcd: Etcd) -> dict[str, Any]:
    """Return a Service by whose name the members are found, also where that of their formation is lost."""
    spec = {
        "clusterIP": "None",
        # one that is not ready is a member that has no leader, and is asked about that
        "publishNotReadyAddresses": True,
        "selector": {"app.kubernetes.io/name": etcd.name},
        "ports": [{"name": "metrics", "port": etcd.port}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(f"{_OF_ETCD}{etcd.name}"), "spec": spec}


def _metadata(name: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": NAME, SERVICE_LABEL: NAME}
    return {"name": name, "namespace": NAMESPACE, "labels": labels}


def prometheus_config(found: Sequence[Etcd], load_balancer: str) -> dict[str, Any]:
    """Return the configuration of Prometheus: what is scraped, how often, and who is told.

    `load_balancer` is the address of the region's. Debian's Prometheus does not speak with Kubernetes, so pods are
    found by DNS: by headless Services, which have the addresses of all pods that they select.
    """
    jobs = [
        # of itself only whether it can be scraped: that it has begun to look
        {"job_name": SELF, "static_configs": [{"targets": [f"localhost:{PORT}"]}], **_drop_all()},
        {"job_name": KUBERNETES, **_pods(STATE, STATE_PORT)},
        {
            "job_name": LOAD_BALANCER,
            "params": {"scope": ["frontend", "backend"]},
            "static_configs": [{"targets": [f"{load_balancer}:{LOAD_BALANCER_STATE_PORT}"]}],
            **_keep(ANSWERS, SERVERS_UP),
        },
        {"job_name": BACKUP, **_pods(AGES, AGES_PORT), **_keep(NEWEST, SIZE, EVERY)},
    ]
    if found:
        named = {"source_labels": ["__meta_dns_name"], "regex": f"{_OF_ETCD}(.+)", "target_label": "app"}
        members = [_by_name(f"{_OF_ETCD}{etcd.name}", etcd.port) for etcd in found]
        jobs.append({"job_name": ETCD, "dns_sd_configs": members, "relabel_configs": [named], **_keep(LEADER)})
    return {
        "global": {
            "scrape_interval": f"{SCRAPE_EVERY_S}s",
            "scrape_timeout": f"{_SCRAPE_TIMEOUT_S}s",
            "evaluation_interval": f"{EVALUATE_EVERY_S}s",
        },
        "rule_files": ["rules.yml"],
        # one on a dead machine would hold up what comes next
        "alerting": {"alertmanagers": [{"timeout": "2s", **_pods(PEERS, ALERTMANAGER_PORT)}]},
        "scrape_configs": jobs,
    }


def _pods(service: str, port: int) -> dict[str, Any]:
    return {"dns_sd_configs": [_by_name(service, port)]}


def _by_name(service: str, port: int) -> dict[str, Any]:
    return {"names": [service], "type": "A", "port": port, "refresh_interval": f"{SCRAPE_EVERY_S}s"}


def _keep(*metrics: str) -> dict[str, Any]:
    rule = {"source_labels": ["__name__"], "regex": "|".join(metrics), "action": "keep"}
    return {"metric_relabel_configs": [rule]}


def _drop_all() -> dict[str, Any]:
    return {"metric_relabel_configs": [{"source_labels": ["__name__"], "regex": ".+", "action": "drop"}]}


def alertmanager_config(webhook: str) -> dict[str, Any]:
    """Return the configuration of Alertmanager: all that fires goes to one webhook, and that it is over as well."""
    return {
        "route": {
            "receiver": "operators",
            "group_by": ["formation", "alertname"],
            "group_wait": f"{GROUP_WAIT_S}s",
            "group_interval": f"{GROUP_INTERVAL_S}s",
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "operators", "webhook_configs": [{"url": webhook, "send_resolved": True}]}],
    }


def _lacks(wanted: Mapping[str, int], address: str) -> str | None:
    """Tell which targets are not scraped yet, by a replica of Prometheus, or which Alertmanagers it does not know."""
    try:
        targets = _asked(address, "targets")["activeTargets"]
        alertmanagers = len(_asked(address, "alertmanagers")["activeAlertmanagers"])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return f"its API does not answer ({type(error).__name__})"
    up = Counter(target["labels"]["job"] for target in targets if target["health"] == "up")
    short = [f"{up[job]} of {count} targets of {job} are scraped" for job, count in wanted.items() if up[job] < count]
    if alertmanagers < REPLICAS:
        short.append(f"{alertmanagers} of {REPLICAS} Alertmanagers are known")
    return ", ".join(short) or None


def _asked(address: str, what: str) -> dict[str, Any]:
    answer = httpx.get(f"{address}/api/v1/{what}", timeout=2, trust_env=False).raise_for_status().json()
    data: dict[str, Any] = answer["data"]
    return data


# Whom nobody has told yet what to watch: for its name, its entrance and what it declares.
MONITORING = monitoring({})
