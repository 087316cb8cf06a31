"""uint8 arrays on disk that are appended to, and rows that stand for all."""

import math
from pathlib import Path

import numpy as np


def spread_rows(count: int, at_most: int) -> np.ndarray:
    """Up to `at_most` of `count` rows, spread over all of them. -> int (N,)."""
    return np.unique(np.linspace(0, count - 1, at_most).round().astype(int))[:count]


class ArrayAppender:
    """Writes an array row by row, where the number of rows is known at the end only. A context manager."""

    def __init__(self, path: Path, row_shape: tuple[int, ...]) -> None:
        self.row_shape, self.num_values = row_shape, 0
        self.stream = path.open("wb")
        self._write_header()
        self.data_start = self.stream.tell()

    def append(self, values: np.ndarray) -> None:
        """Add one row or several. uint8, of any shape that holds whole rows."""
        self.stream.write(np.ascontiguousarray(values).data)
        self.num_values += values.size

    def __enter__(self) -> "ArrayAppender":
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        with self.stream:
            if error_type is None:
                self.stream.seek(0)
                self._write_header()
                assert self.stream.tell() == self.data_start, "the header's room was fixed before the rows"

    def _write_header(self) -> None:
        shape = (self.num_values // math.prod(self.row_shape), *self.row_shape)
        # numpy leaves room in the header for the first axis to grow
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.stream, header)
