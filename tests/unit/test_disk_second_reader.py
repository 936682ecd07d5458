"""A reader of the files written from `docs/storage.md` alone: the page says enough.

It shares no code with the store: `struct`, `zlib`, a generic msgpack decoder and the page.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from iii_state.core.changes import Origin
from iii_state.core.commands import Delete, Set
from iii_state.stores.disk.inspection import DumpedEntry, dump_store
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock

Record = dict[str, Any]


def read_note(path: Path) -> dict[str, Any]:
    line, check = path.read_bytes().split(b"\n")[:2]
    assert check == b"%08x" % crc32(line)
    note: dict[str, Any] = json.loads(line)
    return note


def read_segment(path: Path, store_id: bytes) -> Iterator[Record]:
    data = path.read_bytes()
    assert data[:8] == b"iiiSEG\r\n"
    version, _, _, first, last, _, sequence = struct.unpack_from("<HHIQQQQ", data, 8)
    assert version == 1
    assert path.name == f"{first:010}-{last:010}.seg"
    assert data[56:72] == store_id
    assert struct.unpack_from("<I", data, 76)[0] == crc32(data[:76])
    at = 80
    while data[at : at + 4] == b"\xff\x69\x42\x0a":
        assert struct.unpack_from("<I", data, at + 76)[0] == crc32(data[at : at + 76])
        kind = data[at + 6]
        segment, block_sequence = struct.unpack_from("<QQ", data, at + 8)
        assert segment == first
        assert block_sequence >= sequence
        sequence = block_sequence + 1
        (first_revision,) = struct.unpack_from("<Q", data, at + 32)
        count, meta_bytes, body_bytes, meta_crc, body_crc = struct.unpack_from("<5I", data, at + 56)
        meta = data[at + 80 : at + 80 + meta_bytes]
        body = data[at + 80 + meta_bytes : at + 80 + meta_bytes + body_bytes]
        assert (crc32(meta), crc32(body)) == (meta_crc, body_crc)
        if kind == 1:
            yield from read_records(meta, body, first_revision, count)
        at += 80 + meta_bytes + body_bytes
    assert not data[at:].strip(b"\0")


def read_records(meta: bytes, body: bytes, first_revision: int, count: int) -> Iterator[Record]:
    columns = msgspec.msgpack.decode(meta)
    assert len(columns) == 13

    def column(number: int, default: Any) -> list[Any]:
        items = columns[number]
        if items is None:
            return [default] * count
        return list(items) * count if len(items) == 1 else list(items)

    kinds = columns[4] or bytes(count)
    revisions = columns[5] or range(first_revision, first_revision + count)
    at = 0
    for number in range(count):
        length = columns[2][number]
        assert struct.unpack_from("<I", body, at)[0] == crc32(body[at + 4 : at + 48 + length])
        size, revision, created, created_at, updated_at, expires = struct.unpack_from(
            "<IQQQQQ", body, at + 4
        )
        assert (size, revision) == (length, revisions[number])
        yield {
            "scope": column(1, None)[number],
            "key": columns[0][number],
            "is_delete": kinds[number] == 1,
            "value": body[at + 48 : at + 48 + length],
            "times": (revision, created, created_at, updated_at, expires),
            "previous": columns[3][number],
            "writer": (column(6, "")[number], column(7, "")[number], column(8, 0)[number]),
        }
        at += 48 + length
    assert at == len(body)


def read_store(directory: Path) -> list[Record]:
    store_id = bytes.fromhex(read_note(directory / "STORE")["store_id"])
    covered = 0
    records: list[Record] = []
    names = [path.name for path in directory.glob("*.seg")]
    for name in sorted(names, key=lambda name: (name[:10], -int(name[11:21]))):
        first, last = int(name[:10]), int(name[11:21])
        if last > covered:
            assert first == covered + 1
            records += read_segment(directory / name, store_id)
            covered = last
    stopped = read_note(directory / "STOPPED")
    assert (directory / stopped["segment"]).stat().st_size == stopped["length"]
    return records


def has_merged_segment(directory: Path) -> bool:
    return any(path.name[:10] != path.name[11:21] for path in directory.glob("*.seg"))


async def test_the_page_is_enough_to_read_a_store(tmp_path: Path) -> None:
    clock = FakeClock()
    store = await DiskStore.open(tmp_path, clock_ms=clock, segment_bytes=5000, history_bytes=10_000)
    origin = Origin("worker", "function", 3)
    for n in range(300):
        clock.advance(1)
        store.execute(Set(f"scope {n % 3}", f"ключ {n % 17}", b'"%b"' % (b"x" * n), origin))
        if n % 5 == 0:
            store.execute(Delete(f"scope {n % 3}", f"ключ {n % 7}"))
        if n % 2:
            await store.commit()
    await store.compact()
    revision, oldest = store.revision, store.oldest_revision
    changes = list(store.changes(oldest, 10_000, 1 << 30))
    await store.close()

    records = read_store(tmp_path)

    assert records[-1]["times"][0] == revision
    assert has_merged_segment(tmp_path)
    window = [record for record in records if record["times"][0] > oldest]
    assert [(r["scope"], r["key"], r["previous"], r["writer"]) for r in window] == [
        (
            c.scope,
            c.key,
            c.replaced.revision if c.replaced else 0,
            (c.origin.worker, c.origin.function, c.origin.depth),
        )
        for c in changes
    ]
    state = {(r["scope"], r["key"]): r for r in records}
    live = {name: record for name, record in state.items() if not record["is_delete"]}
    dumped = [entry for entry in dump_store(tmp_path) if isinstance(entry, DumpedEntry)]
    assert {
        (e.scope, e.key): (
            bytes(e.value),
            (e.revision, e.created_revision, e.created_at_ms, e.updated_at_ms, e.expires_at_ms),
        )
        for e in dumped
    } == {name: (record["value"], record["times"]) for name, record in live.items()}
