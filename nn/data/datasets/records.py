"""Tables as records, in memory or in a mapped file."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agnostic_ad.nn.data.dataset import DamagedSample, Dataset, DatasetError, take_rows
from agnostic_ad.nn.data.datasets.folders import skips
from agnostic_ad.nn.data.datasets.mapped import SMALL, Reopened, derived, map_array

__all__ = ["Table"]

ROWS = 1 << 14
_TEXTS = 16  # how many rows are read at a time where texts are: each may lie in another part of the file for each column


def arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise DatasetError("tables are read with pyarrow: pip install 'agnostic_ad[data]'") from None
    return pyarrow


class _Batches:
    """The parts of a table of texts and lists, in memory or in a mapped file."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches
        self.ends = np.cumsum([len(batch) for batch in batches], dtype=np.int64)

    def take(self, indices: np.ndarray[Any, Any]) -> dict[str, list[Any]]:
        """Give the rows of these numbers, as a list for each column."""
        if not self.batches:
            return {}
        pyarrow = arrow()
        owners = np.searchsorted(self.ends, indices, side="right")
        order = np.argsort(owners, kind="stable")
        used, begins = np.unique(owners[order], return_index=True)
        parts = [
            self.batches[owner].take(pyarrow.array(some - (self.ends[owner - 1] if owner else 0)))
            for owner, some in zip(used, np.split(indices[order], begins[1:]))
        ]
        rows = pyarrow.Table.from_batches(parts, self.batches[0].schema)
        back = np.argsort(order).tolist()
        return {name: take_rows(rows.column(name).to_pylist(), back) for name in rows.schema.names}


def _map_table(path: str) -> _Batches:
    pyarrow = arrow()
    reader = pyarrow.ipc.open_file(pyarrow.memory_map(path))
    return _Batches([reader.get_batch(i) for i in range(reader.num_record_batches)])


class Table(Dataset):
    """What CSV and Parquet have in common; `_read` gives the parts of the table.

    What has a fixed width becomes one array of records: a row lies in one place, not in as many as there are columns. Texts and lists
    stay Arrow's.
    """

    def __init__(
        self, path: str | os.PathLike[str], columns: Sequence[str] | None, target: str | None, dtype: str, on_error: str, options: Any
    ) -> None:
        arrow()
        self.path, self.columns, self.target, self.dtype = Path(path), columns, target, np.dtype(dtype)
        self.skip = skips(type(self).__name__, on_error)
        if not self.path.is_file():
            raise DatasetError(f"there is no {self.path}")
        self._wanted = None if columns is None else list(dict.fromkeys([*columns, *([] if target is None else [target])]))
        self._missing: set[str] = set()  # integer columns in which something is missing, anywhere: floating-point, with NaN
        self._told: set[int] = set()
        self._rows: Any
        self._texts: Any
        if self.path.stat().st_size < SMALL // 4:  # what is packed takes more in memory
            rows: list[np.ndarray[Any, Any]] = []
            texts: list[Any] = []
            while not self._pour(rows.append, texts.append):
                rows.clear()
                texts.clear()
            self._rows, self._texts = np.concatenate(rows), _Batches(texts)
            self._length, self._record = len(self._rows), self._rows.dtype
        else:
            made = derived(self.path, [type(self).__name__, self._wanted, target, dtype, self.skip, options], ".table", self._write)
            said = json.loads((made / "table.json").read_text(encoding="utf-8"))
            self.names, self._length = said["names"], said["rows"]
            self._record = np.dtype([(name, kind, *map(tuple, shape)) for name, kind, *shape in said["dtype"]])
            self._rows = Reopened(map_array, str(made / "rows"), self._record, (self._length,), 0, "C")
            self._texts = Reopened(_map_table, str(made / "texts.arrow")) if (made / "texts.arrow").is_file() else _Batches([])

    def _read(self) -> Iterator[Any]:
        raise NotImplementedError

    def _pour(self, rows: Callable[[np.ndarray[Any, Any]], None], texts: Callable[[Any], None]) -> bool:
        """Read the table; tell whether all went well, or an integer column turned out to have gaps and all is to be read again."""
        pyarrow = arrow()
        kinds = pyarrow.types
        dtype: np.dtype[Any] | None = None
        whole = True
        for batch in self._read():
            for name, column in zip(batch.schema.names, batch.columns):
                if column.null_count and (kinds.is_integer(column.type) or kinds.is_boolean(column.type)) and name not in self._missing:
                    self._missing.add(name)
                    whole = False
            if whole:
                columns = {name: self._numpy(name, column) for name, column in zip(batch.schema.names, batch.columns)}
                if dtype is None:
                    dtype = self._layout(batch.schema.names, columns)
                rows(self._records(dtype, len(batch), columns))
                if left := [name for name, column in columns.items() if column is None]:
                    texts(batch.select(left))
        if dtype is None and whole:
            raise DatasetError(f"{self.path} holds no rows")
        return whole

    def _numpy(self, name: str, column: Any) -> np.ndarray[Any, Any] | None:
        """Give a column as an array; None if NumPy has no dtype of fixed width for it."""
        pyarrow = arrow()
        if pyarrow.types.is_fixed_size_list(column.type):
            if column.null_count:
                raise DatasetError(f"{self.path}: column {name!r} lacks vectors in some rows")
            inner: np.ndarray[Any, Any] = column.flatten().to_numpy(zero_copy_only=False)
            return None if inner.dtype.hasobject else inner.reshape(len(column), column.type.list_size)
        if pyarrow.types.is_decimal(column.type) or name in self._missing:
            column = column.cast(pyarrow.float64(), safe=False)
        empty = pyarrow.array([], column.type).to_numpy(zero_copy_only=False)
        return None if empty.dtype.hasobject else column.to_numpy(zero_copy_only=False)

    def _layout(self, names: list[str], columns: dict[str, np.ndarray[Any, Any] | None]) -> np.dtype[Any]:
        if self.target is not None and self.target not in names:
            raise DatasetError(f"{self.path} has no column {self.target!r}; it has {', '.join(names)}")
        self.names = [name for name in names if name != self.target]
        if self.target is None:
            kept = [(name, column) for name, column in columns.items() if column is not None]
            return np.dtype([(name, column.dtype.str, column.shape[1:]) for name, column in kept])
        width = 0
        for name in self.names:
            column = columns[name]
            if column is None or column.dtype.kind not in "biuf":
                raise DatasetError(
                    f"{self.path}: column {name!r} holds {'texts or lists' if column is None else column.dtype}, which is no feature: name "
                    "the numeric ones in columns=, or leave out target= to get dicts"
                )
            width += column.shape[1] if column.ndim == 2 else 1
        target = columns[self.target]
        last = [] if target is None else [("target", target.dtype.str, target.shape[1:])]
        return np.dtype([("features", self.dtype.str, (width,)), *last])

    def _records(self, dtype: np.dtype[Any], n: int, columns: dict[str, np.ndarray[Any, Any] | None]) -> np.ndarray[Any, Any]:
        records = np.empty(n, dtype)
        if self.target is None:
            for name in dtype.names or ():
                records[name] = columns[name]
            return records
        if self.names:
            records["features"] = np.concatenate([np.reshape(columns[name], (n, -1)) for name in self.names], axis=1)  # type: ignore[arg-type]
        if "target" in (dtype.names or ()):
            records["target"] = columns[self.target]
        return records

    def _write(self, new: Path) -> None:
        """Write the table into a folder: the records, texts if there are any, and what they are."""
        pyarrow = arrow()
        new.mkdir()
        whole = False
        while not whole:
            count, dtype, writer = 0, np.dtype([]), None
            with open(new / "rows", "wb") as file:

                def rows(part: np.ndarray[Any, Any], file: Any = file) -> None:
                    nonlocal count, dtype
                    count, dtype = count + len(part), part.dtype
                    file.write(part.tobytes())

                def texts(part: Any) -> None:
                    nonlocal writer
                    if writer is None:
                        writer = pyarrow.ipc.new_file(str(new / "texts.arrow"), part.schema)
                    writer.write_table(pyarrow.Table.from_batches([part]), max_chunksize=ROWS)

                whole = self._pour(rows, texts)
            if writer is not None:
                writer.close()
        said = {"names": self.names, "rows": count, "dtype": [[name, *kind] for name, *kind in dtype.descr]}
        (new / "table.json").write_text(json.dumps(said), encoding="utf-8")

    def _left_out(self, damage: DamagedSample) -> None:
        """Raise, or warn, once, and go on."""
        if not self.skip:
            raise damage
        if damage.index not in self._told:
            self._told.add(damage.index)
            warnings.warn(f"left out: {damage}", stacklevel=2)

    def __len__(self) -> int:
        return int(self._length)

    def __getitem__(self, index: int) -> Any:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"sample {index} of {n}")
        batch = self.take(np.asarray([index % n]))
        if isinstance(batch, dict):
            return {name: column[0] for name, column in batch.items()}
        return tuple(part[0] for part in batch)

    def take(self, indices: np.ndarray[Any, Any]) -> Any:
        """Give the rows of these numbers as one batch."""
        indices = np.asarray(indices, np.int64)
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"{type(self).__name__}: rows {indices.min()} to {indices.max()} of {len(self)}")
        if isinstance(self._rows, Reopened):
            records = self._rows.read(indices, self._record.itemsize, lambda rows, some: rows.take(some))
        else:
            records = self._rows.take(indices)
        texts: dict[str, list[Any]] = {}
        for start in range(0, len(indices), _TEXTS):
            part = self._texts.get(1 << 25) if isinstance(self._texts, Reopened) else self._texts
            for name, values in part.take(indices[start : start + _TEXTS]).items():
                texts.setdefault(name, []).extend(values)
        columns = {name: np.ascontiguousarray(records[name]) for name in self._record.names or ()} | texts
        if self.target is None:
            return {name: columns.get(name, []) for name in self.names}
        return columns["features"], columns["target"] if "target" in columns else columns.get(self.target, [])
