"""The rules of alerts, by Prometheus' own tool: each fires when what it is about breaks, alone, and clears after."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from monitoring_lab import BREAKS_AT_S, ENDS_AT_S, GONE, Case, Rules, Scraped, watched

from lakehouse.alert_rules import EVALUATE_EVERY_S, FOR_S, SCRAPE_EVERY_S, alert_rules

pytestmark = pytest.mark.needs("monitoring")

# From the break: it is scraped, it is evaluated, it has lasted, and it fires at one of the evaluations.
FIRES_S = BREAKS_AT_S + SCRAPE_EVERY_S + EVALUATE_EVERY_S + FOR_S
HTTP = ("mds", "presto", "spark")
ALL = (*HTTP, "milvus")


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    """Return the rules of all formations."""
    return Rules(tmp_path)


def alert(alertname: str, formation: str, severity: str, **labels: str) -> dict[str, str]:
    """Return the labels of an alert."""
    return {"alertname": alertname, "formation": formation, "severity": severity, **labels}


def missing(formation: str, kind: str, name: str) -> dict[str, str]:
    """Return the labels of the alert that an object is not there."""
    return {**alert("FormationObjectMissing", formation, "warning", kind=kind), "name": name}


def fires(scraped: Scraped, *alerts: dict[str, str]) -> Case:
    """Expect that nothing fires before the break, and exactly these alerts from then on."""
    return Case(scraped, {BREAKS_AT_S - 5: [], FIRES_S: list(alerts), ENDS_AT_S: list(alerts)})


def quiet(scraped: Scraped, until_s: int = ENDS_AT_S) -> Case:
    """Expect that nothing fires at any evaluation."""
    return Case(scraped, {second: [] for second in range(0, until_s, EVALUATE_EVERY_S)})


def answers(formation: str, code: str) -> str:
    """Return the series of answers of a formation with a status code."""
    return f'haproxy_frontend_http_responses_total{{job="load-balancer",proxy="{formation}",code="{code}"}}'


def test_the_rules_are_valid_and_say_what_operators_see(rules: Rules) -> None:
    """Prometheus accepts all of them; each has its formation, a severity and one sentence."""
    made = [rule for group in yaml.safe_load(rules.path.read_text())["groups"] for rule in group["rules"]]
    assert f"{len(made)} rules found" in rules.check()
    for rule in made:
        assert rule["labels"]["formation"] in ALL
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")


def test_wrong_rules_are_refused(rules: Rules) -> None:
    """The check can fail."""
    rules.path.write_text(rules.path.read_text().replace("vector(1)", "vektor(1)"))
    with pytest.raises(subprocess.CalledProcessError):
        rules.check()


def test_nothing_fires_while_all_is_well(rules: Rules) -> None:
    """At no evaluation from the first on."""
    assert not rules.wrong(quiet(Scraped.well()))


def test_every_object_of_a_formation_is_missed(rules: Rules) -> None:
    """Each object that a formation is rendered to has a rule, which names it; a part that is gone has no pods."""
    cases = []
    for formation, objects in watched().items():
        for item in objects:
            kind, name = item["kind"], item["metadata"]["name"]
            if kind not in ("ConfigMap", "Secret", "Service", "Deployment", "StatefulSet"):
                continue
            wanted = [missing(formation.name, kind, name)]
            if kind in ("Deployment", "StatefulSet"):
                wanted.append(alert("FormationPodsGone", formation.name, "warning", part=name))
            cases.append(fires(Scraped.well().breaks(GONE, f'{kind.lower()}="{name}"'), *wanted))
    assert len(cases) > 20
    assert not rules.wrong(*cases)


def test_rules_follow_what_is_rendered() -> None:
    """An object that a formation no longer has is missed by nobody."""
    without = {
        formation: [item for item in objects if item["metadata"]["name"] != "presto-catalogs"]
        for formation, objects in watched().items()
    }
    names = [rule["labels"].get("name") for group in alert_rules(without)["groups"] for rule in group["rules"]]
    assert "presto-worker" in names
    assert "presto-catalogs" not in names


def test_a_part_with_fewer_ready_pods_than_declared_is_told(rules: Rules) -> None:
    """One less is enough, whether kube-state-metrics says so twice or once; the sentence has both numbers."""
    cases = []
    for formation in watched():
        for part, declared in formation.parts.items():
            fewer = alert("FormationPodsGone", formation.name, "warning", part=part)
            ready = ("status_replicas_ready", f'="{part}"')
            both = fires(Scraped.well().breaks(f"{declared - 1}+0", *ready), fewer)
            told = f"{part} of {formation.name} has {declared - 1} ready pods and should have {declared}."
            cases += [
                Case(both.scraped, both.firing, (FIRES_S, fewer, told)),
                fires(Scraped.well().breaks(f"{declared - 1}+0", *ready, "two"), fewer),
            ]
    assert not rules.wrong(*cases)


def test_pods_that_are_away_for_a_moment_are_no_symptom(rules: Rules) -> None:
    """One scrape without a pod does not fire."""
    scraped = Scraped.well()
    name = next(one for one in scraped.series if "deployment_status_replicas_ready" in one and '"mds"' in one)
    scraped.series[name] = "3+0x11 2 3+0x30"
    assert not rules.wrong(quiet(scraped))


def test_server_errors_are_told_and_forgotten(rules: Rules) -> None:
    """When all fail at once; when one in ten does, soon. Half a minute after the last one they are over."""
    cases = []
    for formation in HTTP:
        told = alert("FormationErrors", formation, "critical")
        failing = Scraped.well().breaks("50+50", answers(formation, "5xx")).breaks("550+0", answers(formation, "2xx"))
        some = Scraped.well()
        some.series[answers(formation, "5xx")] = "0+0x11 6+6x5 36+0x30"
        passing = Case(some, {BREAKS_AT_S: [], FIRES_S + 10: [told], BREAKS_AT_S + 70: []})
        cases += [fires(failing, told), passing]
    assert not rules.wrong(*cases)


def test_few_errors_no_requests_and_what_clients_do_wrong_are_no_symptoms(rules: Rules) -> None:
    """One error in fifty is borne; of no answers none is one; what is refused for what is in it is the client's."""
    scraped = Scraped.well()
    scraped.series[answers("mds", "5xx")] = "0+1x36"
    scraped.series |= dict.fromkeys((answers("presto", "2xx"), answers("presto", "5xx")), "7+0x36")
    scraped.series[answers("spark", "4xx")] = "0+50x36"
    assert not rules.wrong(quiet(scraped))


def test_milvus_has_no_answers_to_count() -> None:
    """Its clients speak gRPC, of which the load balancer sees connections."""
    made = [rule for group in alert_rules(watched())["groups"] for rule in group["rules"]]
    assert tuple(rule["labels"]["formation"] for rule in made if rule["alert"] == "FormationErrors") == HTTP


def test_a_formation_without_a_server_is_unreachable(rules: Rules) -> None:
    """With none up behind the load balancer; one of three is enough to be reached."""
    cases = []
    for formation in ALL:
        up = ("active_servers", f'"{formation}"')
        cases += [
            fires(Scraped.well().breaks("0+0", *up), alert("FormationUnreachable", formation, "critical")),
            quiet(Scraped.well().breaks("1+0", *up)),
        ]
    assert not rules.wrong(*cases)


def test_without_the_load_balancer_nobody_is_reached(rules: Rules) -> None:
    """It answers no scrape: every formation is out of reach."""
    scraped = Scraped.well().breaks(GONE, "haproxy_").breaks("0+0", "up{", "balancer")
    every = [alert("FormationUnreachable", formation, "critical") for formation in ALL]
    assert not rules.wrong(fires(scraped, *every))


def test_etcd_needs_a_majority_that_has_a_leader(rules: Rules) -> None:
    """One member lost is borne, two are not, nor three without a leader."""
    lost = alert("EtcdWithoutQuorum", "milvus", "critical", part="milvus-etcd")
    assert not rules.wrong(
        quiet(Scraped.well().breaks(GONE, "has_leader", '"0"')),
        fires(Scraped.well().breaks(GONE, "has_leader", '"0"').breaks(GONE, "has_leader", '"1"'), lost),
        fires(Scraped.well().breaks(GONE, "has_leader"), lost),
        fires(Scraped.well().breaks("0+0", "has_leader"), lost),
    )


def test_a_lost_claim_and_a_failed_volume_are_told(rules: Rules) -> None:
    """With the name of what is lost."""
    cases = [
        fires(Scraped.well().breaks("1+0", *words), alert("VolumeUnhealthy", "milvus", "critical", **label))
        for words, label in (
            (("claim_status_phase", "etcd-1", "Lost"), {"persistentvolumeclaim": "data-milvus-etcd-1"}),
            (("volume_status_phase", "node-1", "Failed"), {"persistentvolume": "node-1"}),
        )
    ]
    assert not rules.wrong(*cases)


def test_a_failed_volume_of_somebody_else_is_not_ours(rules: Rules) -> None:
    """It holds a claim that no formation makes."""
    scraped = Scraped.well()
    volume = 'persistentvolume="other"'
    scraped.series[f'kube_persistentvolume_claim_ref{{{volume},claim_namespace="else",name="data"}}'] = "1+0x36"
    scraped.series[f'kube_persistentvolume_status_phase{{{volume},phase="Failed"}}'] = "1+0x36"
    assert not rules.wrong(quiet(scraped))


def test_who_sees_nothing_misses_nothing(rules: Rules) -> None:
    """Without kube-state-metrics nobody knows what is there: no object is said to be missing; one of two suffices."""
    state = ("up{", "kube-state-metrics")
    assert not rules.wrong(
        quiet(Scraped.well().breaks("0+0", *state).breaks(GONE, "kube_")),
        quiet(Scraped.well().breaks("0+0", *state, '"one"').breaks(GONE, "kube_", '"one"')),
    )


def test_a_watcher_that_has_just_begun_says_nothing_yet(rules: Rules) -> None:
    """While targets are still being found nothing is there; nothing is concluded from that."""
    scraped = Scraped.well()
    scraped.series = {
        series: values if series.startswith("up{") else f"_x3 {values}" for series, values in scraped.series.items()
    }
    assert not rules.wrong(quiet(scraped, until_s=BREAKS_AT_S))
