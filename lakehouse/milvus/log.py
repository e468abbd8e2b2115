"""The log that all writes go through: one partition of a Kafka topic, which gives them one order for all replicas.

A write is acknowledged only when it is on as many brokers as the topic asks for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

_LOG = logging.getLogger(__name__)
_END_DEADLINE_S, _LOOK_S = 5.0, 1.0
# Asked where the log ends, Kafka's client stays with the leader that it knew: on one whose machine is gone it waits for
# as long as it may, all the others who ask behind it, and learns of the next leader only when it is asked again.
_ASK_S = 1.0
# A broker that has not answered for so long is asked no more, and who leads in its place is looked up.
_SILENCE_MS = 1500
# So soon a write goes to who leads in a lost broker's place, and is read from there, once there is one.
_REFRESH_MS, _RETRY_MS = 300, 200
_CREATE_DEADLINE_S = 60.0
_PAUSE_S = 1.0
_LEADER_PAUSE_S = 0.05
_NEVER = "-1"
_MESSAGE_BYTES_MAX = 16 * 2**20


class LogError(RuntimeError):
    """The log did not take a message, or did not answer."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message of the log.

    method      of the request, empty for a mark, which only says that metadata changed
    request     its bytes
    revision    of the metadata that must be there before it
    token       by which the replica that wrote it knows it again
    """

    offset: int
    method: str
    request: bytes
    revision: int
    token: str


class Log:
    """The channel `topic`, on the brokers of `brokers` (HOST:PORT, …)."""

    def __init__(self, brokers: str, topic: str, append_deadline_s: float = 10.0) -> None:
        """Speak to the brokers; one message is tried to be written for `append_deadline_s`."""
        common: dict[str, str | int | float | bool] = {
            "bootstrap.servers": brokers,
            "broker.address.family": "v4",
            "reconnect.backoff.max.ms": 500,
            "socket.timeout.ms": _SILENCE_MS,
            "topic.metadata.refresh.interval.ms": _REFRESH_MS,
            "retry.backoff.max.ms": _RETRY_MS,
            "message.max.bytes": _MESSAGE_BYTES_MAX,
        }
        self._common, self._topic, self._append_deadline_s = common, topic, append_deadline_s
        self._partition = TopicPartition(topic, 0)
        self._producer = Producer(
            {
                **common,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 1,
                "delivery.timeout.ms": int(append_deadline_s * 1000),
                "request.timeout.ms": _SILENCE_MS,
            }
        )
        self._asker, self._asking = self._consumer(), threading.Lock()

    def create(self, copies: int) -> None:
        """Make the topic where it is not there, and wait until it has a leader.

        It is kept for ever, on `copies` brokers, each write on a majority of them. Raises LogError after a minute.
        """
        settings = {"retention.ms": _NEVER, "retention.bytes": _NEVER, "min.insync.replicas": str(copies // 2 + 1)}
        settings["max.message.bytes"] = str(_MESSAGE_BYTES_MAX)
        topic = NewTopic(self._topic, num_partitions=1, replication_factor=copies, config=settings)
        # kept: one that goes takes what it was asked with it
        admin = AdminClient(self._common)
        deadline = time.monotonic() + _CREATE_DEADLINE_S
        while True:
            # first: to make a topic takes all brokers, and to use one that is there a majority
            try:
                self.end(_LOOK_S)
            except LogError as error:
                problem = str(error)
            else:
                return
            if time.monotonic() >= deadline:
                break
            try:
                admin.create_topics([topic], request_timeout=5.0)[self._topic].result(timeout=6.0)
            except KafkaException as error:
                # fewer brokers than copies: the others are still starting
                if _code(error) != KafkaError.TOPIC_ALREADY_EXISTS:
                    problem = str(error.args[0])
            time.sleep(_PAUSE_S)
        raise LogError(f"the topic {self._topic} was not there in {_CREATE_DEADLINE_S:g} s: {problem}")

    def append(self, method: str, request: bytes, revision: int, token: str) -> int:
        """Write a message and return its offset once it is safe; raises LogError where that is not certain."""
        done = threading.Event()
        delivered: list[tuple[KafkaError | None, Message]] = []

        def heard(error: KafkaError | None, message: Message) -> None:
            delivered.append((error, message))
            done.set()

        headers: list[tuple[str, str | bytes]] = [
            ("method", method.encode()),
            ("revision", str(revision).encode()),
            ("token", token.encode()),
        ]
        try:
            self._producer.produce(self._topic, value=request, headers=headers, partition=0, on_delivery=heard)
        except (KafkaException, BufferError) as problem:
            raise LogError(f"the log did not take a message: {problem}") from problem
        deadline = time.monotonic() + self._append_deadline_s + 1
        while not done.is_set() and time.monotonic() < deadline:
            self._producer.poll(0.05)
        if not delivered:
            raise LogError("the log did not say whether it took a message")
        error, message = delivered[0]
        if error is not None:
            if error.fatal():
                _LOG.critical("the producer is of no use any more, nor is the replica: %s", error.str())
                os._exit(1)
            raise LogError(f"the log did not take a message: {error.str()}")
        return int(message.offset() or 0)

    def end(self, within_s: float = _END_DEADLINE_S) -> int:
        """Return the offset that the next message gets; raises LogError where the log does not say it in that time."""
        deadline = time.monotonic() + within_s
        while True:
            problem = "it was silent"
            try:
                with self._asking:
                    left_s = max(deadline - time.monotonic(), 0.001)
                    marks = self._asker.get_watermark_offsets(self._partition, timeout=min(left_s, _ASK_S))
            except KafkaException as error:
                # While there is no leader most answers are errors, and come at once; who has just become the leader
                # does not know the end until the others have caught up with it. A client would be refused for either.
                problem = str(error.args[0])
            else:
                if marks is not None:
                    return int(marks[1])
            if time.monotonic() >= deadline:
                raise LogError(f"the log did not say where it ends for {within_s:g} s: {problem}")
            time.sleep(_LEADER_PAUSE_S)

    def read(self, offset: int) -> Iterator[Record | None]:
        """Yield the messages from an offset on for ever, None where none came for half a second.

        Raises LogError where the log no longer has that offset.
        """
        consumer = self._consumer()
        consumer.assign([TopicPartition(self._topic, 0, offset)])
        while True:
            message = consumer.poll(0.5)
            if message is None:
                yield None
                continue
            if (error := message.error()) is not None:
                if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's own code, public in C
                    raise LogError(f"the log does not have its message {offset} any more: {error.str()}")
                yield None
                continue
            yield _record(message)

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                **self._common,
                # never joined: every replica reads all, from where it is
                "group.id": "unused",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                # what comes is told at once; who hears that there is nothing has waited for so long
                "fetch.wait.max.ms": 500,
                "fetch.error.backoff.ms": 100,
            }
        )


def _code(error: KafkaException) -> int | None:
    problem = error.args[0]
    return problem.code() if isinstance(problem, KafkaError) else None


def _record(message: Message) -> Record:
    headers = dict(message.headers() or []).items()
    fields = {name: value.decode() for name, value in headers if isinstance(value, bytes)}
    return Record(
        int(message.offset() or 0),
        fields["method"],
        message.value() or b"",
        int(fields["revision"]),
        fields["token"],
    )
