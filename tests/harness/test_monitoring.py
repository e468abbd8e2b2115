"""What watches the lakehouse: its manifests and its settings."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from formation_values import VALUES
from mds_lab import program
from monitoring_lab import monitoring_program, watched

from gameday.alerts import PATH
from lakehouse.alert_rules import (
    EVALUATE_EVERY_S,
    FOR_S,
    KUBERNETES_METRICS,
    LOAD_BALANCER,
    SCRAPE_EVERY_S,
)
from lakehouse.backup_settings import AGES, AGES_PORT
from lakehouse.formation import RUNNING, render
from lakehouse.monitoring_formation import (
    ALERTMANAGER_PORT,
    GROUP_INTERVAL_S,
    MONITORING,
    NOTIFIED_WITHIN_S,
    PEERS,
    PORT,
    STATE,
    STATE_PORT,
    monitoring,
)

pytestmark = pytest.mark.needs("monitoring")

READS = {
    "configmaps": "", "secrets": "", "services": "", "persistentvolumeclaims": "", "persistentvolumes": "",
    "deployments": "apps", "statefulsets": "apps",
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the objects by kind and name."""
    rendered = render(monitoring(watched()), VALUES, program("kubectl"))
    return {(item["kind"], item["metadata"]["name"]): item for item in rendered}


def containers(item: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the containers of a Deployment's pods by name."""
    return {one["name"]: one for one in item["spec"]["template"]["spec"]["containers"]}


def test_it_is_deployed_as_a_formation_and_is_none(made: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Replicas, image, entrance and names agree; no object or pod has the label by which formations are judged."""
    running = [item for item in made.values() if item["kind"] in RUNNING]
    assert {item["metadata"]["name"]: item["spec"]["replicas"] for item in running} == MONITORING.parts
    for item in running:
        spec = item["spec"]["template"]["spec"]
        assert {one["image"] for one in spec["containers"]} == {VALUES.images["monitoring"]}
        assert spec["securityContext"]["runAsNonRoot"]
        assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in spec["containers"])
        assert all({"cpu", "memory"} <= set(one["resources"]["requests"]) for one in spec["containers"])
    for item in (*made.values(), *(item["spec"]["template"] for item in running)):
        assert item["metadata"]["labels"]["lakehouse/service"] == "monitoring"
        assert "lakehouse/formation" not in item["metadata"]["labels"]
    (port,) = made["Service", "monitoring"]["spec"]["ports"]
    assert (port["port"], port["nodePort"]) == (PORT, MONITORING.entrance.node_port)


def test_rights_are_for_what_the_rules_read_and_no_more(made: dict[tuple[str, str], dict[str, Any]]) -> None:
    """kube-state-metrics lists and watches the kinds of its metrics; Prometheus has no rights at all."""
    command = containers(made["Deployment", STATE])[STATE]["command"]
    options = dict(word.removeprefix("--").split("=", 1) for word in command[1:])
    assert set(options["metric-allowlist"].split(",")) == KUBERNETES_METRICS
    assert set(options["resources"].split(",")) == set(READS)
    rules = [rule for key in ("Role", "ClusterRole") for rule in made[key, STATE]["rules"]]
    given = {resource: group for rule in rules for resource in rule["resources"] for group in rule["apiGroups"]}
    assert given == READS
    assert all(rule["verbs"] == ["list", "watch"] for rule in rules)
    assert [rule["resources"] for rule in made["ClusterRole", STATE]["rules"]] == [["persistentvolumes"]]
    pods = {name: made["Deployment", name]["spec"]["template"]["spec"] for name in MONITORING.deployments}
    assert pods["monitoring"]["automountServiceAccountToken"] is False
    assert pods[STATE]["serviceAccountName"] == STATE


def test_pods_are_found_where_they_listen(made: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Each name of the settings is a headless Service that selects pods with such a port; all members of etcd are."""
    settings = yaml.safe_load(made["ConfigMap", "monitoring"]["data"]["prometheus.yml"])
    jobs = {job["job_name"]: job for job in settings["scrape_configs"]}
    finders = [*settings["alerting"]["alertmanagers"], *jobs.values()]
    found = {
        name: finder["port"] for one in finders for finder in one.get("dns_sd_configs", []) for name in finder["names"]
    }
    # of another namespace: see the test of what takes backups
    assert found.pop(AGES) == AGES_PORT
    assert found == {PEERS: ALERTMANAGER_PORT, STATE: STATE_PORT, "monitoring-milvus-etcd": 2381}
    running = [item for objects in watched().values() for item in objects if item["kind"] in RUNNING]
    running += [item for item in made.values() if item["kind"] in RUNNING]
    for name, port in found.items():
        service = made["Service", name]["spec"]
        assert service["clusterIP"] == "None"
        (selected,) = (
            item
            for item in running
            if service["selector"].items() <= item["spec"]["template"]["metadata"]["labels"].items()
        )
        ports = [one["containerPort"] for each in containers(selected).values() for one in each["ports"]]
        assert port in ports
    assert (
        "--cluster.peer=monitoring-peers:9094"
        in containers(made["Deployment", "monitoring"])["alertmanager"]["command"]
    )
    assert jobs[LOAD_BALANCER]["static_configs"] == [{"targets": ["10.89.0.9:8404"]}]


def test_prometheus_and_alertmanager_accept_their_settings(
    made: dict[tuple[str, str], dict[str, Any]], tmp_path: Path
) -> None:
    """Their own checks find nothing wrong; what is wrong they find."""
    for name, text in made["ConfigMap", "monitoring"]["data"].items():
        (tmp_path / name).write_text(text)
    check = [monitoring_program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    (tmp_path / "rules.yml").write_text("groups: 1")
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0
    told = yaml.safe_load((tmp_path / "alertmanager.yml").read_text())
    assert told["receivers"][0]["webhook_configs"] == [{"url": f"http://10.89.0.1:9099{PATH}", "send_resolved": True}]


def test_a_fault_is_told_in_time_by_the_declared_intervals(made: dict[tuple[str, str], dict[str, Any]]) -> None:
    """The worst case of each added up, with some to spare for what takes time beside them."""
    command = containers(made["Deployment", "monitoring"])["alertmanager"]["command"]
    (peer_s,) = (int(word.split("=")[1].removesuffix("s")) for word in command if "peer-timeout" in word)
    worst_s = SCRAPE_EVERY_S + EVALUATE_EVERY_S + FOR_S + GROUP_INTERVAL_S + peer_s
    assert worst_s <= NOTIFIED_WITHIN_S - 5
    assert MONITORING.declared["monitoring.notified-within_s"] == NOTIFIED_WITHIN_S == 30
