"""The provider's services: what a region has outside of its zones, each described as one container.

The managed database (Postgres), the object store (versitygw), the region's load balancer (HAProxy), the store of
backups, and the customer's machine that copies the vectors there. Nothing is run here: what runs containers starts what
is described.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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

# What is in the store of backups: the SRE's own, and the customer's copies of the bucket with vectors.
BACKUP_BUCKET = "backups"
COPY_BUCKET = "vector-copies"
BACKUP_STORE_TLS_PORT = 7443
# Postgres' folder in the bucket, and its name there.
POSTGRES_BACKUPS = "postgres"
STANZA = "lakehouse"
# May read every table, and set a restore point; it compares what is restored with what is live.
BACKUP_USER = "backup"
# A copy that takes longer is given up, and begun anew.
COPY_DEADLINE_S = 120
POSTGRES_BIN = "/usr/lib/postgresql/15/bin"
POSTGRES_HOME = "/var/lib/postgresql"

# Of the last four one is young enough also if the newest is bad, and a mistake may be seen hours later.
_KEPT_BACKUPS = 4
_MAX_CONNECTIONS = 200
_TEMPLATES = Path(__file__).parent / "templates"
_LOAD_BALANCER_CONFIG = "/etc/haproxy/haproxy.cfg"
# The folder in which each container finds its programs.
_PROGRAMS = "/usr/local/bin"

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
    """One service as a container; `files` maps paths in it to their content, `data` says that it keeps some.

    `capabilities` are the kernel's that it needs (capabilities(7)).
    """

    name: str
    image: str
    command: tuple[str, ...]
    health: Health
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    data: bool = True
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backend:
    """One node behind the load balancer, by its name, its address on the region's network, and a port of it."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Frontend:
    """One service behind the load balancer: the port for clients, its nodes, and their health check.

    `falls` is how many checks in a row, `check_every_ms` apart, a node fails, each within `check_timeout_ms`, before
    it gets nothing more. With a `check_port` the check asks that port of a node, and clients' connections are handed on
    as they are.
    """

    name: str
    port: int
    backends: Sequence[Backend]
    check: str = "/readyz"
    falls: int = 2
    check_port: int = 0
    check_timeout_ms: int = 500
    check_every_ms: int = 500


@dataclass(frozen=True)
class Keys:
    """The keys of both object stores. Raises UsageError for one that is odd."""

    access: str
    secret: str

    def __post_init__(self) -> None:
        _plain("access key", self.access)
        _plain("secret key", self.secret)


def database(
    region: str, image: str, password: str, console_password: str, backup_password: str, store: Keys
) -> ProviderService:
    """Return the managed database, with databases `mds` and `console` of users of these names.

    It archives its log to the region's store of backups, and takes base backups to it. Raises UsageError for an odd
    password.
    """
    return ProviderService(
        name=f"{region}-postgres",
        image=image,
        command=("bash", f"{_PROGRAMS}/postgres.sh"),
        files=_programs("postgres.sh", "base-backups.sh"),
        environment={
            "MDS_DATABASE_PASSWORD": _plain("database password", password),
            "CONSOLE_DATABASE_PASSWORD": _plain("console password", console_password),
            "BACKUP_DATABASE_PASSWORD": _plain("password of backups", backup_password),
            "DATABASE": DATABASE,
            "DATABASE_USER": DATABASE_USER,
            "CONSOLE": CONSOLE,
            "BACKUP_USER": BACKUP_USER,
            "DATABASE_PORT": str(DATABASE_PORT),
            "MAX_CONNECTIONS": str(_MAX_CONNECTIONS),
            "POSTGRES_BIN": POSTGRES_BIN,
            **pgbackrest_settings(region, store),
        },
        health=Health(command=(f"{POSTGRES_BIN}/pg_isready", "--quiet", "--host=127.0.0.1", f"--dbname={DATABASE}")),
    )


def pgbackrest_settings(region: str, store: Keys) -> dict[str, str]:
    """Return the environment in which pgBackRest finds the region's backups, and a database where it is restored to."""
    settings = {
        "STANZA": STANZA,
        "PG1_PATH": f"{POSTGRES_HOME}/mds",
        "PG1_SOCKET_PATH": "/tmp",  # noqa: S108 - in the container
        "PG1_PORT": str(DATABASE_PORT),
        "REPO1_TYPE": "s3",
        "REPO1_PATH": f"/{POSTGRES_BACKUPS}",
        "REPO1_S3_BUCKET": BACKUP_BUCKET,
        # by its name: a container that was started again may have another address
        "REPO1_S3_ENDPOINT": f"{region}-backup-store",
        "REPO1_S3_REGION": REGION_OF_STORE,
        "REPO1_S3_URI_STYLE": "path",
        "REPO1_S3_KEY": store.access,
        "REPO1_S3_KEY_SECRET": store.secret,
        "REPO1_STORAGE_PORT": str(BACKUP_STORE_TLS_PORT),
        # its certificate is made at its start, and signed by nobody
        "REPO1_STORAGE_VERIFY_TLS": "n",
        "REPO1_RETENTION_FULL": str(_KEPT_BACKUPS),
        # a thousand small files in a few objects
        "REPO1_BUNDLE": "y",
        "COMPRESS_TYPE": "zst",
        "COMPRESS_LEVEL": "1",
        "START_FAST": "y",
        # a store that does not answer is given up after this many seconds; the next attempt comes soon enough
        "IO_TIMEOUT": "10",
        "LOG_LEVEL_CONSOLE": "off",
        "LOG_LEVEL_STDERR": "warn",
        "LOG_LEVEL_FILE": "off",
    }
    return {f"PGBACKREST_{name}": value for name, value in settings.items()}


def backup_store(region: str, image: str, store: Keys) -> ProviderService:
    """Return the store of backups, with the buckets `backups` and `vector-copies`: HTTP, and TLS beside it."""
    config = _rendered("backup-store.cfg.j2", port=OBJECT_STORE_PORT, tls_port=BACKUP_STORE_TLS_PORT)
    return ProviderService(
        name=f"{region}-backup-store",
        image=image,
        command=("bash", f"{_PROGRAMS}/backup-store.sh"),
        files={**_programs("backup-store.sh"), _LOAD_BALANCER_CONFIG: config},
        environment={
            "ROOT_ACCESS_KEY": store.access,
            "ROOT_SECRET_KEY": store.secret,
            "STORE_PORT": str(OBJECT_STORE_PORT),
            "BUCKETS": f"{BACKUP_BUCKET} {COPY_BUCKET}",
        },
        health=Health(port=OBJECT_STORE_PORT, path="/healthz"),
    )


def customer_copy(region: str, image: str, store: Keys) -> ProviderService:
    """Return the customer's own machine, which copies the bucket `vectors` to the store of backups."""
    return ProviderService(
        name=f"{region}-customer-copy",
        image=image,
        command=("bash", f"{_PROGRAMS}/customer-copy.sh"),
        files=_programs("customer-copy.sh"),
        environment={
            "SOURCE_BUCKET": VECTOR_BUCKET,
            "COPY_BUCKET": COPY_BUCKET,
            "COPY_DEADLINE_S": str(COPY_DEADLINE_S),
            **remote("live", f"http://{region}-object-store:{OBJECT_STORE_PORT}"),
            **remote("store", f"http://{region}-backup-store:{OBJECT_STORE_PORT}"),
            **dict(keys(("live", "store"), store.access, store.secret)),
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_RETRIES": "1",
            "RCLONE_LOW_LEVEL_RETRIES": "3",
        },
        data=False,
        health=Health(command=("true",)),
    )


def remote(name: str, endpoint: str) -> dict[str, str]:
    """Return the environment that describes an object store to rclone under a name, but for its keys."""
    settings = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": endpoint,
        "REGION": REGION_OF_STORE,
        "FORCE_PATH_STYLE": "true",
        # else it makes the bucket first, with rights that versitygw knows nothing of
        "NO_CHECK_BUCKET": "true",
    }
    return {f"RCLONE_CONFIG_{name.upper()}_{key}": value for key, value in settings.items()}


def keys(names: Iterable[str], access: str, secret: str) -> Iterable[tuple[str, str]]:
    """Return the environment with the keys of stores that rclone knows under these names."""
    for name in names:
        yield f"RCLONE_CONFIG_{name.upper()}_ACCESS_KEY_ID", access
        yield f"RCLONE_CONFIG_{name.upper()}_SECRET_ACCESS_KEY", secret


def object_store(region: str, image: str, store: Keys) -> ProviderService:
    """Return the object store, with the buckets `lakehouse` and `vectors`."""
    return ProviderService(
        name=f"{region}-object-store",
        image=image,
        command=("sh", "-c", _OBJECT_STORE),
        environment={
            "ROOT_ACCESS_KEY": store.access,
            "ROOT_SECRET_KEY": store.secret,
        },
        health=Health(port=OBJECT_STORE_PORT, path="/healthz"),
    )


def load_balancer(region: str, image: str, frontends: Sequence[Frontend]) -> ProviderService:
    """Return the region's load balancer over its nodes. Raises UsageError where there are none."""
    return ProviderService(
        name=f"{region}-load-balancer",
        image=image,
        command=("bash", f"{_PROGRAMS}/load-balancer.sh"),
        files={_LOAD_BALANCER_CONFIG: load_balancer_config(frontends), **_programs("load-balancer.sh")},
        data=False,
        health=Health(port=LOAD_BALANCER_STATE_PORT, path="/healthz"),
        capabilities=("NET_ADMIN",),
    )


def load_balancer_config(frontends: Sequence[Frontend], state_port: int = LOAD_BALANCER_STATE_PORT) -> str:
    """Return haproxy.cfg for the nodes of a region. Raises UsageError where there are none."""
    if not frontends or not all(frontend.backends for frontend in frontends):
        raise UsageError("a load balancer needs at least one node behind it")
    return _rendered("haproxy.cfg.j2", frontends=frontends, state_port=state_port)


def _rendered(template: str, **values: object) -> str:
    templates = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - no HTML
    return templates.get_template(template).render(**values)


def _programs(*names: str) -> dict[str, str]:
    return {f"{_PROGRAMS}/{name}": (_TEMPLATES / name).read_text(encoding="utf-8") for name in names}


def _plain(what: str, value: str) -> str:
    # it goes into SQL, a URL and a shell's environment as it is
    if not re.fullmatch(r"[A-Za-z0-9_-]{3,64}", value):
        raise UsageError(f"the {what} has to be 3 to 64 letters, digits, dashes and underscores")
    return value
