"""The real Caffe, asked through `protocol`. Run by the Python of the Caffe runtime, 3.8 or 3.7.

    {"open": prototxt, "weights": path or null}       -> id, inputs, outputs, layers
    {"run": id, "feeds", "names", "captures", "outputs", "to"}   -> names
    {"close": id}                                     -> {}

A capture is [key, layer, blob]: the blob as it is after that layer ran. Caffe ends this process by abort() on
everything that it does not like.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from typing import Any


def import_caffe() -> Any:
    """Caffe without SciPy and scikit-image, of which only its helpers for images make use."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("GLOG_logtostderr", "1")
    for name in ("skimage", "skimage.io", "skimage.transform", "scipy", "scipy.ndimage"):
        stub: Any = types.ModuleType(name)
        stub.resize = stub.zoom = None
        sys.modules[name] = stub
    sys.modules["skimage"].io = sys.modules["skimage.io"]  # type: ignore[attr-defined]
    caffe = importlib.import_module("caffe")
    caffe.set_mode_cpu()
    return caffe


class Nets:
    """The open nets, by number."""

    def __init__(self, caffe: Any) -> None:
        self.caffe = caffe
        self.nets: dict[int, Any] = {}
        self.opened = 0

    def handle(self, request: Any) -> Any:
        """Answer one request."""
        kind = "load" if "open" in request else "run"
        try:
            if kind == "load":
                return self.open(request["open"], request["weights"])
            if "close" in request:
                self.nets.pop(request["close"], None)
                return {}
            return self.run(request)
        except Exception as error:  # noqa: BLE001 (whatever Caffe's Python side and NumPy raise is the answer)
            return {"error": kind, "message": f"{type(error).__name__}: {error}"}

    def open(self, prototxt: str, weights: str | None) -> Any:
        """Load a net for inference, and describe it."""
        options = {"weights": weights} if weights else {}
        net = self.caffe.Net(prototxt, self.caffe.TEST, **options)
        self.opened += 1
        self.nets[self.opened] = net
        names = list(net._layer_names)
        return {
            "id": self.opened,
            "version": self.caffe.__version__,
            "blobs": [[name, list(blob.shape)] for name, blob in zip(net._blob_names, net._blobs)],
            "inputs": list(net._inputs),
            "outputs": list(net._outputs),
            "layers": [
                [name, net.layers[i].type, list(net._bottom_ids(i)), list(net._top_ids(i))]
                for i, name in enumerate(names)
            ],
        }

    def run(self, request: Any) -> Any:
        """Run a net on inputs of any batch size, stopping at the layers where something is to be captured."""
        protocol = importlib.import_module("protocol")
        net = self.nets[request["run"]]
        feeds = protocol.read_arrays(request["feeds"], request["names"])
        blobs = net._blobs
        by_name = dict(zip(net._blob_names, blobs))
        for name, array in feeds.items():
            by_name[name].reshape(*array.shape)
        net.reshape()
        for name, array in feeds.items():
            by_name[name].data[...] = array
        values = {}
        position = 0  # the layers before it have run
        outputs = [[key, len(net.layers) - 1, blob] for key, blob in request["outputs"]]
        for key, layer, blob in [*sorted(request["captures"], key=lambda c: c[1]), *outputs]:
            if layer >= position:
                net._forward(position, layer)
                position = layer + 1
            values[key] = blobs[blob].data.copy()
        return {"names": protocol.write_arrays(request["to"], values)}


def main() -> None:
    """Serve, or say the version."""
    caffe = import_caffe()
    if "--version" in sys.argv:
        sys.stdout.write(caffe.__version__ + "\n")
        return
    importlib.import_module("protocol").serve(Nets(caffe).handle)


if __name__ == "__main__":
    main()
