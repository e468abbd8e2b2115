"""How the log is asked where it ends while its leadership changes hands: by what Kafka's client raises then.

A real hand-over shows this for some milliseconds and not every time, so the client's answers are given here; all else
of the log is tested on a real broker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from lakehouse.milvus import log as module
from lakehouse.milvus.log import Log, LogError


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
    monkeypatch.setattr(module, "_END_DEADLINE_S", 0.3)
    one, asker = log(monkeypatch, iter(lambda: KafkaError.OFFSET_NOT_AVAILABLE, None))
    with pytest.raises(LogError, match="did not say where it ends"):
        one.end()
    assert 2 <= asker.asked <= 8


def test_another_error_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waiting does not mend is told at once."""
    one, asker = log(monkeypatch, iter([KafkaError._TRANSPORT]))
    with pytest.raises(LogError, match="did not say where it ends"):
        one.end()
    assert asker.asked == 1
