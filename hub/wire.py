"""The wire format of Protocol Buffers, as far as files are written as streams."""

from __future__ import annotations

__all__ = ["delimited", "varint"]


def varint(number: int) -> bytes:
    """A non-negative number in groups of seven bits, the lowest first."""
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


def delimited(field: int, length: int) -> bytes:
    """What comes before `length` bytes of a message, a string or packed numbers in `field`."""
    return varint(field << 3 | 2) + varint(length)
