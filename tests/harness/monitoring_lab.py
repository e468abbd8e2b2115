"""What the tests of alerts need: the watched formations as they are rendered, and Prometheus' own tool for rules."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from formation_values import VALUES
from mds_lab import program

from lakehouse.alert_rules import EVALUATE_EVERY_S, SCRAPE_EVERY_S, alert_rules
from lakehouse.backup.ages import NEWEST
from lakehouse.backup_settings import schedules
from lakehouse.formation import NAMESPACE, Formation, render
from lakehouse.formations import FORMATIONS
from lakehouse.monitoring_image import PROGRAMS, monitoring_packages

# When what a test breaks breaks, and until when values are given; in seconds from the first scrape.
BREAKS_AT_S, ENDS_AT_S = 60, 180


@cache
def watched() -> dict[Formation, list[dict[str, Any]]]:
    """Return all formations with the objects that each is rendered to."""
    return {formation: render(formation, VALUES, program("kubectl")) for formation in FORMATIONS}


def monitoring_program(name: str) -> str:
    """Return the path of a program of Prometheus: the machine's own, else that of the image."""
    return shutil.which(name) or str(monitoring_packages() / PROGRAMS / name)


def alertmanager_command() -> list[str]:
    """Return how Alertmanager is begun: with its templates where it looks for them, if they are not installed there."""
    if found := shutil.which("prometheus-alertmanager"):
        return [found]
    packages = monitoring_packages()
    # for this process alone; nothing else of that folder is needed
    script = 'mount --bind "$1" /usr/share && shift && exec "$@"'
    program = packages / PROGRAMS / "prometheus-alertmanager"
    return ["unshare", "--mount", "sh", "-c", script, "sh", str(packages / "usr" / "share"), str(program)]


def steady(value: float) -> str:
    """Return the values of a series that stays as it is."""
    return f"{value}+0x{ENDS_AT_S // SCRAPE_EVERY_S}"


# A series that is no longer there: stale at the next scrape, and then without samples.
GONE = f"stale _x{(ENDS_AT_S - BREAKS_AT_S) // SCRAPE_EVERY_S}"


@dataclass
class Scraped:
    """What Prometheus has scraped: the values of each series, of a lakehouse in which all is well unless changed."""

    series: dict[str, str] = field(default_factory=dict)

    @classmethod
    def well(cls) -> Scraped:
        """Return what is scraped of all formations when they are whole."""
        scraped = cls()
        scraped._put('up{job="prometheus",instance="self"}', 1)
        scraped._put('up{job="load-balancer",instance="balancer"}', 1)
        for instance in ("one", "two"):
            scraped._put(f'up{{job="kube-state-metrics",instance="{instance}"}}', 1)
        for formation, objects in watched().items():
            for item in objects:
                for instance in ("one", "two"):
                    scraped._object(item, instance)
            scraped._put(f'haproxy_backend_active_servers{{job="load-balancer",proxy="{formation.name}"}}', 3)
            for code, rate in (("2xx", 50), ("5xx", 0)):
                labels = f'job="load-balancer",proxy="{formation.name}",code="{code}"'
                scraped.series[f"haproxy_frontend_http_responses_total{{{labels}}}"] = (
                    f"0+{rate}x{ENDS_AT_S // SCRAPE_EVERY_S}"
                )
        for one in schedules([formation.name for formation in watched()], 3600.0):
            scraped._put(f'{NEWEST}{{job="backup",kind="{one.kind}",formation="{one.formation}"}}', 1)
        for number in range(3):
            scraped._put(f'etcd_server_has_leader{{job="etcd",app="milvus-etcd",instance="{number}"}}', 1)
            claim = f'namespace="{NAMESPACE}",persistentvolumeclaim="data-milvus-etcd-{number}"'
            scraped._put(f'kube_persistentvolumeclaim_status_phase{{{claim},phase="Lost"}}', 0)
            volume = f'persistentvolume="node-{number}"'
            scraped._put(f'kube_persistentvolume_status_phase{{{volume},phase="Failed"}}', 0)
            of = f'{volume},claim_namespace="{NAMESPACE}",name="data-milvus-etcd-{number}"'
            scraped._put(f"kube_persistentvolume_claim_ref{{{of}}}", 1)
        return scraped

    def _put(self, series: str, value: float) -> None:
        self.series[series] = steady(value)

    def _object(self, item: dict[str, Any], instance: str) -> None:
        kind, name = item["kind"], item["metadata"]["name"]
        there = {
            "ConfigMap": "kube_configmap_info", "Secret": "kube_secret_info", "Service": "kube_service_info",
            "Deployment": "kube_deployment_spec_replicas", "StatefulSet": "kube_statefulset_replicas",
        }  # fmt: skip
        labels = f'namespace="{NAMESPACE}",{kind.lower()}="{name}",instance="{instance}"'
        if kind in there:
            self._put(f"{there[kind]}{{{labels}}}", item["spec"].get("replicas", 1) if "spec" in item else 1)
        if kind in ("Deployment", "StatefulSet"):
            self._put(f"kube_{kind.lower()}_status_replicas_ready{{{labels}}}", item["spec"]["replicas"])

    def breaks(self, after: str, *words: str) -> Scraped:
        """Change every series with all of these words: as it was until it breaks, and from then on `after`."""
        found = [series for series in self.series if all(word in series for word in words)]
        assert found, words
        breaks, ends = BREAKS_AT_S // SCRAPE_EVERY_S, ENDS_AT_S // SCRAPE_EVERY_S
        for series in found:
            before = self.series[series].split("x")[0]
            self.series[series] = f"{before}x{breaks - 1} {after if after == GONE else f'{after}x{ends - breaks}'}"
        return self


@dataclass(frozen=True)
class Case:
    """What is scraped, and which alerts fire at some seconds: each is given by all of its labels.

    `told` is the annotation of one alert at one second.
    """

    scraped: Scraped
    firing: dict[int, list[dict[str, str]]]
    told: tuple[int, dict[str, str], str] | None = None

    def as_promtool_has_it(self) -> dict[str, Any]:
        """Return the case as a part of a file of tests; ALERTS has exactly those that fire, and no annotations."""
        exact = [
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": f"{second}s",
                "exp_samples": [{"labels": _sample(labels), "value": 1} for labels in wanted],
            }
            for second, wanted in self.firing.items()
        ]
        series = self.scraped.series.items()
        document: dict[str, Any] = {
            "interval": f"{SCRAPE_EVERY_S}s",
            "input_series": [{"series": name, "values": values} for name, values in series],
            "promql_expr_test": exact,
        }
        if self.told:
            second, labels, summary = self.told
            name, others = labels["alertname"], {key: labels[key] for key in labels if key != "alertname"}
            expected = {"exp_labels": others, "exp_annotations": {"summary": summary}}
            document["alert_rule_test"] = [{"alertname": name, "eval_time": f"{second}s", "exp_alerts": [expected]}]
        return document


class Rules:
    """The rules of all formations in a folder, for promtool."""

    def __init__(self, folder: Path, hour_s: float = 3600.0) -> None:
        self._folder = folder
        self.path = folder / "rules.yml"
        scheduled = schedules([formation.name for formation in watched()], hour_s)
        self.path.write_text(yaml.safe_dump(alert_rules(watched(), scheduled)))

    def check(self) -> str:
        """Let promtool check them, and return what it said; raises CalledProcessError where they are wrong."""
        return self._promtool("check", "rules", str(self.path)).stdout

    def wrong(self, *cases: Case) -> str:
        """Let promtool see whether in each case exactly the alerts fire that should; returns what it says if not."""
        document = {
            "rule_files": [str(self.path)],
            "evaluation_interval": f"{EVALUATE_EVERY_S}s",
            "tests": [case.as_promtool_has_it() for case in cases],
        }
        path = self._folder / "test.yml"
        path.write_text(yaml.safe_dump(document))
        done = self._promtool("test", "rules", str(path), check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def _promtool(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [monitoring_program("promtool"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60)


def _sample(labels: dict[str, str]) -> str:
    inner = ",".join(f'{name}="{value}"' for name, value in {"alertstate": "firing", **labels}.items())
    return f"ALERTS{{{inner}}}"
