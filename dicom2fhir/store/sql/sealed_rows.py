"""Sealed studies: the rows of their instances as few compressed blocks.

Everything else reads the instances of a study here, whether it is sealed or not, and never changes those of a sealed
one: :class:`~dicom2fhir.store.sql.known_rows.KnownRows` opens a study when it looks it up to change it.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO

import orjson

from dicom2fhir.errors import StoreDamaged
from dicom2fhir.store.sql.statements import Row, Statements

BLOCK_BYTES = 8 << 20
"""Before compression, about: a database limits the size of a value."""
_SHARED = ("series_id", "patient_attrs", "study_attrs", "series_attrs", "reader")
_LEVEL = 9
"""A block is written once."""


def instance_rows(sql: Statements, study_id: int) -> list[Row]:
    """The rows of all instances of a study, as of ``study_instances``.

    Raises
    ------
    StoreDamaged
        A block cannot be read.
    """
    return [*sql.all("study_instances", study_id=study_id), *_sealed_rows(sql, study_id)]


def notes_of(sql: Statements, study_id: int) -> Iterator[bytes]:
    """The notes of those instances of a study that have any; raises what :func:`instance_rows` does."""
    yield from (notes for (notes,) in sql.all("study_notes", study_id=study_id))
    yield from (notes for *_, notes in _sealed_rows(sql, study_id) if notes is not None)


def seal(sql: Statements, study_id: int, blocks: Iterable[Row]) -> None:
    """Replace the rows of the instances of a study by the blocks of :func:`blocks_of`."""
    sql.run("forget_instances", study_id=study_id)
    columns = (*_SHARED, "instances", "block")
    sql.run_many("new_block", ({"study_id": study_id, **dict(zip(columns, row, strict=True))} for row in blocks))


def unseal(sql: Statements, study_id: int) -> None:
    """Replace the blocks of a study by the rows of its instances; raises what :func:`instance_rows` does."""
    columns = ("uid", *_SHARED, "body", "notes")
    rows = _sealed_rows(sql, study_id)
    sql.run_many("unseal_instance", ({"study_id": study_id, **dict(zip(columns, row, strict=True))} for row in rows))
    sql.run("forget_blocks", study_id=study_id)


def _sealed_rows(sql: Statements, study_id: int) -> list[Row]:
    return [row for block in sql.all("study_blocks", study_id=study_id) for row in rows_of(block)]


def blocks_of(rows: Iterable[Row]) -> list[Row]:
    """Rows of ``study_instances`` as blocks: what their instances share, their number, the rest compressed."""
    alike: defaultdict[Row, list[Row]] = defaultdict(list)
    for uid, *shared, body, notes in rows:
        alike[tuple(shared)].append((uid.encode(), body, notes))
    return [(*shared, len(part), _compressed(part)) for shared, values in alike.items() for part in _parts(values)]


def _parts(values: Sequence[Row]) -> Iterator[Sequence[Row]]:
    part: list[Row] = []
    size = 0
    for uid, body, notes in values:
        part.append((uid, body, notes))
        size += len(body) + len(notes or b"")
        if size >= BLOCK_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _compressed(values: Iterable[Row]) -> bytes:
    """Column by column, because the values of a column are alike: all lengths as JSON, a line feed, all values."""
    columns = list(zip(*values, strict=True))
    lengths = [[None if value is None else len(value) for value in column] for column in columns]
    content = b"".join(value or b"" for column in columns for value in column)
    return zlib.compress(orjson.dumps(lengths) + b"\n" + content, _LEVEL)


def rows_of(block: Row) -> list[Row]:
    """The rows of ``study_instances`` in a row of ``study_blocks``.

    Raises
    ------
    StoreDamaged
        It cannot be read.
    """
    *shared, compressed = block
    try:
        content = BytesIO(zlib.decompress(compressed))
        lengths = orjson.loads(content.readline())
        columns = [[None if length is None else content.read(length) for length in column] for column in lengths]
        return [(uid.decode(), *shared, body, notes) for uid, body, notes in zip(*columns, strict=True)]
    except (zlib.error, ValueError, TypeError, AttributeError) as error:
        raise StoreDamaged("A block of a sealed study is damaged") from error
