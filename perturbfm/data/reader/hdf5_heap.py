"""A hole in an HDF5 file that libhdf5 would never come back from."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_HEADER = 16
_SCANNED = 1 << 28
"""Bytes looked at from each end of a file: where tables of text lie; the matrix is between."""


def hollow_heap(path: Path) -> int | None:
    """Where a heap of text begins that is all zeros from some object on; None where there is none.

    libhdf5 walks such a heap by steps of the object's size and never ends on an object of size zero, which is what a
    download that was cut and padded with zeros holds. Layout: HDF5 file format 3.0, III.E "Global Heap": `GCOL`,
    version 1, three zeros, size; then objects of index (2), count (2), zeros (4), size (8), content padded to 8.
    """
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for start, stop in ((0, min(size, _SCANNED)), (max(_SCANNED, size - _SCANNED), size)):
            place = content.find(b"GCOL\x01\0\0\0", start, stop)
            while place >= 0:
                if _is_hollow(content, place, size):
                    return place
                place = content.find(b"GCOL\x01\0\0\0", place + 8, stop)
    return None


def _is_hollow(content: mmap.mmap, place: int, file_size: int) -> bool:
    end = place + struct.unpack_from("<Q", content, place + 8)[0] if place + _HEADER <= file_size else file_size + 1
    here = place + _HEADER
    while end <= file_size and end - here >= _HEADER:
        index, length = struct.unpack_from("<H6xQ", content, here)
        if index == 0:
            return bool(length == 0)  # free space is the last object, and knows its size
        here += _HEADER + (length + 7) // 8 * 8
    return False
