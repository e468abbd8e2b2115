"""What pgBackRest has in the store of backups, read there: base backups, and whether their files are what it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileInfo, S3FileSystem

from gameday.errors import HarnessError
from lakehouse.backups.backup import Backup
from lakehouse.backups.region_stores import content_of, objects_under
from lakehouse.provider import BACKUP_BUCKET, POSTGRES_BACKUPS, STANZA

_BACKUPS = f"{BACKUP_BUCKET}/{POSTGRES_BACKUPS}/backup/{STANZA}"
_ARCHIVE = f"{BACKUP_BUCKET}/{POSTGRES_BACKUPS}/archive/{STANZA}"
_INFO = "backup.info"
# pgBackRest writes each of its own files twice, and takes the second where the first cannot be read.
_COPY = ".copy"
_MANIFEST = "backup.manifest"
_SUFFIXES = {"none": "", "gz": ".gz", "bz2": ".bz2", "lz4": ".lz4", "zst": ".zst"}
# A name of a segment of the log: timeline, and number.
_SEGMENT, _TIMELINE = 24, 8

type Sections = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Repository:
    """The repository of base backups and of the archived log."""

    files: S3FileSystem

    def backups(self) -> list[Backup]:
        """Return all base backups that were taken to their end, oldest first; raises HarnessError."""
        info = self.info()
        stored = objects_under(self.files, _BACKUPS)
        archived = _segments(objects_under(self.files, _ARCHIVE))
        return [self._backup(label, said, stored, archived) for label, said in sorted(_current(info).items())]

    def info(self) -> Sections:
        """Return what pgBackRest says of its backups; empty where it took none yet. Raises HarnessError."""
        return self._twice(f"{_BACKUPS}/{_INFO}")

    def leads_to(self, label: str, segment: str) -> bool:
        """Tell whether the log after a backup leads to a segment of the living database.

        It does not from a backup of a database that was made anew since, or restored to a moment before it.
        """
        info = self.info()
        said, living = _current(info)[label], info["db"]
        if said["db-id"] != living["db-id"]:
            return False
        own, now = str(said["backup-archive-stop"])[:_TIMELINE], segment[:_TIMELINE]
        if own == now:
            return True
        history = content_of(self.files, f"{_ARCHIVE}/{living['db-version']}-{living['db-id']}/{now}.history")
        for line in history.decode().splitlines():
            timeline, left_at, *_ = [*line.split(), "", ""]
            if timeline.isdigit() and int(timeline) == int(own, 16):
                return _position(str(said["backup-lsn-stop"])) <= _position(left_at)
        return False

    def wrong(self, label: str) -> list[str]:
        """Tell which files of a backup are missing or have another size than pgBackRest wrote; empty where none."""
        return self._wrong(label, objects_under(self.files, _BACKUPS))

    def _backup(self, label: str, said: dict[str, Any], stored: Mapping[str, FileInfo], archived: set[str]) -> Backup:
        problems = ["pages with wrong checksums were seen while it was taken"] if said["backup-error"] else []
        problems += self._wrong(label, stored)
        needed = {str(said["backup-archive-start"]), str(said["backup-archive-stop"])}
        problems += [f"segment {segment} of the log is not archived" for segment in sorted(needed - archived)]
        size = sum(item.size for name, item in stored.items() if name.startswith(f"{label}/"))
        return Backup(label, float(said["backup-timestamp-stop"]), size, "; ".join(problems) or None)

    def _wrong(self, label: str, stored: Mapping[str, FileInfo]) -> list[str]:
        try:
            manifest = self._twice(f"{_BACKUPS}/{label}/{_MANIFEST}", needed=True)
            expected = _expected(manifest)
        except (HarnessError, ValueError, KeyError, TypeError) as error:
            return [f"{label}/{_MANIFEST} cannot be read ({error})"]
        found = []
        for name, size in sorted(expected.items()):
            item = stored.get(f"{label}/{name}")
            if item is None:
                found.append(f"{label}/{name} is missing")
            elif item.size != size:
                found.append(f"{label}/{name} has {item.size} bytes and not {size}")
        return found

    def _twice(self, path: str, *, needed: bool = False) -> Sections:
        """Return what one of pgBackRest's own files says, or its copy where that cannot be read."""
        folder, _, name = path.rpartition("/")
        there = [one for one in (name, name + _COPY) if one in objects_under(self.files, folder)]
        if not there and not needed:
            return {}
        problem = "it is missing"
        for one in there:
            try:
                return _parsed(content_of(self.files, f"{folder}/{one}").decode())
            except ValueError as error:
                problem = str(error)
        raise HarnessError(f"{path} cannot be read: {problem}")


def _current(info: Sections) -> dict[str, dict[str, Any]]:
    return info.get("backup:current", {})


def _parsed(text: str) -> Sections:
    """Return the sections of a file of pgBackRest's; raises ValueError where it is none, or is cut off."""
    sections: Sections = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line:
            name, equals, value = line.partition("={" if "={" in line else "=")
            if not equals or not sections:
                raise ValueError(f"an odd line: {line[:60]}")
            section[name] = json.loads(equals[1:] + value)
    # the last thing that is written, and the first that a truncated one lacks
    if "backrest-checksum" not in sections.get("backrest", {}):
        raise ValueError("it has no end")
    return sections


def _expected(manifest: Sections) -> dict[str, int]:
    """Return the objects of a backup with their sizes: files of their own, and bundles of small ones."""
    suffix = _SUFFIXES[manifest["backup:option"]["option-compress-type"]]
    sizes: dict[str, int] = {}
    for name, said in manifest["target:file"].items():
        stored = int(said.get("repo-size", said["size"]))
        if "bni" in said:
            bundle = f"bundle/{said['bni']}"
            sizes[bundle] = max(sizes.get(bundle, 0), int(said.get("bno", 0)) + stored)
        elif said["size"] or not manifest["backup"].get("backup-bundle"):
            # an empty file is in no bundle, and is none of its own then
            sizes[name + suffix] = stored
    return sizes


def _position(written: str) -> int:
    """Return a position of the log, which is written as two numbers."""
    high, low = written.split("/")
    return int(high, 16) << 32 | int(low, 16)


def _segments(archived: Mapping[str, FileInfo]) -> set[str]:
    """Return the segments of the log in the archive; one without bytes is none."""
    names = {name.rpartition("/")[2]: item.size for name, item in archived.items()}
    return {name[:_SEGMENT] for name, size in names.items() if size and name[_SEGMENT : _SEGMENT + 1] == "-"}
