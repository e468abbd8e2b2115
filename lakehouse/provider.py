"""The provider's services: what a region has outside of its zones, each described as one container.

The managed database (Postgres), the object store (versitygw) and the region's load balancer (HAProxy). Nothing is run
here: what runs containers starts what is described.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gameday.errors import UsageError

DATABASE_PORT = 5432
OBJECT_STORE_PORT = 7070
# HAProxy's own page: /stats;csv has the state of every server, /metrics the same for Prometheus, /healthz says that it
# runs
LOAD_BALANCER_STATE_PORT = 8404

DATABASE = "mds"
DATABASE_USER = "mds"
# Of the console: what its users saved, such as Presto's queries.
CONSOLE = "console"
BUCKET = "lakehouse"
# The customer's own, with vectors.
VECTOR_BUCKET = "vectors"
REGION_OF_STORE = "us-east-1"

_BIN = "/usr/lib/postgresql/15/bin"
_MAX_CONNECTIONS = 200
_TEMPLATES = Path(__file__).parent / "templates"
_LOAD_BALANCER_CONFIG = "/etc/haproxy/haproxy.cfg"

# The folder gets its name only when it is complete, so a container killed before begins anew. Postgres refuses root.
_POSTGRES = f"""\
set -eu
home=/var/lib/postgresql
as_postgres="setpriv --reuid=postgres --regid=postgres --init-groups"
if [ ! -d "$home/mds" ]; then
    rm -rf "$home/new"
    install -d -o postgres -g postgres -m 700 "$home" "$home/new"
    $as_postgres {_BIN}/initdb --pgdata="$home/new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 \\
        --auth-local=peer --auth-host=scram-sha-256
    echo "host all all all scram-sha-256" >> "$home/new/pg_hba.conf"
    $as_postgres {_BIN}/postgres --single -D "$home/new" postgres <<SQL
CREATE ROLE {DATABASE_USER} LOGIN PASSWORD '$MDS_DATABASE_PASSWORD'
CREATE DATABASE {DATABASE} OWNER {DATABASE_USER}
CREATE ROLE {CONSOLE} LOGIN PASSWORD '$CONSOLE_DATABASE_PASSWORD'
CREATE DATABASE {CONSOLE} OWNER {CONSOLE}
SQL
    mv "$home/new" "$home/mds"
fi
exec $as_postgres {_BIN}/postgres -D "$home/mds" -c listen_addresses='*' -c port={DATABASE_PORT} \\
    -c max_connections={_MAX_CONNECTIONS} -c shared_buffers=64MB -c fsync=on -c unix_socket_directories=/tmp
"""

# A bucket of versitygw's posix backend is a folder.
_OBJECT_STORE = f"""\
set -eu
mkdir -p /data/{BUCKET} /data/{VECTOR_BUCKET}
exec /usr/local/bin/versitygw --port :{OBJECT_STORE_PORT} --health /healthz --quiet posix /data
"""


@dataclass(frozen=True)
class Health:
    """How to see that a service works: a command in its container that exits with 0, or a URL path that answers 200."""

    command: tuple[str, ...] = ()
    port: int = 0
    path: str = ""


@dataclass(frozen=True)
class ProviderService:
    """One service as a container; `files` maps paths in it to their content, `data` says that it keeps some."""

    name: str
    image: str
    command: tuple[str, ...]
    health: Health
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    data: bool = True


@dataclass(frozen=True)
class Backend:
    """One node behind the load balancer, by its name, its address on the region's network, and a port of it."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Frontend:
    """One service behind the load balancer: the port for clients, its nodes, and their health check.

    `falls` is how many checks in a row a node must fail before it gets nothing any more. With a `check_port` the check
    asks that port of a node, and clients' connections are handed on as they are.
    """

    name: str
    port: int
    backends: Sequence[Backend]
    check: str = "/readyz"
    falls: int = 2
    check_port: int = 0


def database(region: str, image: str, password: str, console_password: str) -> ProviderService:
    """Return the managed database, with databases `mds` and `console` of users of these names.

    Raises UsageError for an odd password.
    """
    return ProviderService(
        name=f"{region}-postgres",
        image=image,
        command=("sh", "-c", _POSTGRES),
        environment={
            "MDS_DATABASE_PASSWORD": _plain("database password", password),
            "CONSOLE_DATABASE_PASSWORD": _plain("console password", console_password),
        },
        health=Health(command=(f"{_BIN}/pg_isready", "--quiet", "--host=127.0.0.1", f"--dbname={DATABASE}")),
    )


def object_store(region: str, image: str, access_key: str, secret_key: str) -> ProviderService:
    """Return the object store, with the buckets `lakehouse` and `vectors`. Raises UsageError for a key."""
    return ProviderService(
        name=f"{region}-object-store",
        image=image,
        command=("sh", "-c", _OBJECT_STORE),
        environment={
            "ROOT_ACCESS_KEY": _plain("access key", access_key),
            "ROOT_SECRET_KEY": _plain("secret key", secret_key),
        },
        health=Health(port=OBJECT_STORE_PORT, path="/healthz"),
    )


def load_balancer(region: str, image: str, frontends: Sequence[Frontend]) -> ProviderService:
    """Return the region's load balancer over its nodes. Raises UsageError where there are none."""
    return ProviderService(
        name=f"{region}-load-balancer",
        image=image,
        command=("haproxy", "-db", "-f", _LOAD_BALANCER_CONFIG),
        files={_LOAD_BALANCER_CONFIG: load_balancer_config(frontends)},
        data=False,
        health=Health(port=LOAD_BALANCER_STATE_PORT, path="/healthz"),
    )


def load_balancer_config(frontends: Sequence[Frontend], state_port: int = LOAD_BALANCER_STATE_PORT) -> str:
    """Return haproxy.cfg for the nodes of a region. Raises UsageError where there are none."""
    if not frontends or not all(frontend.backends for frontend in frontends):
        raise UsageError("a load balancer needs at least one node behind it")
    templates = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - no HTML
    return templates.get_template("haproxy.cfg.j2").render(frontends=frontends, state_port=state_port)


def _plain(what: str, value: str) -> str:
    # it goes into SQL, a URL and a shell's environment as it is
    if not re.fullmatch(r"[A-Za-z0-9_-]{3,64}", value):
        raise UsageError(f"the {what} has to be 3 to 64 letters, digits, dashes and underscores")
    return value
