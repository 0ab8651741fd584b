"""Reads tables in Apache Parquet files. `open_table` (formats.py) calls `open_parquet`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pandas as pd

from layersearch.table.limits import PARQUET_START, Source, refuse_excess, refuse_text
from layersearch.words import quoted_list

Columns = tuple[list[Any], Iterator[pd.DataFrame]]  # the names, and the rows in pieces


def open_parquet(source: Source, n_rows: int | None, notices: list[str], stack: ExitStack) -> dict[str, Columns]:
    """Opens the table in pieces of `n_rows` rows, or in one piece (None); `stack` closes it. Raises ValueError."""
    import pyarrow.parquet

    source.refuse_foreign(PARQUET_START)
    place = source.path if source.content is None else io.BytesIO(source.content)
    n_bytes = source.path.stat().st_size if source.content is None else len(source.content)
    with pyarrow.parquet.ParquetFile(place) as file:
        names, types, metadata = file.schema_arrow.names, file.schema_arrow.types, file.metadata
    refuse_excess(metadata.num_rows, len(names), n_bytes, "packed")
    if nested := [name for name, kind in zip(names, types, strict=True) if kind.num_fields]:
        raise ValueError(f"column {quoted_list(nested)} holds lists or records; leave it out")
    # Texts stay dictionary-encoded until their size is known: a small file may repeat a long text in every row.
    described = [metadata.schema.column(i) for i in range(len(names))]
    texts = [column.path for column in described if column.physical_type == "BYTE_ARRAY"]
    # Without these options `iter_batches` would read whole row groups ahead.
    lazily = {"pre_buffer": False, "buffer_size": 2**16}
    file = stack.enter_context(pyarrow.parquet.ParquetFile(place, read_dictionary=texts, **lazily))
    return {"": (names, _frames(file, n_rows))}


def _frames(file: Any, n_rows: int | None) -> Iterator[pd.DataFrame]:
    import pyarrow

    if n_rows is None:
        tables = iter([file.read()])
    else:
        tables = (pyarrow.Table.from_batches([batch]) for batch in file.iter_batches(n_rows, use_threads=False))
    size = 0
    for table in tables:
        size += sum(map(_text_size, table.columns))
        refuse_text(size)
        plain = [column.cast(getattr(column.type, "value_type", column.type)) for column in table.columns]
        numbered = pyarrow.Table.from_arrays(plain, [str(i) for i in range(len(plain))])  # pandas refuses equal names
        # Integers stay integers beside missing cells, so the type does not depend on which piece has missing cells.
        yield numbered.to_pandas(integer_object_nulls=n_rows is not None)


def _text_size(column: Any) -> int:
    """Returns the number of bytes that the texts in all rows of a pyarrow column have together."""
    import pyarrow.compute

    texts = [chunk for chunk in column.chunks if hasattr(chunk, "dictionary")]
    sizes = [pyarrow.compute.sum(pyarrow.compute.binary_length(c.dictionary).take(c.indices)) for c in texts]
    return sum(size.as_py() or 0 for size in sizes)
