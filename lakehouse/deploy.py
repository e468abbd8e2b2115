"""The lakehouse of a region: the provider's services outside the zones, and the formations on its Kubernetes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from gameday.clusters import kind_command
from gameday.engine import Engine
from gameday.errors import HarnessError, UsageError
from gameday.regions import Region, api_client
from gameday.waiting import wait_until
from lakehouse import hour
from lakehouse.applying import apply
from lakehouse.backup.velero_listing import listing_of
from lakehouse.backup_formation import VELERO, backup
from lakehouse.backups.hour import HOURLY, set_hour
from lakehouse.backups.velero import take_first
from lakehouse.backups.velero_objects import describe, forget, lacks, release, remove_descriptions, remove_scratch
from lakehouse.formation import (
    CRN_ANNOTATION,
    FORMATION_LABEL,
    FORMATIONS_ANNOTATION,
    MAX_CONCURRENT_REQUESTS,
    NAMESPACE,
    RUNNING,
    SERVICE_LABEL,
    Formation,
    FormationValues,
    ImageSource,
    images_of,
    instance,
    render,
)
from lakehouse.formations import DEPLOYED, FORMATIONS
from lakehouse.images import lakehouse_archive
from lakehouse.monitoring_formation import monitoring
from lakehouse.provider_services import SERVICE_DEADLINE_S, provide, unanswered
from lakehouse.volumes import VOLUMES, path_of, remove_volumes, volumes
from nodeimage.steps import step

_READY_DEADLINE_S = 180.0
# A look takes a fifth of a second of the cores on which all that is awaited begins.
_LOOK_EVERY_S = 1.0
# A broker has a minute to hand over what it leads.
_GONE_DEADLINE_S = 120.0
# Of images that each node pulls by itself: gigabytes, over a line that we know nothing of.
_PULLED_DEADLINE_S = 1200.0


def up(
    region: Region,
    engine: Engine,
    *,
    formations: Sequence[Formation] = FORMATIONS,
    source: ImageSource = ImageSource.PACKAGES,
    max_concurrent_requests: int = MAX_CONCURRENT_REQUESTS,
    spark_conf: Mapping[str, str] | None = None,
    hour_s: float | None = None,
) -> None:
    """Start the provider's services, apply the formations, and wait until all serve; changes nothing where all do.

    With them come what watches them and what takes their backups. Pods of other formations are removed, their settings
    and all data stay. Images come from `source`. The limit of MDS's replicas, and properties of Spark's jobs, are as
    declared unless others are given; the hour of backups stays what it was. Raises UsageError where the cluster is not
    up or the hour is none, DeadlinePassed with what is not ready and why.
    """
    nodes = [node for node in region.nodes(engine) if node.running]
    if not nodes:
        raise UsageError(f"region {region.name} is not up: run `chaos cluster up --region {region.name}` first")
    workers = [node for node in nodes if "control-plane" not in node.name]
    if hour_s is not None:
        hour.declare(region, hour_s)
    hour.keep_formations(region, [formation.name for formation in formations])
    with step("the provider's services: database, object store, load balancer, store of backups"):
        provided = provide(region, engine, workers)
        for service in HOURLY:
            set_hour(engine, f"{region.cluster}-{service}", hour.declared(region))
    values = replace(
        provided,
        source=source,
        max_concurrent_requests=max_concurrent_requests,
        spark_conf=spark_conf or {},
    )
    objects = {formation: render(formation, values) for formation in formations}
    listed = {formation.name: listing_of(items) for formation, items in objects.items()}
    hour.keep_objects(region, listed)
    beside = (monitoring(objects), backup(formations, listed))
    rendered = [item for items in (*objects.values(), *(render(one, values) for one in beside)) for item in items]
    _load_images(region, engine, [node.name for node in workers], _built(rendered, values))
    api = api_client(region.kubeconfig)
    made = _make_volumes(engine, [node.name for node in workers], formations)
    describe(api)
    apply(api, [*made, *instance(region.name, [formation.name for formation in formations]), *rendered])
    others = [formation for formation in FORMATIONS if formation not in formations]
    _remove_pods_of(api, others)
    forget(api, others)
    # before all serve: what is ready may be known to all a little later, and that is waited for meanwhile
    deadline_s = _READY_DEADLINE_S if source is ImageSource.PACKAGES else _PULLED_DEADLINE_S
    _await_formations(api, formations, partial(take_first, region, engine), deadline_s)
    with step("the formations serve"):
        entrances = endpoints(region, engine)
        for formation in (*formations, *beside):
            awaited = f"{formation.name} to serve through the load balancer"
            look = partial(not_serving, formation, entrances[formation.name])
            wait_until(awaited, look, deadline_s=SERVICE_DEADLINE_S)


def deployed(api: client.ApiClient) -> tuple[Formation, ...]:
    """Return the formations that the instance is said to have, whatever is left of them."""
    instance = client.CoreV1Api(api).read_namespace(NAMESPACE, _request_timeout=10)
    names = str((instance.metadata.annotations or {}).get(FORMATIONS_ANNOTATION, "")).split(",")
    return tuple(formation for formation in FORMATIONS if formation.name in names)


def _make_volumes(engine: Engine, nodes: Sequence[str], formations: Sequence[Formation]) -> list[dict[str, Any]]:
    """Make the folders of volumes on nodes, and return the objects by which claims find them."""
    each = sum(len(formation.stateful) for formation in formations)
    if not each:
        return []
    for node in nodes:
        engine.call("exec", node, "mkdir", "--parents", *(path_of(number) for number in range(each)))
    return volumes(nodes, each)


def _remove_pods_of(api: client.ApiClient, formations: Sequence[Formation]) -> None:
    for formation in formations:
        label = f"{FORMATION_LABEL}={formation.name}"
        apps = client.AppsV1Api(api)
        apps.delete_collection_namespaced_deployment(NAMESPACE, label_selector=label)
        apps.delete_collection_namespaced_stateful_set(NAMESPACE, label_selector=label)
        # those of Spark's jobs have no Deployment
        client.CoreV1Api(api).delete_collection_namespaced_pod(NAMESPACE, label_selector=label)


def serves_nobody(formation: Formation, address: str) -> str | None:
    """Tell why a formation could serve no client at an address; None where it could serve some."""
    return _unchecked(formation, address) or formation.lacks_all(address)


def not_serving(formation: Formation, address: str) -> str | None:
    """Tell what a formation lacks to serve clients at an address as a whole; None where nothing."""
    return _unchecked(formation, address) or formation.lacks(address)


def _unchecked(formation: Formation, address: str) -> str | None:
    asked = address
    if formation.entrance.health_port:
        asked = f"{address.rpartition(':')[0]}:{formation.entrance.health_port}"
    return unanswered(asked, formation.entrance.check)


def down(region: Region, engine: Engine) -> None:
    """Remove the formations and the provider's services, with all data; the cluster stays.

    Returns once they are gone: until then nothing could be deployed anew. Raises DeadlinePassed where they stay.
    """
    api = api_client(region.kubeconfig)
    release(api)
    try:
        client.CoreV1Api(api).delete_namespace(NAMESPACE)
    except ApiException as error:
        if error.status != httpx.codes.NOT_FOUND:
            raise HarnessError(f"the namespace {NAMESPACE} cannot be deleted: {error.reason}") from error
    with step("the formations go"):
        remove_scratch(api)
        wait_until("the formations to be gone", lambda: _still_there(api), deadline_s=_GONE_DEADLINE_S)
    remove_volumes(api)
    remove_descriptions(api)
    for node in region.nodes(engine):
        if node.running:
            engine.call("exec", node.name, "rm", "-rf", VOLUMES)
    engine.remove(*(item.name for item in region.services(engine)))


def _still_there(api: client.ApiClient) -> str | None:
    try:
        client.CoreV1Api(api).read_namespace(NAMESPACE, _request_timeout=10)
    except ApiException as error:
        if error.status == httpx.codes.NOT_FOUND:
            return None
        raise
    # of what was made since, too
    release(api)
    pods = client.CoreV1Api(api).list_namespaced_pod(NAMESPACE, _request_timeout=10).items
    return f"{len(pods)} pods are left"


def status(region: Region, engine: Engine) -> dict[str, Any]:
    """Return what is ready and what is not, and why: services, formations, and where clients enter."""
    services = [{"name": item.name, "state": item.state, "address": item.address} for item in region.services(engine)]
    formations = []
    if region.kubeconfig.exists():
        api = api_client(region.kubeconfig)
        images = images_in_use(api)
        formations = [{**item, "images": images.get(item["name"], [])} for item in _formations(api)]
    return {"region": region.name, "services": services, "formations": formations, "endpoints": _known(region, engine)}


def endpoints(region: Region, engine: Engine) -> dict[str, str]:
    """Return the URL by which clients reach each engine; raises UsageError where the lakehouse is not up."""
    known = _known(region, engine)
    if not known:
        raise UsageError(f"the lakehouse of region {region.name} is not up: run `chaos lakehouse up` first")
    return known


def _known(region: Region, engine: Engine) -> dict[str, str]:
    found = {item.name: item for item in region.services(engine) if item.running}
    balancer = found.get(f"{region.cluster}-load-balancer")
    if balancer is None:
        return {}
    return {formation.name: f"http://{balancer.address}:{formation.entrance.port}" for formation in DEPLOYED}


def _built(rendered: Sequence[dict[str, Any]], values: FormationValues) -> list[str]:
    """Return the references of the images that were built here and that something runs; others are pulled by nodes."""
    used = {image for item in rendered if item["kind"] in RUNNING for image in images_of(item)}
    return sorted(used & set(values.images.values()))


def _load_images(region: Region, engine: Engine, workers: Sequence[str], images: Sequence[str]) -> None:
    """Load the formations' images into the nodes that do not carry them; those of the built node image do."""
    there = {
        name: engine.call("exec", name, "ctr", "--namespace", "k8s.io", "images", "ls", "--quiet") for name in workers
    }
    lacking = {name: [image for image in images if image not in there[name]] for name in workers}
    wanted = sorted({image for missing in lacking.values() for image in missing})
    if not wanted:
        return
    nodes = [name for name, missing in lacking.items() if missing]
    with step(f"load {', '.join(wanted)} into {len(nodes)} nodes"), tempfile.TemporaryDirectory() as folder:
        archive = lakehouse_archive(Path(folder), wanted)
        kind_command(
            engine, "load", "image-archive", str(archive), "--name", region.cluster, "--nodes", ",".join(nodes),
            deadline_s=600,
        )  # fmt: skip


def _await_formations(
    api: client.ApiClient, formations: Sequence[Formation], back_up: Callable[[Formation], None], deadline_s: float
) -> None:
    """Wait until all that runs is ready, and back each formation up as soon as it is: others start meanwhile.

    What the backups take is not counted. Raises DeadlinePassed with what is not ready and why.
    """
    left_s, seen, rest = deadline_s, [""], list(formations)

    def await_(look: Callable[[], str | None]) -> None:
        nonlocal left_s
        begun = time.monotonic()
        wait_until("the formations to be ready", look, deadline_s=left_s, every_s=_LOOK_EVERY_S, tell=seen.append)
        left_s = max(0.0, left_s - (time.monotonic() - begun))

    # told while it lasts, for an image that cannot be pulled is tried again and again
    with step("the formations are ready, and each has a backup", lambda: seen[-1]):
        while rest:
            ready: list[Formation] = []
            await_(partial(_find_ready, api, rest, ready))
            seen.append(f"backup of {ready[0].name}")
            back_up(ready[0])
            rest.remove(ready[0])
        await_(lambda: _unready(_formations(api)))


def _find_ready(api: client.ApiClient, formations: Sequence[Formation], ready: list[Formation]) -> str | None:
    """Fill in those of the formations of which a backup can be taken; where there is none, tell what is not ready."""
    states, lacking = _formations(api), lacks(api)
    if lacking is None and any(item["ready"] for item in states if item["name"] == VELERO):
        ready[:] = [formation for formation in formations if _lacking(states, formation) is None]
    return None if ready else _unready(states) or lacking or "not there"


def _unready(states: Sequence[Mapping[str, Any]]) -> str | None:
    return "; ".join(f"{item['name']}: {item['reason']}" for item in states if not item["ready"]) or None


def not_ready(api: client.ApiClient, formation: Formation) -> str | None:
    """Tell which parts of a formation are missing or not ready; None where all are."""
    return _lacking(_formations(api), formation)


def _lacking(states: Sequence[Mapping[str, Any]], formation: Formation) -> str | None:
    found = {item["name"]: item for item in states if item["formation"] == formation.name}
    missing = [f"{name}: it is not there" for name in formation.parts if name not in found]
    waiting = [f"{name}: {item['reason']}" for name, item in found.items() if not item["ready"]]
    return "; ".join([*missing, *waiting]) or None


def images_in_use(api: client.ApiClient) -> dict[str, list[str]]:
    """Return the references of the images that each Deployment and StatefulSet now asks for, by its name."""
    return {one.metadata.name: images_of(api.sanitize_for_serialization(one)) for one in _running(api)}


def _formations(api: client.ApiClient) -> list[dict[str, Any]]:
    """Return the state of each Deployment and StatefulSet; what is asked again and again asks for no more than that."""
    pods = client.CoreV1Api(api).list_namespaced_pod(NAMESPACE, _request_timeout=10).items
    return [_formation(one, pods) for one in _running(api)]


def _running(api: client.ApiClient) -> list[Any]:
    apps = client.AppsV1Api(api)
    return [
        *apps.list_namespaced_deployment(NAMESPACE, _request_timeout=10).items,
        *apps.list_namespaced_stateful_set(NAMESPACE, _request_timeout=10).items,
    ]


def _formation(running: Any, pods: list[Any]) -> dict[str, Any]:  # noqa: ANN401 - the client carries no types
    name, seen, wanted = running.metadata.name, running.status, running.spec.replicas
    rolled_out = (seen.observed_generation or 0) >= running.metadata.generation
    ready = rolled_out and (seen.updated_replicas or 0) == (seen.ready_replicas or 0) == (seen.replicas or 0) == wanted
    mine = [pod for pod in pods if (pod.metadata.labels or {}).get("app.kubernetes.io/name") == name]
    reasons = sorted({reason for pod in mine if (reason := _why_not(pod))})
    reason = f"{seen.ready_replicas or 0} of {wanted} ready" + (f" ({', '.join(reasons)})" if reasons else "")
    labels, annotations = running.metadata.labels or {}, running.metadata.annotations or {}
    return {
        "formation": labels.get(FORMATION_LABEL) or labels.get(SERVICE_LABEL),
        "crn": annotations.get(CRN_ANNOTATION),
        "name": name,
        "ready": bool(ready),
        "replicas": wanted,
        "reason": reason,
    }


def _why_not(pod: Any) -> str | None:  # noqa: ANN401 - the Kubernetes client carries no types
    conditions = {item.type: item for item in pod.status.conditions or []}
    scheduled = conditions.get("PodScheduled")
    if scheduled and scheduled.status != "True":
        return str(scheduled.message)
    statuses = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    waiting = [status.state.waiting for status in statuses if status.state and status.state.waiting]
    return ": ".join(part for part in (waiting[0].reason, waiting[0].message) if part) if waiting else None
