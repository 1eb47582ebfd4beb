"""Two empty libraries in the place of Open MPI's, which CNTK 2.7 is linked to.

CNTK's libraries need `libmpi.so.12` and `libmpi_cxx.so.1` of Open MPI 1.10. They are used for training on several
machines only, no package index has them, and the loader refuses CNTK without them. So two shared objects are written
that define what CNTK's libraries leave undefined of MPI: all functions are one that ends the process (nothing calls
it), all variables are zeros. CNTK finds them as it finds its own libraries, in its own folder.

What is written is the least that a loader takes of the format ELF for x86-64: a symbol table with its hash table
and strings, the one function, and the section that names them.
"""

from __future__ import annotations

import struct
from pathlib import Path

from hub.errors import HubError

__all__ = ["provide", "shared_object", "symbols"]

_DYNSYM = 11
_SYMBOL = struct.Struct("<IBBHQQ")  # name, info, other, section, value, size
_SECTION = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, address, offset, size, link, info, alignment, entry size
_SEGMENT = struct.Struct("<IIQQQQQQ")  # type, flags, offset, address, physical address, size in file and memory, align
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_MAGIC = b"\x7fELF\x02\x01\x01"
_PAGE = 4096
_ROOM = 1024
"""Bytes of each variable: the largest of Open MPI's objects is smaller."""
_CRASH = b"\x0f\x0b".ljust(16, b"\x90")  # ud2
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_READ_RUN, _READ_WRITE = 5, 6


def provide(place: Path) -> None:
    """Write the two libraries beside CNTK's, wherever in the folder `place` those are.

    Raises:
        HubError: CNTK's libraries are not there, or are no libraries.
    """
    cores = sorted(place.rglob("libCntk.Core-*.so"))
    if not cores:
        raise HubError(f"there is no library of CNTK in {place}")
    folder = cores[0].parent
    libraries = [path for path in folder.glob("*.so*") if not path.name.startswith("libmpi")]
    libraries += place.rglob("_cntk_py*.so")
    needed: set[str] = set()
    given: set[str] = set()
    for path in libraries:
        undefined, defined = symbols(path)
        needed |= undefined
        given |= defined
    wanted = {name for name in needed - given if _is_mpi(name)}
    (folder / "libmpi.so.12").write_bytes(shared_object("libmpi.so.12", wanted))
    (folder / "libmpi_cxx.so.1").write_bytes(shared_object("libmpi_cxx.so.1", set()))


def symbols(path: Path) -> tuple[set[str], set[str]]:
    """The names that a shared object needs from others, and those that it defines.

    Raises:
        HubError: it is no 64-bit ELF file.
    """
    data = path.read_bytes()
    undefined: set[str] = set()
    defined: set[str] = set()
    try:
        if data[:6] != _MAGIC[:6]:
            raise ValueError("no such file")
        (start,) = struct.unpack_from("<Q", data, 0x28)
        size, count = struct.unpack_from("<HH", data, 0x3A)
        sections = [_SECTION.unpack_from(data, start + i * size) for i in range(count)]
        for section in sections:
            if section[1] != _DYNSYM:
                continue
            strings = sections[section[6]][4]
            for at in range(section[4], section[4] + section[5], _SYMBOL.size):
                name, _, _, index, _, _ = _SYMBOL.unpack_from(data, at)
                if name:
                    end = data.index(b"\0", strings + name)
                    (defined if index else undefined).add(data[strings + name : end].decode("ascii"))
    except (ValueError, IndexError, struct.error) as error:
        raise HubError(f"{path} is no shared object for x86-64") from error
    return undefined, defined


def _is_mpi(name: str) -> bool:
    """Whether a name is of MPI: its functions, Open MPI's own, or the C++ classes in the namespace MPI."""
    return name.startswith(("MPI_", "ompi_", "OMPI_", "_ZN3MPI", "_ZNK3MPI", "_ZTVN3MPI", "_ZTIN3MPI", "_ZTSN3MPI"))


def _is_variable(name: str) -> bool:
    return name.startswith(("ompi_mpi_", "_ZT")) and not name.endswith("intercept")


def shared_object(name: str, wanted: set[str]) -> bytes:
    """The bytes of a shared object called `name` that defines the names `wanted`."""
    names = sorted(wanted)
    strings = bytearray(b"\0")
    offsets = []
    for text in (name, *names):
        offsets.append(len(strings))
        strings += text.encode("ascii") + b"\0"
    # The file: headers, symbols, hash table, strings and code in one segment; the dynamic section and the variables,
    # which are not stored, in another.
    symbols_at = _aligned(_HEADER.size + 4 * _SEGMENT.size, 16)
    hash_at = symbols_at + _SYMBOL.size * (len(names) + 1)
    table = _hash_table(names)
    strings_at = hash_at + len(table)
    code_at = _aligned(strings_at + len(strings), 16)
    code_end = code_at + len(_CRASH)
    dynamic_at = _aligned(code_end, _PAGE)
    dynamic = ((14, offsets[0]), (4, hash_at), (5, strings_at), (6, symbols_at), (10, len(strings)), (11, _SYMBOL.size))
    section = b"".join(struct.pack("<QQ", *entry) for entry in (*dynamic, (0, 0)))
    variables = [text for text in names if _is_variable(text)]
    variables_at = _aligned(dynamic_at + len(section), 64)
    end = variables_at + _ROOM * max(1, len(variables))

    identity = _MAGIC.ljust(16, b"\0")
    header = _HEADER.pack(identity, 3, 62, 1, 0, _HEADER.size, 0, 0, _HEADER.size, _SEGMENT.size, 4, 64, 0, 0)
    segments = (
        (_LOAD, _READ_RUN, 0, 0, 0, code_end, code_end, _PAGE),
        (_LOAD, _READ_WRITE, dynamic_at, dynamic_at, dynamic_at, len(section), end - dynamic_at, _PAGE),
        (_DYNAMIC, _READ_WRITE, dynamic_at, dynamic_at, dynamic_at, len(section), len(section), 8),
        (_STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16),
    )
    entries = [bytes(_SYMBOL.size)]
    for text, offset in zip(names, offsets[1:], strict=True):
        if text in variables:
            entries.append(_SYMBOL.pack(offset, 0x11, 0, 1, variables_at + _ROOM * variables.index(text), _ROOM))
        else:
            entries.append(_SYMBOL.pack(offset, 0x12, 0, 1, code_at, len(_CRASH)))

    image = bytearray(dynamic_at)
    for at, piece in (
        (0, header + b"".join(_SEGMENT.pack(*segment) for segment in segments)),
        (symbols_at, b"".join(entries)),
        (hash_at, table),
        (strings_at, bytes(strings)),
        (code_at, _CRASH),
    ):
        image[at : at + len(piece)] = piece
    return bytes(image) + section


def _hash_table(names: list[str]) -> bytes:
    """The table by which a loader finds symbols: chains of those whose hashes share a bucket. The first is empty."""
    buckets, chains = [0] * max(1, len(names) // 2), [0] * (len(names) + 1)
    for i, name in enumerate(names, 1):
        bucket = _hash(name) % len(buckets)
        chains[i], buckets[bucket] = buckets[bucket], i
    return struct.pack(f"<{2 + len(buckets) + len(chains)}I", len(buckets), len(chains), *buckets, *chains)


def _hash(name: str) -> int:
    value = 0
    for character in name.encode("ascii"):
        value = (value << 4) + character
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return value


def _aligned(position: int, to: int) -> int:
    return (position + to - 1) // to * to
