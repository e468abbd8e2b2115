"""`chaos lakehouse`: the system under test on a region's cluster."""

from __future__ import annotations

import json
import time

import click
from rich.console import Console
from rich.table import Table

from gameday.cli_cluster import region_option
from gameday.cli_errors import ChaosGroup, says_errors
from gameday.engine import find_engine
from gameday.regions import alone_in, region_named
from lakehouse import deploy
from lakehouse.formation import ImageSource
from lakehouse.formations import FORMATIONS, named
from lakehouse.monitoring_formation import MONITORING

images_option = click.option(
    "--images",
    type=click.Choice([str(source) for source in ImageSource]),
    default=str(ImageSource.PACKAGES),
    show_default=True,
    help="Build all images from packages, or have nodes pull those that Presto, Milvus and Spark publish.",
)


@click.group(cls=ChaosGroup)
def lakehouse() -> None:
    """Deploy the lakehouse on a region's cluster, and look at it.

    Outside the zones run the provider's services (database, object store, load balancer); on Kubernetes the formations.
    """


@lakehouse.command()
@region_option
@images_option
@click.option(
    "--formation",
    "names",
    type=click.Choice([formation.name for formation in FORMATIONS]),
    multiple=True,
    help="Deploy this one alone, or several; the pods of others are removed. By default all are deployed.",
)
@click.option(
    "--hour-seconds",
    "hour_s",
    type=float,
    metavar="SECONDS",
    help="How long the hour of backups is, from 30 to 3600; it stays until another is given.  [default: 3600]",
)
@says_errors
def up(region: str, images: str, names: tuple[str, ...], hour_s: float | None) -> None:
    """Deploy, and wait until everything serves; quick, and changes nothing, where it does already."""
    chosen, engine, started = region_named(region), find_engine(), time.monotonic()
    formations = named(names)
    with alone_in(chosen):
        deploy.up(chosen, engine, formations=formations, source=ImageSource(images), hour_s=hour_s)
    known = deploy.endpoints(chosen, engine)
    names = tuple(formation.name for formation in (*formations, MONITORING))
    entrances = ", ".join(f"{name} at {known[name]}" for name in names)
    took_s = time.monotonic() - started
    click.echo(f"the lakehouse of region {region} serves after {took_s:.0f} s: {entrances}", err=True)


@lakehouse.command()
@region_option
@says_errors
def down(region: str) -> None:
    """Remove the formations and the provider's services with all their data; the cluster stays."""
    chosen = region_named(region)
    with alone_in(chosen):
        deploy.down(chosen, find_engine())


@lakehouse.command()
@region_option
@click.option("--json", "as_json", is_flag=True, help="Print the state as JSON, for machines.")
@says_errors
def status(region: str, *, as_json: bool) -> None:
    """Say what is ready, what is not and why, and where clients enter."""
    state = deploy.status(region_named(region), find_engine())
    if as_json:
        click.echo(json.dumps(state, indent=2))
        return
    table = Table("formation", "part", "state", "images", title=f"lakehouse of region {region}", title_justify="left")
    for item in state["formations"]:
        table.add_row(item["formation"], item["name"], item["reason"], "\n".join(item["images"]))
    for item in state["services"]:
        table.add_row("", item["name"], f"{item['state']} at {item['address']}")
    console = Console()
    console.print(table)
    for engine, address in state["endpoints"].items():
        console.print(f"{engine}: {address}")
