"""python -m tools.schemas [--check]: compile `hub/schemas/*.proto` to the descriptors that hub reads."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "hub" / "schemas"


def compiled(proto: Path) -> bytes:
    """The descriptor set of one `.proto`, by protoc: in a process of its own, as it brings a protobuf of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "descriptor"
        arguments = [f"-I{proto.parent}", f"--descriptor_set_out={target}", str(proto)]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)
        return target.read_bytes()


def main() -> int:
    stale = []
    for proto in sorted(FOLDER.glob("*.proto")):
        data, target = compiled(proto), proto.with_suffix(".desc")
        if not target.exists() or target.read_bytes() != data:
            stale.append(target.name)
            if "--check" not in sys.argv:
                target.write_bytes(data)
    if stale:
        print("not current:" if "--check" in sys.argv else "written:", ", ".join(stale))
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    raise SystemExit(main())
