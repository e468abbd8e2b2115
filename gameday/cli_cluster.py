"""`chaos cluster`: the real multi-zone Kubernetes that experiments run on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gameday import clusters
from gameday.cli_errors import ChaosGroup, says_errors
from gameday.engine import Engine, find_engine
from gameday.errors import UsageError
from gameday.regions import Region, alone_in, region_named
from lakehouse.images import node_images

DEFAULT_REGION = "east"
region_option = click.option(
    "--region",
    default=DEFAULT_REGION,
    show_default=True,
    metavar="NAME",
    envvar="CHAOS_REGION",
    help="The region to work on; several may be up side by side.",
)


node_image_option = click.option(
    "--node-image",
    default="auto",
    show_default=True,
    metavar="auto|pull|build|REF",
    help="Pull kind's own image, build one from packages, or take REF; auto builds where pulling fails.",
)


@click.group(cls=ChaosGroup)
def cluster() -> None:
    """Bring the Kubernetes of a region up and down.

    A region is one cluster by kind: a control plane and the zones of kind-config.yaml, on Docker or Podman. Its
    kubeconfig is a file of its own (see `chaos cluster status`); yours is never written.
    """


@cluster.command()
@region_option
@node_image_option
@says_errors
def up(region: str, node_image: str) -> None:
    """Create the cluster; quick, and changes nothing, where it is up already.

    The first time on a machine that reaches no container registry everything is compiled from packages: 15 to 20
    minutes of two cores. That is kept in the cache, and an interrupted build goes on where it was.
    """
    chosen, started = region_named(region), time.monotonic()
    with alone_in(chosen):
        made = clusters.up(chosen, _images_by(node_image))
    took = time.monotonic() - started
    how = f"after {took:.0f} s" if made else "already"
    click.echo(f"region {region} is up {how}; kubeconfig {chosen.kubeconfig}", err=True)


@cluster.command()
@node_image_option
@says_errors
def images(node_image: str) -> None:
    """Make the images that nodes start from, where they are not there yet, so that `up` is quick.

    No cluster is needed, and none is touched.
    """
    started, made = time.monotonic(), _images_by(node_image)(find_engine())
    took = time.monotonic() - started
    click.echo(f"node images {' and '.join(dict.fromkeys(made))} are there after {took:.0f} s", err=True)


@cluster.command()
@region_option
@says_errors
def down(region: str) -> None:
    """Remove the cluster and the provider's services: no container, network, volume or process is left."""
    chosen = region_named(region)
    with alone_in(chosen):
        removed = clusters.down(chosen, find_engine())
    click.echo(
        f"region {region} is down: {len(removed)} removed" if removed else f"region {region} was not up", err=True
    )


@cluster.command()
@region_option
@click.option("--json", "as_json", is_flag=True, help="Print the state as JSON, for machines.")
@says_errors
def status(region: str, *, as_json: bool) -> None:
    """Show the nodes of a region, the provider's services, and the memory they use."""
    chosen, engine = region_named(region), find_engine()
    state = _status(chosen, engine)
    if as_json:
        click.echo(json.dumps(state, indent=2))
        return
    table = Table("name", "zone", "container", "node", title=f"region {region}", title_justify="left")
    for item in state["nodes"]:
        readiness = {True: "Ready", False: "NotReady", None: "no Node object"}[item["ready"]]
        table.add_row(item["name"], item["zone"] or "unknown", item["container"], readiness)
    for item in state["services"]:
        table.add_row(item["name"], "provider", item["container"], item["address"])
    console = Console()
    console.print(table)
    console.print(f"memory in use {state['memory_bytes'] / 2**30:.2f} GiB · kubeconfig {state['kubeconfig']}")
    others = [name for name in clusters.known_regions(engine) if name != region]
    if others:
        console.print(f"other regions: {', '.join(others)}")


def _images_by(choice: str) -> Callable[[Engine], tuple[str, str]]:
    """Return what makes the node images of a choice; raises UsageError for none."""
    if not choice:
        raise UsageError("--node-image is empty: it takes auto, pull, build, or the reference of an image")
    return partial(node_images, choice=choice)


def _status(region: Region, engine: Engine) -> dict[str, Any]:
    return {
        "region": region.name,
        "nodes": [
            {"name": item.name, "zone": item.zone, "container": item.container, "ready": item.ready}
            for item in clusters.node_states(region, engine)
        ],
        "services": [
            {"name": item.name, "container": item.state, "address": item.address} for item in region.services(engine)
        ],
        "memory_bytes": clusters.memory_in_use(region, engine),
        "kubeconfig": str(region.kubeconfig) if region.kubeconfig.exists() else None,
    }
