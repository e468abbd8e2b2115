# ruff: noqa: INP001 - a program of the image, no module of the harness
"""What Kafka's image runs: one broker that is a controller too (KRaft), of a cluster that the environment describes.

broker.py [--home FOLDER]   becomes the broker, formatting its folder first where it is empty

KAFKA_NODE_ID       its number
KAFKA_CONTROLLERS   all of them, NUMBER@HOST:PORT each, with commas
KAFKA_CLUSTER_ID    the cluster's, which a folder belongs to
KAFKA_ADVERTISED    HOST:PORT by which clients and other brokers reach it
KAFKA_DATA          the folder that it keeps
KAFKA_RACK          the zone it is in, so that copies lie in different ones
KAFKA_HEAP          of the JVM, 256m where it is not set
KAFKA_MORE          properties that are added or changed, NAME=VALUE each, with spaces
"""

import argparse
import os
import subprocess
from pathlib import Path

_MAIN, _STORAGE = "kafka.Kafka", "kafka.tools.StorageTool"
_ARCHIVE = "classes.jsa"
# A broker that is silent this long is given up, and others lead in its place; Kafka's own default is 9 s. A new active
# controller begins to count anew, so a machine that held the old one and led costs the election on top.
_SESSION_TIMEOUT_MS, _HEARTBEAT_MS = 1500, 300
_CONTROLLER_FETCH_MS, _CONTROLLER_ELECTION_MS, _CONTROLLER_BACKOFF_MS = 1000, 300, 100
# A pod that begins again has another address. Java keeps a name's address for 30 s and that there is none for 10 s, in
# which brokers that look for each other fail; both are properties of Java's security, and no options.
_NAMES = "networkaddress.cache.ttl=1\nnetworkaddress.cache.negative.ttl=0\n"


def properties(environment: "dict[str, str]") -> "dict[str, str]":
    """Return the broker's properties."""
    node, controllers = environment["KAFKA_NODE_ID"], environment["KAFKA_CONTROLLERS"]
    own = next(one for one in controllers.split(",") if one.startswith(f"{node}@"))
    copies = str(min(3, len(controllers.split(","))))
    port = environment["KAFKA_ADVERTISED"].rpartition(":")[2]
    return {
        "node.id": node,
        "process.roles": "broker,controller",
        "controller.quorum.voters": controllers,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://:{port},CONTROLLER://:{own.rpartition(':')[2]}",
        "advertised.listeners": f"PLAINTEXT://{environment['KAFKA_ADVERTISED']}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": environment["KAFKA_DATA"],
        "broker.rack": environment.get("KAFKA_RACK", "none"),
        "broker.session.timeout.ms": str(_SESSION_TIMEOUT_MS),
        "broker.heartbeat.interval.ms": str(_HEARTBEAT_MS),
        "controller.quorum.election.timeout.ms": str(_CONTROLLER_ELECTION_MS),
        "controller.quorum.election.backoff.max.ms": str(_CONTROLLER_BACKOFF_MS),
        "controller.quorum.fetch.timeout.ms": str(_CONTROLLER_FETCH_MS),
        "replica.lag.time.max.ms": "4000",
        # who asks the new leader a moment too soon asks again then, and a write waits for it
        "replica.fetch.backoff.ms": "100",
        # what goes to the address of a machine that is gone is answered by nobody
        "socket.connection.setup.timeout.ms": "1000",
        "socket.connection.setup.timeout.max.ms": "2000",
        "default.replication.factor": copies,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": "3",
        "auto.create.topics.enable": "false",
        # no copy that lags may lead: what it lacks was acknowledged
        "unclean.leader.election.enable": "false",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "log.cleaner.enable": "false",
        **dict(one.split("=", 1) for one in environment.get("KAFKA_MORE", "").split()),
    }


def java(home: Path, scratch: Path, environment: "dict[str, str]") -> "list[str]":
    """Return how Kafka's classes are begun, up to the name of one: from the folder `home`, with a file in `scratch`."""
    names = scratch / f"broker-{environment['KAFKA_NODE_ID']}.names"
    names.write_text(_NAMES)
    program = str(home / "java/bin/java") if (home / "java").is_dir() else "java"
    heap = environment.get("KAFKA_HEAP", "256m")
    begin = [
        program,
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        f"-Djava.security.properties={names}",
    ]
    # Java takes the archive only with the class path that it was made for: relative to the home, and in one order
    begin += [f"-XX:SharedArchiveFile={_ARCHIVE}"] if (home / _ARCHIVE).exists() else []
    return [*begin, "-cp", ":".join(f"lib/{jar.name}" for jar in sorted((home / "lib").glob("*.jar")))]


def main() -> None:
    """Format where that is due, and become the broker."""
    parser = argparse.ArgumentParser(description="one broker of Kafka")
    parser.add_argument("--home", type=Path, default=Path("/usr/lib/kafka"))
    home = parser.parse_args().home
    data = Path(os.environ["KAFKA_DATA"])
    data.mkdir(parents=True, exist_ok=True)
    scratch = Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - a pod's own, and writable
    file = scratch / f"broker-{os.environ['KAFKA_NODE_ID']}.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in properties(dict(os.environ)).items()))
    begin = java(home, scratch, dict(os.environ))
    os.chdir(home)
    if not (data / "meta.properties").exists():
        # a folder that belongs to another cluster is left as it is: the broker refuses it and says why
        formatting = [*begin, _STORAGE, "format", "--cluster-id", os.environ["KAFKA_CLUSTER_ID"], "--config", str(file)]
        subprocess.run(formatting, check=True)
    os.execvp(begin[0], [*begin, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", _MAIN, str(file)])  # noqa: S606


if __name__ == "__main__":
    main()
