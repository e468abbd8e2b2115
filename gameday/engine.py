"""The container engine: Docker or Podman, found by itself, driven by its command line as kind drives it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from gameday.errors import HarnessError, UsageError
from gameday.paths import cache_dir
from gameday.shell import run

# Every container, network and volume that the harness makes carries this label with the name of its region.
REGION_LABEL = "lakehouse-chaos.region"

# Read by podman in place of the machine's own file, and by nothing else on the machine. runc, because crun refuses the
# hybrid cgroup layout; no default ulimits, because raising them needs a capability that closed machines lack.
_PODMAN_CONF = """\
[containers]
default_ulimits = []

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"

[network]
network_backend = "netavark"
"""


@dataclass(frozen=True)
class Container:
    """What the engine says of one container.

    `pid` is 0 unless it is running; `address` and `mac_address` are those on the region's network; `started` is when it
    was last started.
    """

    name: str
    state: str
    address: str
    mac_address: str
    pid: int
    started: datetime
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether its processes are alive."""
        return self.state == "running"


@dataclass(frozen=True)
class Engine:
    """One container engine of this machine; `environment` is what its command line needs beside ours."""

    name: str
    environment: Mapping[str, str]

    def call(self, *arguments: str, deadline_s: float = 120.0, check: bool = True, log: Path | None = None) -> str:
        """Run the engine's command line with `arguments` and return what it printed; raises HarnessError."""
        done = run([self.name, *arguments], environment=self.environment, deadline_s=deadline_s, check=check, log=log)
        return done.stdout

    def succeeds(self, *arguments: str, deadline_s: float = 60.0) -> bool:
        """Tell whether a command of the engine exits with 0."""
        command = [self.name, *arguments]
        return run(command, environment=self.environment, deadline_s=deadline_s, check=False).returncode == 0

    def has_image(self, reference: str) -> bool:
        """Tell whether an image is in the engine's local store."""
        return self.succeeds("image", "inspect", reference)

    def remove_other_images(self, *kept: str) -> None:
        """Remove the images of the same names with other tags, as far as no container uses them: older builds."""
        names = {reference.rsplit(":", 1)[0] for reference in kept}
        for reference in self.call("images", "--format", "{{.Repository}}:{{.Tag}}").split():
            if reference.rsplit(":", 1)[0] in names and reference not in kept:
                self.succeeds("rmi", reference)

    def containers(self, *labels: str) -> list[Container]:
        """Return all containers, also stopped ones, that carry all of the labels (`key=value`), ordered by name."""
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        names = self.call("ps", "--all", "--format", "{{.Names}}", *filters).split()
        return self.inspect(*sorted(names))

    def inspect(self, *names: str) -> list[Container]:
        """Return the state of the named containers; raises HarnessError where one does not exist."""
        if not names:
            return []
        return [_container(item) for item in json.loads(self.call("inspect", "--type", "container", *names))]

    def gateway(self, network: str) -> str:
        """Return the address of this machine on a container network; raises HarnessError where there is no network."""
        (found,) = json.loads(self.call("network", "inspect", network))
        return gateway_of(found)

    def kill(self, *names: str) -> None:
        """Take the power from containers: SIGKILL to all of their processes at once."""
        self.call("kill", "--signal", "KILL", *names)

    def start(self, *names: str) -> None:
        """Start stopped containers again; those that run are left alone."""
        self.call("start", *names)

    def remove(self, *names: str) -> None:
        """Remove containers with their anonymous volumes, running or not; those that are not there are no error."""
        if names:
            # killed first: a removal by itself gives each ten seconds to end in peace
            self.call("kill", "--signal", "KILL", *names, check=False)
            self.call("rm", "--force", "--volumes", *names, deadline_s=60)

    def keep_address(self, network: str, name: str) -> None:
        """Make a container that runs keep its addresses on a network over restarts: Podman gives it others else.

        Its MAC address too: who talked to it before sends to the old one for minutes after. Docker makes it from the
        other, or tells the network.
        """
        (container,) = self.inspect(name)
        mac = ("--mac-address", container.mac_address) if self.name == "podman" else ()
        self.call("network", "disconnect", network, name)
        self.call("network", "connect", "--ip", container.address, *mac, network, name)

    def run_container(
        self,
        name: str,
        image: str,
        command: Sequence[str],
        *,
        network: str,
        labels: Mapping[str, str],
        environment: Mapping[str, str],
        files: Mapping[str, str],
        settings: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Start a container of a service; `files` (path in the container to content) are there before it starts.

        `settings` are further options of Docker and Podman, by their names without dashes.
        """
        options = [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]
        options += [part for key, value in environment.items() for part in ("--env", f"{key}={value}")]
        options += [f"--{key}={value}" for key, value in settings]
        self.call("create", "--name", name, "--network", network, *options, image, *command)
        for path, content in files.items():
            self.put(name, path, content)
        self.start(name)

    def put(self, name: str, path: str, content: str) -> None:
        """Write a file into a container, running or not; its folder must be there."""
        local = cache_dir() / f"copy-{os.getpid()}-{name}"
        local.write_text(content)
        local.chmod(0o644)
        try:
            self.call("cp", str(local), f"{name}:{path}")
        finally:
            local.unlink()


def gateway_of(network: Mapping[str, Any]) -> str:
    """Return the IPv4 gateway of a network as Docker or Podman describe it; raises HarnessError where it has none.

    Docker names none where only a subnet was asked for, and takes the first address of that.
    """
    docker = [(one.get("Subnet"), one.get("Gateway")) for one in (network.get("IPAM") or {}).get("Config") or []]
    podman = [(one.get("subnet"), one.get("gateway")) for one in network.get("subnets") or []]
    for subnet, gateway in [*docker, *podman]:
        if subnet and ip_network(subnet).version == 4:  # noqa: PLR2004 - the protocol's own number
            return str(gateway or next(ip_network(subnet).hosts()))
    raise HarnessError(f"the network {network.get('Name') or network.get('name')} has no IPv4 subnet")


def _container(item: dict[str, Any]) -> Container:
    networks = item["NetworkSettings"].get("Networks") or {}
    connected: dict[str, str] = next((network for network in networks.values() if network.get("IPAddress")), {})
    return Container(
        name=item["Name"].lstrip("/"),
        state=item["State"]["Status"],
        address=connected.get("IPAddress", ""),
        mac_address=connected.get("MacAddress", ""),
        pid=int(item["State"].get("Pid") or 0),
        started=datetime.fromisoformat(item["State"]["StartedAt"]),
        labels=item["Config"].get("Labels") or {},
    )


def _podman_environment() -> dict[str, str]:
    path = cache_dir() / "containers.conf"
    if not path.exists() or path.read_text() != _PODMAN_CONF:
        path.write_text(_PODMAN_CONF)
    return {"CONTAINERS_CONF": str(path), "KIND_EXPERIMENTAL_PROVIDER": "podman"}


@cache
def find_engine() -> Engine:
    """Return the container engine of this machine: the one that answers, Docker before Podman.

    CHAOS_ENGINE=docker|podman names one. Raises UsageError for another name, HarnessError where none answers.
    """
    asked = os.environ.get("CHAOS_ENGINE")
    if asked not in (None, "docker", "podman"):
        raise UsageError(f"CHAOS_ENGINE is {asked!r}; it names a container engine: docker or podman")
    candidates = [
        Engine("docker", {"KIND_EXPERIMENTAL_PROVIDER": "docker"}),
        Engine("podman", _podman_environment()),
    ]
    for engine in candidates:
        if asked in (None, engine.name) and shutil.which(engine.name) and engine.succeeds("info"):
            return engine
    raise HarnessError(
        "no container engine answers: install Docker or Podman (on Debian or Ubuntu, as root, `make setup` does)"
    )
