"""Alert rules on symptoms, made from what formations were rendered to, so that no object is without one.

Two replicas of Prometheus evaluate them, each by itself, over what it scraped of Kubernetes' state (twice, as
kube-state-metrics has two replicas too), of etcd, and of the region's load balancer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.backup.ages import NEWEST
from lakehouse.backup_settings import BACKUP, Schedule
from lakehouse.backups.backup import LATE_FACTOR
from lakehouse.formation import NAMESPACE, RUNNING, Formation

SCRAPE_EVERY_S = 5
EVALUATE_EVERY_S = 5
# A condition that lasts for so long is a symptom: what two scrapes in a row have seen.
FOR_S = 5
# Of the answers of the last so many seconds, the part that may be 5xx.
ERRORS_OVER_S = 30
ERROR_RATIO = 0.05

# The jobs of Prometheus, which put their name on what they scrape.
SELF, KUBERNETES, ETCD, LOAD_BALANCER = "prometheus", "kube-state-metrics", "etcd", "load-balancer"

# What the rules read of each source; sources have hundreds of other metrics that nobody would look at.
LEADER = "etcd_server_has_leader"
ANSWERS, SERVERS_UP = "haproxy_frontend_http_responses_total", "haproxy_backend_active_servers"
_CLAIM_PHASE, _VOLUME_PHASE = "kube_persistentvolumeclaim_status_phase", "kube_persistentvolume_status_phase"
_CLAIM_OF_VOLUME = "kube_persistentvolume_claim_ref"
# A metric that is there as long as an object of the kind is, and its label with the object's name.
_THERE = {
    "ConfigMap": ("kube_configmap_info", "configmap"),
    "Secret": ("kube_secret_info", "secret"),
    "Service": ("kube_service_info", "service"),
    "Deployment": ("kube_deployment_spec_replicas", "deployment"),
    "StatefulSet": ("kube_statefulset_replicas", "statefulset"),
}
_READY = {
    "Deployment": ("kube_deployment_status_replicas_ready", "deployment"),
    "StatefulSet": ("kube_statefulset_status_replicas_ready", "statefulset"),
}
KUBERNETES_METRICS = frozenset(
    [*(metric for metric, _ in (*_THERE.values(), *_READY.values())), _CLAIM_PHASE, _VOLUME_PHASE, _CLAIM_OF_VOLUME]
)

# What is missing from a watcher that has only just begun to look, or that does not answer, is not missing. So what is
# concluded from absence waits for some scrapes that succeeded.
_SCRAPES = 4


def _looked(job: str) -> str:
    return f'max(sum_over_time(up{{job="{job}"}}[1m])) >= {_SCRAPES} and on() max(up{{job="{job}"}}) == 1'


type Objects = Sequence[Mapping[str, Any]]


def alert_rules(watched: Mapping[Formation, Objects], scheduled: Sequence[Schedule] = ()) -> dict[str, Any]:
    """Return the rules for formations and the objects that each was rendered to, as Prometheus reads them from a file.

    With them are the rules for the ages of backups that are taken on schedules. Each rule has the labels `formation`
    and `severity` (critical where clients are hurt, else warning), and what it is about: `part`, or `kind`, or `kind`
    and `name`. Its annotation `summary` is a sentence for operators.
    """
    groups = [
        {"name": formation.name, "rules": list(_rules(formation, objects))} for formation, objects in watched.items()
    ]
    if scheduled:
        groups.append({"name": BACKUP, "rules": [_backup_too_old(one) for one in scheduled]})
    return {"groups": groups}


@dataclass(frozen=True)
class Etcd:
    """An etcd: the name of its StatefulSet, which its pods have as a label, its members, and their port for metrics."""

    name: str
    members: int
    port: int


def etcds(objects: Objects) -> Iterator[Etcd]:
    """Find each etcd among the objects that a formation was rendered to."""
    for item in objects:
        if item["kind"] != "StatefulSet":
            continue
        for container in item["spec"]["template"]["spec"]["containers"]:
            if container["command"][0] == "etcd":
                (port,) = (one["containerPort"] for one in container["ports"] if one["name"] == "metrics")
                yield Etcd(item["metadata"]["name"], item["spec"]["replicas"], port)


def _rules(formation: Formation, objects: Objects) -> Iterator[dict[str, Any]]:
    name = formation.name
    for item in objects:
        if item["kind"] in _READY:
            yield _pods_gone(name, item["kind"], item["metadata"]["name"], item["spec"]["replicas"])
    for item in objects:
        if item["kind"] in _THERE:
            yield _object_missing(name, item["kind"], item["metadata"]["name"])
    # where clients speak no HTTP the load balancer sees connections, and no answers
    if not formation.entrance.health_port:
        yield _errors(name)
    yield _unreachable(name)
    for etcd in etcds(objects):
        yield _without_quorum(name, etcd)
    claims = [claim for item in objects if item["kind"] in RUNNING for claim in _claims(item)]
    if claims:
        yield _volume_unhealthy(name, "|".join(claims))


def _rule(
    alert: str, formation: str, severity: str, expression: str, summary: str, **labels: str
) -> dict[str, str | dict[str, str]]:
    return {
        "alert": alert,
        "expr": expression,
        "for": f"{FOR_S}s",
        "labels": {"formation": formation, "severity": severity, **labels},
        "annotations": {"summary": summary},
    }


def _pods_gone(formation: str, kind: str, part: str, replicas: int) -> dict[str, Any]:
    metric, label = _READY[kind]
    # one that is deleted has no ready pods either; of two that disagree, the one that misses pods counts
    ready = f'(min({metric}{{namespace="{NAMESPACE}",{label}="{part}"}}) or vector(0))'
    expression = f"{ready} < {replicas} and on() ({_looked(KUBERNETES)})"
    summary = f"{part} of {formation} has {{{{ $value }}}} ready pods and should have {replicas}."
    return _rule("FormationPodsGone", formation, "warning", expression, summary, part=part)


def _object_missing(formation: str, kind: str, name: str) -> dict[str, Any]:
    metric, label = _THERE[kind]
    there = f'{metric}{{namespace="{NAMESPACE}",{label}="{name}"}}'
    # not absent(), which would put the labels of the metric on the alert
    expression = f"vector(1) unless on() {there} and on() ({_looked(KUBERNETES)})"
    summary = f"The {kind} {name}, which {formation} needs, is not there."
    return _rule("FormationObjectMissing", formation, "warning", expression, summary, kind=kind, name=name)


def _errors(formation: str) -> dict[str, Any]:
    def rate(more: str = "") -> str:
        return f'sum(rate({ANSWERS}{{job="{LOAD_BALANCER}",proxy="{formation}"{more}}}[{ERRORS_OVER_S}s]))'

    failed = ',code="5xx"'
    expression = f"{rate(failed)} / {rate()} > {ERROR_RATIO}"
    summary = (
        f"Of the answers that clients of {formation} had in {ERRORS_OVER_S} s, {{{{ $value | humanizePercentage }}}} "
        "are server errors."
    )
    return _rule("FormationErrors", formation, "critical", expression, summary)


def _unreachable(formation: str) -> dict[str, Any]:
    # a load balancer that does not answer the scrape leads to nobody either
    up = f'(max({SERVERS_UP}{{job="{LOAD_BALANCER}",proxy="{formation}"}}) or vector(0))'
    expression = f"{up} == 0 and on() ({_looked(SELF)})"
    summary = f"Clients reach no server of {formation} through the load balancer."
    return _rule("FormationUnreachable", formation, "critical", expression, summary)


def _without_quorum(formation: str, etcd: Etcd) -> dict[str, Any]:
    # a member that cannot be scraped has no sample, one that knows of no leader has 0
    led = f'(sum({LEADER}{{job="{ETCD}",app="{etcd.name}"}}) or vector(0))'
    expression = f"{led} < {etcd.members // 2 + 1} and on() ({_looked(SELF)})"
    summary = f"Of the {etcd.members} members of {etcd.name} only {{{{ $value }}}} answer and have a leader."
    return _rule("EtcdWithoutQuorum", formation, "critical", expression, summary, part=etcd.name)


def _claims(item: Mapping[str, Any]) -> list[str]:
    """Return patterns of the names of the claims that a StatefulSet makes, one for each of its pods."""
    templates = item["spec"].get("volumeClaimTemplates", [])
    return [f"{template['metadata']['name']}-{item['metadata']['name']}-[0-9]+" for template in templates]


def _volume_unhealthy(formation: str, claims: str) -> dict[str, Any]:
    lost = f'{_CLAIM_PHASE}{{namespace="{NAMESPACE}",persistentvolumeclaim=~"{claims}",phase="Lost"}} == 1'
    of_ours = f'{_CLAIM_OF_VOLUME}{{claim_namespace="{NAMESPACE}",name=~"{claims}"}}'
    failed = f'{_VOLUME_PHASE}{{phase="Failed"}} == 1 and on(persistentvolume) {of_ours}'
    expression = f"max by(persistentvolumeclaim) ({lost}) or max by(persistentvolume) ({failed})"
    summary = (
        f"The volume {{{{ $labels.persistentvolume }}}}{{{{ $labels.persistentvolumeclaim }}}} of {formation} "
        "is lost or has failed."
    )
    return _rule("VolumeUnhealthy", formation, "critical", expression, summary)


def _backup_too_old(schedule: Schedule) -> dict[str, Any]:
    allowed_s = round(LATE_FACTOR * schedule.every_s)
    series = f'{NEWEST}{{kind="{schedule.kind}"}}'
    # it goes on to age while nobody tells of it
    age = f"time() - (max(last_over_time({series}[{2 * allowed_s}s])) > 0)"
    # a schedule that has only just begun has taken none yet: it has as long as there may be between two
    watched_s = f'max(sum_over_time(up{{job="{SELF}"}}[{allowed_s}s])) * {SCRAPE_EVERY_S}'
    unknown = (
        f"vector(0) unless on() (max(max_over_time({series}[{allowed_s}s])) > 0) "
        f"and on() {watched_s} >= {0.9 * allowed_s:g}"
    )
    expression = f"{age} > {allowed_s} or {unknown}"
    what = f"backup {schedule.kind} of {schedule.formation}"
    old = f"The newest {what} is {{{{ $value | humanizeDuration }}}} old, and its schedule allows {allowed_s} s"
    summary = f"{{{{ if $value }}}}{old}{{{{ else }}}}No {what} is known{{{{ end }}}}."
    return _rule("BackupTooOld", schedule.formation, "warning", expression, summary, kind=schedule.kind)
