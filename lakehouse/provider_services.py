"""The provider's services of a region, outside of its zones: started where they do not run, and awaited."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import httpx

from gameday.engine import Container, Engine
from gameday.regions import Region
from gameday.waiting import wait_until
from lakehouse import hour, provider
from lakehouse.formation import Formation, FormationValues
from lakehouse.formations import DEPLOYED
from lakehouse.images import provider_image, references
from nodeimage.cache import key_of
from nodeimage.steps import together

SERVICE_DEADLINE_S = 60.0
_KEY_LABEL = "lakehouse-chaos.key"
# Eight times a node's: these have machines of their own, on which what the nodes begin after a fault takes nothing from
# them. They need little, but at once: each request of a client goes through several.
_SERVICE_CPU_SHARES = "8192"


def provide(region: Region, engine: Engine, workers: Sequence[Container]) -> FormationValues:
    """Start the provider's services of a region, and return what formations have to know of them."""
    keys, image = region.credentials(), provider_image(engine)
    of_stores = provider.Keys(keys["object_store_key"], keys["object_store_secret"])
    # first of all, as the database takes a backup when it is there
    backups = start_service(region, engine, provider.backup_store(region.cluster, image, of_stores))
    frontends = [frontend for formation in DEPLOYED for frontend in _frontends(formation, workers)]
    others = (
        provider.database(region.cluster, image, keys["postgres"], keys["console"], keys["backup"], of_stores),
        provider.object_store(region.cluster, image, of_stores),
        provider.customer_copy(region.cluster, image, of_stores),
        provider.load_balancer(region.cluster, image, frontends),
    )
    # each waits for the engine, and for its service, more than it computes
    database, store, _, balancer = together(*(partial(start_service, region, engine, service) for service in others))
    return FormationValues(
        region=region.name,
        images=references(),
        database_address=database.address,
        database_password=keys["postgres"],
        console_password=keys["console"],
        object_store_address=store.address,
        object_store_key=keys["object_store_key"],
        object_store_secret=keys["object_store_secret"],
        load_balancer_address=balancer.address,
        harness_address=engine.gateway(region.network),
        backup_store_address=backups.address,
        hour_s=hour.declared(region),
    )


def _frontends(formation: Formation, workers: Sequence[Container]) -> list[provider.Frontend]:
    entrance = formation.entrance

    def frontend(name: str, port: int, node_port: int, check_port: int) -> provider.Frontend:
        backends = [provider.Backend(node.name, node.address, node_port) for node in workers]
        return provider.Frontend(
            name,
            port,
            backends,
            check=entrance.check,
            falls=entrance.falls,
            check_port=check_port,
            check_timeout_ms=entrance.check_timeout_ms,
            check_every_ms=entrance.check_every_ms,
        )

    found = [frontend(formation.name, entrance.port, entrance.node_port, entrance.health_node_port)]
    if entrance.health_port:
        found.append(frontend(f"{formation.name}-health", entrance.health_port, entrance.health_node_port, 0))
    return found


def start_service(region: Region, engine: Engine, service: provider.ProviderService) -> Container:
    """Start a service where it does not run already, wait until it is healthy, and return its container."""
    files = (f"{path}={text}" for path, text in service.files.items())
    key = key_of(service.image, *service.command, *service.capabilities, *files)
    found = {item.name: item for item in region.services(engine)}
    if not service.data and service.name in found and found[service.name].labels.get(_KEY_LABEL) != key:
        # it keeps nothing, so another configuration is another container
        del found[service.name]
    if service.name in found and not found[service.name].running:
        engine.start(service.name)
    elif service.name not in found:
        # its name belongs to us: one that an interrupted start left without a label is taken away
        engine.remove(service.name)
        labels = {**dict([region.label.split("=", 1)]), _KEY_LABEL: key}
        engine.run_container(
            service.name,
            service.image,
            service.command,
            network=region.network,
            labels=labels,
            environment=service.environment,
            files=service.files,
            settings=[("cpu-shares", _SERVICE_CPU_SHARES), *(("cap-add", name) for name in service.capabilities)],
        )
        # formations know it by that
        engine.keep_address(region.network, service.name)
    (container,) = engine.inspect(service.name)
    awaited = f"{service.name} to be healthy"
    wait_until(awaited, lambda: _unhealthy(engine, container, service.health), deadline_s=SERVICE_DEADLINE_S)
    return container


def _unhealthy(engine: Engine, container: Container, health: provider.Health) -> str | None:
    if health.command:
        return None if engine.succeeds("exec", container.name, *health.command) else "its health check fails"
    return unanswered(f"http://{container.address}:{health.port}", health.path)


def unanswered(address: str, path: str) -> str | None:
    """Tell why a request is not answered with 200 within 2 s; None where it is."""
    try:
        answer = httpx.get(f"{address}{path}", timeout=2, trust_env=False)
    except httpx.HTTPError as error:
        return f"no answer ({type(error).__name__})"
    return None if answer.status_code == httpx.codes.OK else f"it answers {answer.status_code}"
