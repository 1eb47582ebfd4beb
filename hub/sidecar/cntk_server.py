"""CNTK's libraries, asked through `protocol`. Run by hub's own Python, with the folder of the libraries as argument.

    {"open": path}                                    -> id, the names of inputs and outputs
    {"run": id, "feeds", "names", "batched", "samples", "outputs", "to"}   -> names
    {"close": id}                                     -> {}

CNTK's interface for C takes one sample or one sequence at a time, float32 only, and its sizes run from the fastest
axis on. The inputs come in the order in which the model has them; "batched" says which have a batch axis, "samples"
how long it is. "outputs" are positions. An exception in CNTK is a status here; what it does not catch ends this
process.
"""

import ctypes
import importlib
import os
import re
import sys
from ctypes import POINTER, byref, c_bool, c_char, c_char_p, c_float, c_int32, c_uint32, c_void_p
from typing import Any, Dict, List, Tuple

import numpy as np

VERSION = "2.7"


class Status(ctypes.Structure):
    _fields_ = [("value", c_int32), ("description", c_char * 16384)]


class Shape(ctypes.Structure):
    _fields_ = [("value", POINTER(c_uint32)), ("size", c_uint32)]


class Variable(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("shape", Shape)]


class Value(ctypes.Structure):
    _fields_ = [("shape", Shape), ("data", POINTER(c_float))]


Variables = POINTER(Variable)
SIGNATURES: Dict[str, Tuple[Any, List[Any]]] = {
    "LoadModel": (Status, [c_char_p, c_void_p, POINTER(c_void_p)]),
    "GetModelArgumentsInfo": (Status, [c_void_p, POINTER(Variables), POINTER(c_uint32)]),
    "GetModelOutputsInfo": (Status, [c_void_p, POINTER(Variables), POINTER(c_uint32)]),
    "EvaluateSequence": (
        Status,
        [c_void_p, Variables, POINTER(Value), POINTER(c_bool), c_uint32, Variables, c_uint32, POINTER(POINTER(Value))],
    ),
    "ReleaseModel": (None, [c_void_p]),
    "CleanVariable": (None, [Variables]),
    "CleanValue": (None, [POINTER(Value)]),
    "ReleaseArray": (None, [c_void_p]),
}


class Failed(Exception):
    """CNTK's own words."""


class Library:
    """The functions of the library, each of which raises `Failed` where it gives a status."""

    def __init__(self, folder: str) -> None:
        self.library = ctypes.CDLL(os.path.join(folder, "libCntk.Core-{}.so".format(VERSION)))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(self.library, "CNTK_" + name)
            function.restype, function.argtypes = result, arguments

    def call(self, name: str, *arguments: Any) -> None:
        """Call one."""
        status = getattr(self.library, "CNTK_" + name)(*arguments)
        if status is not None and status.value:
            text = status.description.decode("utf-8", "replace")
            found = re.match("Exception occurred: '(.*?)'?\\s*(, CallStack: .*)?$", text, re.DOTALL)
            raise Failed(" ".join((found.group(1) if found else text).split()) or "status {}".format(status.value))


class Model:
    """A loaded model, its inputs and outputs."""

    def __init__(self, library: Library, path: str) -> None:
        self.library = library
        self.handle = c_void_p()
        library.call("LoadModel", os.fsencode(path), None, byref(self.handle))
        self.inputs = self._variables("GetModelArgumentsInfo")
        self.outputs = self._variables("GetModelOutputsInfo")

    def _variables(self, which: str) -> List[Variable]:
        found, count = Variables(), c_uint32()
        self.library.call(which, self.handle, byref(found), byref(count))
        return [found[i] for i in range(count.value)]  # they hold the array, which lives as long as the model

    def run(self, feeds: List[Any], outputs: List[int]) -> List[Any]:
        """One sample or sequence through the model: arrays in C order, without a batch axis."""
        values = (Value * len(feeds))()
        kept = []
        for i, (array, variable) in enumerate(zip(feeds, self.inputs)):
            rank = variable.shape.size
            # The sizes of a sample, then the length of the sequence, which is 1 where there is no sequence axis.
            sizes = array.shape[::-1] if array.ndim > rank else (*array.shape[::-1], 1)
            array = np.ascontiguousarray(array, dtype=np.float32)
            dims = (c_uint32 * len(sizes))(*sizes)
            kept += [array, dims]
            values[i] = Value(Shape(dims, len(sizes)), array.ctypes.data_as(POINTER(c_float)))
        reset = (c_bool * len(feeds))(*[True] * len(feeds))
        inputs = (Variable * len(feeds))(*self.inputs)
        wanted = (Variable * len(outputs))(*[self.outputs[i] for i in outputs])
        result = POINTER(Value)()
        self.library.call(
            "EvaluateSequence", self.handle, inputs, values, reset, len(feeds), wanted, len(outputs), byref(result)
        )
        arrays = []
        for i in range(len(outputs)):
            value = result[i]
            sizes = tuple(value.shape.value[j] for j in range(value.shape.size))[::-1]
            count = int(np.prod(sizes, dtype=np.int64))
            flat = np.ctypeslib.as_array(value.data, shape=(count,)) if count else np.zeros(0, np.float32)
            arrays.append(np.array(flat, copy=True).reshape(sizes))
            self.library.call("CleanValue", byref(value))
        self.library.call("ReleaseArray", result)
        return arrays

    def close(self) -> None:
        """Free it."""
        self.library.call("ReleaseModel", self.handle)


def _names(variables: List[Variable]) -> List[str]:
    return [variable.name.decode("utf-8", "replace") for variable in variables]


class Models:
    """The open models, by number."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.models: Dict[int, Model] = {}
        self.opened = 0

    def handle(self, request: Any) -> Any:
        """Answer one request."""
        kind = "load" if "open" in request else "run"
        try:
            if kind == "load":
                return self.open(request["open"])
            if "close" in request:
                self.models.pop(request["close"]).close()
                return {}
            return self.run(request)
        except Failed as error:
            return {"error": kind, "message": str(error)}
        except Exception as error:  # noqa: BLE001 (whatever NumPy raises is the answer)
            return {"error": kind, "message": "{}: {}".format(type(error).__name__, error)}

    def open(self, path: str) -> Any:
        """Load a model."""
        model = Model(self.library, path)
        self.opened += 1
        self.models[self.opened] = model
        return {"id": self.opened, "inputs": _names(model.inputs), "outputs": _names(model.outputs)}

    def run(self, request: Any) -> Any:
        """Run a model, sample by sample."""
        protocol = importlib.import_module("protocol")
        model = self.models[request["run"]]
        feeds = list(protocol.read_arrays(request["feeds"], request["names"]).values())
        parts: List[List[Any]] = [[] for _ in request["outputs"]]
        for i in range(request["samples"]):
            sample = [array[i] if batched else array for array, batched in zip(feeds, request["batched"])]
            for part, array in zip(parts, model.run(sample, request["outputs"])):
                part.append(array)
        ranks = [model.outputs[i].shape.size for i in request["outputs"]]
        # Values that depend on no sample have no batch axis.
        values = [np.concatenate(part) if part[0].ndim > rank else part[0] for part, rank in zip(parts, ranks)]
        named = {str(i): value for i, value in enumerate(values)}
        return {"names": protocol.write_arrays(request["to"], named)}


def main() -> None:
    """Serve, or say the version."""
    library = Library(sys.argv[1])
    if "--version" in sys.argv:
        sys.stdout.write(VERSION + "\n")
        return
    importlib.import_module("protocol").serve(Models(library).handle)


if __name__ == "__main__":
    main()
