"""Loads damaged copies of a file in a process of its own: `python hostile_child.py FILE SEED COUNT FOLDER`.

Prints one JSON object: how many loads were errors of the package, how many succeeded, and what else
happened, which should be nothing.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

MEMORY = 6 << 30
SECONDS = 20


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy with a few bytes changed, or a piece cut out, repeated or overwritten."""
    result = bytearray(data)
    kind = rng.randrange(5)
    start = rng.randrange(len(result))
    length = rng.randrange(1, 64)
    if kind == 0:
        del result[start : start + length]
    elif kind == 1:
        result[start:start] = result[start : start + length]
    elif kind == 2:
        result[start : start + length] = bytes([rng.choice([0, 255])]) * min(length, len(result) - start)
    else:
        for _ in range(rng.randrange(1, 9)):
            result[rng.randrange(len(result))] = rng.randrange(256)
    return bytes(result)


def main(source: Path, seed: int, count: int, folder: Path) -> dict[str, Any]:
    import hub

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    data = source.read_bytes()
    outcomes: Counter[str] = Counter()
    faults = []
    for number in range(seed, seed + count):
        path = folder / f"{number}{source.suffix}"
        path.write_bytes(damaged(data, random.Random(number)))
        print(json.dumps({"now": number}), file=sys.stderr, flush=True)
        signal.alarm(SECONDS)
        try:
            hub.save(hub.load(path), folder / "out.onnx")
            outcomes["loaded"] += 1
        except hub.HubError as error:
            outcomes[type(error).__name__] += 1
            if str(path) not in str(error) and type(error).__name__ != "UnsupportedOps":
                faults.append(f"{number}: the message does not name the file: {error}")
        except Exception as error:  # noqa: BLE001  (this is what the test looks for)
            faults.append(f"{number}: {type(error).__name__}: {error}\n{traceback.format_exc()[-1500:]}")
        finally:
            signal.alarm(0)
        path.unlink()
    (folder / "out.onnx").unlink(missing_ok=True)
    left = [p.name for p in folder.iterdir()]
    return {"outcomes": outcomes, "faults": faults, "left": left}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
