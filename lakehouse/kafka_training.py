"""A training run of Kafka: three brokers of which one is lost and comes back, so that its classes are known.

What a broker does first when another is lost (elect, follow, cut off, be in sync again) is what writes wait for then.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from gameday.errors import HarnessError
from gameday.shell import free_port
from gameday.waiting import wait_until
from lakehouse.class_archive import record_classes

_BROKERS = 3
# compilers take both cores meanwhile
_DEADLINE_S, _STOP_DEADLINE_S, _ANSWER_S = 600.0, 60.0, 5.0
_TOPIC = TopicPartition("training", 0)
# that a broker which was killed is gone is no news
_QUIET = {"log_level": 2}
_CLUSTER_ID = "dHJhaW5pbmctb2Yta2Fma2E"


@dataclass
class _Brokers:
    """The brokers of one run; each start of one writes a list of classes of its own."""

    program: Path
    home: Path
    scratch: Path
    sink: BinaryIO
    lists: list[Path] = field(default_factory=list)
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(2 * _BROKERS)])

    @property
    def addresses(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self._ports[:_BROKERS])

    def begin(self, number: int) -> None:
        listed = self.scratch / f"kafka-{len(self.lists)}.classes"
        controllers = (f"{one}@127.0.0.1:{port}" for one, port in enumerate(self._ports[_BROKERS:]))
        known = {
            "KAFKA_NODE_ID": str(number),
            "KAFKA_CONTROLLERS": ",".join(controllers),
            "KAFKA_CLUSTER_ID": _CLUSTER_ID,
            "KAFKA_ADVERTISED": f"127.0.0.1:{self._ports[number]}",
            "KAFKA_DATA": str(self.scratch / f"broker-{number}"),
            "TMPDIR": str(self.scratch),
            "JAVA_TOOL_OPTIONS": record_classes(listed),
        }
        command = [sys.executable, str(self.program), "--home", str(self.home)]
        self.running[number] = subprocess.Popen(command, env=os.environ | known, stdout=self.sink, stderr=self.sink)
        self.lists.append(listed)


def train_kafka(program: Path, home: Path, scratch: Path, log: Path) -> list[Path]:
    """Run brokers of `home` by `program`, lose one, and return the lists of classes that they loaded.

    Raises DeadlinePassed where they do not begin or come back in time, HarnessError where they take or give no message.
    """
    with ExitStack() as stack:
        brokers = stack.enter_context(_ended(_Brokers(program, home, scratch, stack.enter_context(log.open("ab")))))
        for number in range(_BROKERS):
            brokers.begin(number)
        admin = AdminClient({"bootstrap.servers": brokers.addresses, **_QUIET})
        wait_until("Kafka to have its brokers", partial(_lacks_brokers, admin), deadline_s=_DEADLINE_S)
        topic = NewTopic(_TOPIC.topic, 1, _BROKERS, config={"min.insync.replicas": str(_BROKERS - 1)})
        admin.create_topics([topic])[_TOPIC.topic].result(_DEADLINE_S)
        leader = _write_and_read(admin, brokers)
        brokers.running[leader].kill()
        brokers.running[leader].wait(_STOP_DEADLINE_S)
        _write_and_read(admin, brokers)
        brokers.begin(leader)
        wait_until("Kafka's copies to be in sync", partial(_lacks_copies, admin), deadline_s=_DEADLINE_S)
    return brokers.lists


@contextmanager
def _ended(brokers: _Brokers) -> Iterator[_Brokers]:
    """End what runs, however the training does: by TERM, together, since a broker hands over before it ends."""
    try:
        yield brokers
    finally:
        for process in brokers.running.values():
            process.terminate()
        for process in brokers.running.values():
            try:
                process.wait(_STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                # the last two have nobody to hand over to
                process.kill()
                process.wait()


def _lacks_brokers(admin: AdminClient) -> str | None:
    try:
        seen = len(admin.list_topics(timeout=_ANSWER_S).brokers)
    except KafkaException as error:
        return f"no answer ({error})"
    return None if seen == _BROKERS else f"{seen} of {_BROKERS} are there"


def _lacks_copies(admin: AdminClient) -> str | None:
    partition = admin.list_topics(timeout=_ANSWER_S).topics[_TOPIC.topic].partitions[_TOPIC.partition]
    return None if len(partition.isrs) == _BROKERS else f"{len(partition.isrs)} of {_BROKERS} are"


def _write_and_read(admin: AdminClient, brokers: _Brokers) -> int:
    """Write a message that two brokers acknowledge and read it; return who led then."""
    common = {"bootstrap.servers": brokers.addresses, "topic.metadata.refresh.interval.ms": 300, **_QUIET}
    producer = Producer({**common, "acks": "all", "delivery.timeout.ms": int(_DEADLINE_S * 1000)})
    failures: list[object] = []
    producer.produce(_TOPIC.topic, b"x", on_delivery=lambda error, _: failures.append(error) if error else None)
    if producer.flush(_DEADLINE_S) or failures:
        raise HarnessError(f"Kafka took no message in its training run: {failures or 'no answer'}")
    consumer = Consumer({**common, "group.id": _TOPIC.topic})
    try:
        consumer.assign([TopicPartition(_TOPIC.topic, _TOPIC.partition, 0)])
        read = consumer.poll(_DEADLINE_S)
        if read is None or read.error():
            raise HarnessError(f"Kafka gave no message back in its training run: {read and read.error()}")
    finally:
        consumer.close()
    partition = admin.list_topics(timeout=_ANSWER_S).topics[_TOPIC.topic].partitions[_TOPIC.partition]
    return int(partition.leader)
