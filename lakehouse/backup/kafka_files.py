# Run as the text that it is, in pods whose images have Python and not this package.
"""The files of a Kafka broker: how far each partition goes, digests of its bytes, and whether a copy has the same.

kafka_files.py describe FOLDER               prints what is there, as JSON
kafka_files.py compare FOLDER WANTED UNTIL   prints in what a copy of the folder, of which `describe` printed WANTED,
                                             differs from it, or lacks what was there at UNTIL (ms since 1970)

A segment only grows, so a copy of one is a prefix of it, up to the offset that all brokers had when it was copied (the
high watermark): what lay beyond may have been given up by a new leader since. The layout of batches is that of Kafka's
message format 2: https://kafka.apache.org/documentation/#recordbatch
"""

import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Base offset, length of what follows, leader's epoch, magic, CRC, attributes, last offset's delta, first and last time.
_HEADER = struct.Struct(">qiibIhiqq")
# What the length of a batch does not count: its base offset and itself.
_UNCOUNTED = 12
_WATERMARKS = "replication-offset-checkpoint"
# Kafka's own: its metadata is kept anew by snapshots, and what is being removed is none.
_NOT_DATA = ("__cluster_metadata-0",)
_GOING = ("-delete", "-future", "-stray")
_CHUNK = 2**20


def batches(segment: Path) -> "Iterator[tuple[int, int, int]]":
    """Yield, for each whole batch, the next offset, its youngest message's time (ms), and where it ends (bytes)."""
    size, begin = segment.stat().st_size, 0
    with segment.open("rb") as file:
        while begin + _HEADER.size <= size:
            file.seek(begin)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            base, length, _, _, _, _, last, _, youngest = _HEADER.unpack(header)
            end = begin + _UNCOUNTED + length
            if length <= 0 or end > size:
                return
            yield base + last + 1, youngest, end
            begin = end


def digest(file: Path, size: int) -> str:
    """Return the SHA-256 of the first bytes of a file."""
    found, left = hashlib.sha256(), size
    with file.open("rb") as stream:
        while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
            found.update(chunk)
            left -= len(chunk)
    return found.hexdigest()


def partitions(folder: Path) -> "dict[str, list[Path]]":
    """Return the segments of each partition, oldest first."""
    found = {}
    for one in sorted(folder.iterdir()):
        if one.is_dir() and one.name not in _NOT_DATA and not one.name.endswith(_GOING):
            segments = sorted(one.glob("*.log"))
            if segments:
                found[one.name] = segments
    return found


def watermarks(folder: Path) -> "dict[str, int]":
    """Return the high watermark of each partition, as the broker wrote it down last."""
    file = folder / _WATERMARKS
    lines = file.read_text().splitlines()[2:] if file.exists() else []
    return {f"{topic}-{number}": int(offset) for topic, number, offset in (line.split() for line in lines)}


def describe(folder: Path) -> "dict[str, Any]":
    """Return for each partition its next offset, and of each segment the bytes below the high watermark."""
    safe, found = watermarks(folder), {}
    for name, files in partitions(folder).items():
        segments, end = {}, 0
        for file in files:
            size = 0
            for following, _, until in batches(file):
                end = following
                if following <= safe.get(name, 0):
                    size = until
            segments[file.name] = {"bytes": size, "sha256": digest(file, size)}
        found[name] = {"end": end, "safe": safe.get(name, 0), "segments": segments}
    return found


def compare(folder: Path, wanted: "dict[str, Any]", until_ms: int) -> "list[str]":
    """Return in what the files that `wanted` describes are no copy of those here, each in a sentence."""
    problems = []
    for name, files in partitions(folder).items():
        here = {file.name: file for file in files}
        copies = wanted.get(name, {"end": 0, "safe": 0, "segments": {}})
        for segment, copy in copies["segments"].items():
            # what lay before the oldest of them was kept for its time, and went
            if segment not in here and segment > min(here):
                problems.append(f"{name}/{segment} is in it and not there")
            if segment in here and digest(here[segment], copy["bytes"]) != copy["sha256"]:
                problems.append(f"{name}/{segment} differs within its first {copy['bytes']} bytes")
        problems += lacking(name, files, copies)
        older = [offset for file in files for offset, youngest, _ in batches(file) if youngest <= until_ms]
        # what the copy has beyond its watermark was not compared, so it does not count
        end = min(copies["end"], copies["safe"])
        if max(older, default=0) > end:
            problems.append(f"{name} ends at {end} in it, and was at {max(older)} before it was taken")
    return problems


def lacking(name: str, files: "list[Path]", copies: "dict[str, Any]") -> "list[str]":
    """Return which segments that were full when a partition was copied are not in the copy to their end.

    A copy ends in its newest segment, and each before that one is full.
    """
    problems, safe = [], min(copies["end"], copies["safe"])
    for file in files[:-1]:
        following, size = 0, 0
        for following, _, size in batches(file):  # noqa: B007 - the last is wanted
            pass
        copied = copies["segments"].get(file.name, {"bytes": 0})["bytes"]
        if following <= safe and copied != size:
            problems.append(f"{name}/{file.name} has {copied} of {size} bytes in it")
    return problems


def main(arguments: "list[str]") -> None:
    """Do what the arguments say and print it."""
    folder = Path(arguments[1])
    if arguments[0] == "describe":
        answer: Any = describe(folder)
    else:
        answer = compare(folder, json.loads(arguments[2]), int(arguments[3]))
    print(json.dumps(answer))  # noqa: T201 - the answer


if __name__ == "__main__":
    main(sys.argv[1:])
