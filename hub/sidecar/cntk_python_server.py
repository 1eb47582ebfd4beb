"""Code for CNTK, executed by CNTK's own Python 3.6, and saved as a model file; asked through `protocol`.

    {"open": path of a .py, "to": path of a .dnn}     -> {}

The file is imported, so it finds what is beside it, and its `build()` returns the model.
"""

import importlib
import importlib.util
import os
import sys
import warnings
from typing import Any


def import_cntk() -> Any:
    """CNTK, without its warnings about GPUs and Linux distributions."""
    warnings.simplefilter("ignore")
    cntk = importlib.import_module("cntk")
    cntk.try_set_default_device(cntk.cpu())
    return cntk


def build(cntk: Any, path: str) -> Any:
    """The model that the file makes."""
    spec: Any = importlib.util.spec_from_file_location("model", path)
    module: Any = importlib.util.module_from_spec(spec)
    sys.path.insert(0, os.path.dirname(path))
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "build"):
            raise LookupError("it defines no build()")
        model = module.build()
    finally:
        del sys.path[0]
    if not isinstance(model, cntk.Function):
        raise TypeError("its build() returns a {}, not a cntk.Function".format(type(model).__name__))
    return model


def main() -> None:
    """Serve, or say the version."""
    if "--version" in sys.argv:
        sys.stdout.flush()
        output = os.dup(1)
        os.dup2(2, 1)  # CNTK says which device it takes
        os.write(output, (import_cntk().__version__ + "\n").encode())
        return
    protocol = importlib.import_module("protocol")
    cntk: Any = None

    def handle(request: Any) -> Any:
        nonlocal cntk
        try:
            cntk = cntk or import_cntk()
            build(cntk, request["open"]).save(request["to"])
            return {}
        except BaseException as error:  # noqa: BLE001 (the file can raise anything, SystemExit too)
            text = " ".join(str(error).split("[CALL STACK]")[0].split())
            return {"error": "load", "message": "{}: {}".format(type(error).__name__, text)[:600]}

    protocol.serve(handle)


if __name__ == "__main__":
    main()
