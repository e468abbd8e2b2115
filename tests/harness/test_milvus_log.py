"""How the log is asked where it ends while its leadership changes hands, and while its brokers have just begun.

Real brokers show this for some milliseconds and not every time, so the answers of Kafka's client, or those of its
brokers, are given here; all else of the log is tested on a real broker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka_brokers import Brokers

from gameday.waiting import wait_until
from lakehouse.milvus.log import Log, LogError

pytestmark = pytest.mark.needs("milvus")

_CLIENTS, _TURNS = 24, 4
_UNAWARE_S = 2.0
_LEADERLESS_S, _ASKING = 1.5, 3
_FOUND_DEADLINE_S = 15.0


class Asker:
    """Answers as Kafka's consumer does: raises the errors that it is given, then tells the last offset."""

    def __init__(self, errors: Iterator[int]) -> None:
        """Raise errors of these codes before the answer."""
        self._errors = errors
        self.asked = 0

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:  # noqa: ANN401 - as the client has it
        """Raise the next error, or answer."""
        self.asked += 1
        code = next(self._errors, None)
        if code is not None:
            raise KafkaException(KafkaError(code))
        return 0, 41


def log(monkeypatch: pytest.MonkeyPatch, errors: Iterator[int]) -> tuple[Log, Asker]:
    """Return a log that speaks to nobody, and who answers in place of the brokers."""
    asker = Asker(errors)
    monkeypatch.setattr(Log, "_consumer", lambda _: asker)
    return Log("127.0.0.1:1", "by-dev"), asker


def test_a_new_leader_that_does_not_know_the_end_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client sees none of it."""
    one, asker = log(monkeypatch, iter([KafkaError.OFFSET_NOT_AVAILABLE] * 3))
    assert one.end() == 41
    assert asker.asked == 4


def test_a_leader_that_never_knows_the_end_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is one for all that is asked."""
    one, asker = log(monkeypatch, iter(lambda: KafkaError.OFFSET_NOT_AVAILABLE, None))
    with pytest.raises(LogError, match="did not say where it ends"):
        one.end(0.3)
    assert 2 <= asker.asked <= 8


@pytest.mark.parametrize(
    "code", [KafkaError._TRANSPORT, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._UNKNOWN_PARTITION]
)
def test_a_log_without_a_leader_is_waited_for(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """It says so at once, and has one a moment later: a client that was told would be refused by all replicas."""
    one, asker = log(monkeypatch, iter([code] * 20))
    assert one.end() == 41
    assert asker.asked == 21


def test_brokers_that_know_of_nobody_for_a_while_are_found_again() -> None:
    """By every client, each time: not each client meets a broker that has just begun, and so there are many."""
    brokers = Brokers("by-dev", end=41)
    logs = [Log(brokers.addresses, brokers.topic) for _ in range(_CLIENTS)]

    def found(one: Log) -> None:
        wait_until("the log to say where it ends", lambda: unanswered(one), deadline_s=_FOUND_DEADLINE_S)

    def asked(one: Log) -> None:
        until = time.monotonic() + _UNAWARE_S
        while time.monotonic() < until:
            unanswered(one)
            time.sleep(0.2)

    with closing(brokers), ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(found, logs))
        for _ in range(_TURNS):
            brokers.aware = False
            brokers.restart()
            list(clients.map(asked, logs))
            brokers.aware = True
            list(clients.map(found, logs))


def test_who_leads_after_one_that_is_silent_is_asked() -> None:
    """Kafka's client stays with the leader that it asked first, whose machine may be gone: queries would fail."""
    brokers = Brokers("by-dev", end=41, silent=frozenset({0}))
    one = Log(brokers.addresses, brokers.topic)
    with closing(brokers), ThreadPoolExecutor() as asking:
        begun = time.monotonic()
        answers = [asking.submit(one.end) for _ in range(_ASKING)]
        time.sleep(_LEADERLESS_S)
        brokers.leader = 1
        assert [answer.result() for answer in answers] == [41] * _ASKING
        assert time.monotonic() - begun < _LEADERLESS_S + 2


def unanswered(one: Log) -> str | None:
    """Return why a log does not say where it ends, None where it does."""
    try:
        assert one.end() == 41
    except LogError as error:
        return str(error)
    return None
