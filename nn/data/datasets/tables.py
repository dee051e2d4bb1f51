"""Tables in files: CSV and Parquet, read by pyarrow, of any size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from agnostic_ad.nn.data.dataset import DamagedSample, DatasetError
from agnostic_ad.nn.data.datasets.folders import OnError
from agnostic_ad.nn.data.datasets.records import ROWS, Table, arrow

__all__ = ["CSV", "Parquet"]


class Parquet(Table):
    """The rows of a Parquet file; a set may be larger than memory.

    A file of less than 16 MiB is held in memory. A larger one is turned, once and a row group at a time, into records in the user's
    cache, which takes as much room as the values do, and is mapped: batches are then taken out of it row by row, and memory in use does
    not grow with what has been read.

    Parameters
    ----------
    path : path
        The file.
    columns : sequence of str, optional
        Which columns to read; by default all.
    target : str, optional
        The column to predict. Samples are then (features, target), where features are the other columns side by side, which have to
        hold numbers; else samples are dicts. Missing numbers are NaN.
    dtype : str
        The dtype of the features.
    on_error : "raise" or "skip"
        What happens with a row group that cannot be read: an error, which names it; or a warning, and its rows are left out.

    Raises
    ------
    DamagedSample
        If a row group cannot be read; its index is that of the first row.
    DatasetError
        If the file is absent, is not Parquet, or lacks a column.

    Examples
    --------
    >>> import pyarrow as pa, pyarrow.parquet
    >>> from agnostic_ad import nn
    >>> pa.parquet.write_table(pa.table({"x": [1.5, 2.5], "y": [3, 4], "label": [0, 1]}), "points.parquet")
    >>> nn.data.datasets.Parquet("points.parquet", target="label")[1]
    (array([2.5, 4. ], dtype=float32), np.int64(1))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        target: str | None = None,
        dtype: str = "float32",
        *,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(path, columns, target, dtype, on_error, None)

    def _read(self) -> Iterator[Any]:
        pyarrow = arrow()
        from pyarrow import parquet

        try:
            file = parquet.ParquetFile(self.path, page_checksum_verification=True)
        except (pyarrow.ArrowException, OSError) as error:
            raise DatasetError(f"{self.path} is no whole Parquet file: {error}") from None
        with file:
            missing = set(self._wanted or ()) - set(file.schema_arrow.names)
            if missing:
                raise DatasetError(f"{self.path} has no column {min(missing)!r}; it has {', '.join(file.schema_arrow.names)}")
            row = 0
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                try:
                    if self.skip:  # whole or not at all
                        batches = file.read_row_group(group, columns=self._wanted).to_batches()
                    else:
                        batches = file.iter_batches(ROWS, row_groups=[group], columns=self._wanted)
                    yield from map(_plain, batches)
                except (pyarrow.ArrowException, OSError) as error:
                    self._left_out(DamagedSample(row, f"{self.path}, row group {group}", error, self.skip))
                row += size


class CSV(Table):
    r"""The rows of a CSV file; a set may be larger than memory.

    Memory and the cache are used as `Parquet` does. The dtypes of columns are those that fit the first rows, or ``types``.

    Parameters
    ----------
    path : path
        The file, whose first line names the columns; packed (``.gz``) or not.
    columns : sequence of str, optional
        Which columns to keep; by default all.
    target : str, optional
        The column to predict. Samples are then (features, target), where features are the other columns side by side, which have to
        hold numbers; else samples are dicts. Missing numbers are NaN.
    dtype : str
        The dtype of the features.
    delimiter : str
        What stands between two cells.
    types : mapping of str to str, optional
        The dtypes of columns, by Arrow's names: ``{"price": "float64", "name": "string"}``.
    on_error : "raise" or "skip"
        What happens with a row that has too many or too few cells, or one that its column's dtype does not take: an error, which names
        it; or a warning, and the row is left out.

    Raises
    ------
    DamagedSample
        If a row cannot be read.
    DatasetError
        If the file is absent, or lacks a column.

    Examples
    --------
    >>> import pathlib
    >>> from agnostic_ad import nn
    >>> _ = pathlib.Path("points.csv").write_text("x,y,name\n1.5,3,a\n2.5,4,b\n")
    >>> data = nn.data.datasets.CSV("points.csv")
    >>> data[1]
    {'x': np.float64(2.5), 'y': np.int64(4), 'name': 'b'}
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        target: str | None = None,
        dtype: str = "float32",
        *,
        delimiter: str = ",",
        types: Mapping[str, str] | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self.delimiter, self.types = delimiter, dict(types or {})
        super().__init__(path, columns, target, dtype, on_error, [delimiter, self.types])

    def _reader(self, types: Any, invalid: Callable[[Any], str]) -> Any:
        pyarrow = arrow()
        from pyarrow import csv

        try:
            return csv.open_csv(
                self.path,
                csv.ReadOptions(use_threads=False),
                csv.ParseOptions(delimiter=self.delimiter, invalid_row_handler=invalid),
                csv.ConvertOptions(column_types=types, include_columns=self._wanted),
            )
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            raise DatasetError(f"{self.path} is no CSV file with these columns: {error}") from None

    def _read(self) -> Iterator[Any]:
        """Read the columns in the dtypes of the first block; where that fails, the block's rows one by one."""
        pyarrow = arrow()
        given = {name: pyarrow.type_for_alias(alias) for name, alias in self.types.items()}

        def kind(field: Any) -> Any:  # a column that is empty in the first rows may hold anything
            return given.get(field.name, pyarrow.string() if pyarrow.types.is_null(field.type) else field.type)

        schema = pyarrow.schema([field.with_type(kind(field)) for field in self._reader({}, lambda row: "skip").schema])
        invalid: dict[int, str] = {}  # rows with too many or too few cells; what is raised among pyarrow's own calls would be lost

        def handle(row: Any) -> str:
            # rows are counted from 1, and the first names the columns
            invalid[row.number - 2] = f"it has {row.actual_columns} cells, and there are {row.expected_columns} columns"
            return "skip"

        reader = self._reader({name: pyarrow.string() for name in schema.names}, handle)
        first = told = 0
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                batch = None
            except (pyarrow.ArrowException, OSError) as error:
                raise DatasetError(f"{self.path} is damaged: {error}") from None
            found = sorted(invalid.items())[told:]
            told = len(invalid)
            wrong: dict[int, str] = {}
            if batch is not None:
                columns = [self._converted(batch.column(i), field.type) for i, field in enumerate(schema)]
                for column, field in zip(columns, schema):
                    if column.type != field.type:
                        for place in _failing(column, field.type):
                            wrong.setdefault(place, f"column {field.name!r} holds {column[place].as_py()!r}, which is no {field.type}")
            for place, reason in wrong.items():
                row = first + place
                for number in sorted(invalid):
                    row += number <= row
                found.append((row, reason))
            for row, reason in sorted(found):
                self._left_out(DamagedSample(row, self.path, reason, self.skip))
            if batch is None:
                return
            first += len(batch)
            if wrong:
                keep = np.setdiff1d(np.arange(len(batch)), list(wrong))
                columns = [column.take(pyarrow.array(keep)).cast(field.type) for column, field in zip(columns, schema)]
            yield pyarrow.RecordBatch.from_arrays(columns, schema=schema)

    def _converted(self, column: Any, kind: Any) -> Any:
        """Give a column of texts in a dtype, or as texts again if a cell does not fit."""
        pyarrow = arrow()
        from pyarrow import compute, csv

        if kind == pyarrow.string():
            return column
        missing = pyarrow.array(csv.ConvertOptions().null_values)
        column = compute.if_else(compute.is_in(column, value_set=missing), None, compute.utf8_trim_whitespace(column))
        try:
            return column.cast(kind)
        except pyarrow.ArrowInvalid:
            return column


def _failing(column: Any, kind: Any, start: int = 0) -> Iterator[int]:
    """Find the cells that do not fit a dtype, by halves."""
    try:
        column.cast(kind)
    except arrow().ArrowInvalid:
        if len(column) == 1:
            yield start
            return
        half = len(column) // 2
        yield from _failing(column.slice(0, half), kind, start)
        yield from _failing(column.slice(half), kind, start + half)


def _plain(batch: Any) -> Any:
    """Write out columns that are held as numbers of a dictionary: each batch has one of its own, and an Arrow file only one."""
    pyarrow = arrow()
    columns = [column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column for column in batch.columns]
    return pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)
