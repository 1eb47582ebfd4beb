"""Where each layer's weights are in a file, in any of the layouts that Keras has had."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from hub.errors import InvalidModel
from hub.tensors import ViewTensor
from importers.keras.config import Layer, Network
from importers.keras.hdf5 import WeightFile

__all__ = ["GroupedWeights", "PartWeights", "PathWeights", "WeightStore", "open_store"]


class WeightStore(Protocol):
    """Gives the weights of a layer, in the order of Keras."""

    where: str
    whole: bool
    """Whether it has the weights of a layer and of all sublayers in one list, and knows no sublayers."""

    def of(self, layer: Layer, scope: Sequence[Layer], part: str = "") -> list[tuple[str, ViewTensor]]:
        """(name or "", tensor) of each weight of `layer`, which lies in the nested models `scope`.

        `part` is a sublayer, such as the cell of an RNN.
        """
        ...

    def unused(self) -> list[str]:
        """Weights that nobody has asked for."""
        ...

    def close(self) -> None:
        """Close the file; weights that were given out stay valid."""
        ...


class PathWeights:
    """Keras 3: `layers/<class>_<n>/vars/<i>`; the group may carry the layer's name, which must agree."""

    whole = False

    def __init__(self, file: WeightFile) -> None:
        self.file = file
        self.where = file.where
        self._seen: set[str] = set()
        root = (
            "_layer_checkpoint_dependencies" if file.group("_layer_checkpoint_dependencies") is not None else "layers"
        )
        self._root = root

    def of(self, layer: Layer, scope: Sequence[Layer], part: str = "") -> list[tuple[str, ViewTensor]]:
        whole = layer.path.replace("layers/", f"{self._root}/")
        path = f"{whole}/{part}/vars" if part else f"{whole}/vars"
        group = self.file.group(path)
        if group is None and part.endswith("_dense"):  # the attributes of attention layers lost their underscore
            path = f"{whole}/_{part}/vars"
            group = self.file.group(path)
        if group is None:
            return []
        name = group.attrs.get("name")
        if name is not None and not part and str(name) != layer.name:
            raise InvalidModel(
                f"{self.where}: {path!r} holds the weights of {str(name)!r}, not of layer {layer.name!r}"
            )
        self._seen.add(path)
        return [("", tensor) for tensor in self.file.variables(path)]

    def unused(self) -> list[str]:
        found: list[str] = []

        def visit(name: str) -> None:
            parent, _, last = name.rpartition("/")
            ours = last.isdigit() and parent.endswith("/vars") and not name.startswith("optimizer")
            if ours and parent not in self._seen:
                found.append(name)

        self.file.root.visit(visit)
        return found

    def close(self) -> None:
        self.file.close()


Path = tuple[str, ...]

KERAS1_WEIGHTS = frozenset("W b gamma beta running_mean running_std alphas depthwise_kernel pointwise_kernel".split())


class GroupedWeights:
    """Keras 1, 2 and `.h5` of Keras 3: one group a top-level layer, with the names of its weights in order.

    A nested model has one group for everything in it, all trainable weights first; the names tell
    whose they are.
    """

    whole = True

    def __init__(self, file: WeightFile) -> None:
        self.file = file
        self.where = file.where
        root = file.group("model_weights")
        self._prefix = "model_weights/" if root is not None else ""
        root = root if root is not None else file.root
        names = file.strings(root, "layer_names")
        if names is None:
            raise InvalidModel(f"{file.where} has no list of layers; it is not a Keras weights file")
        self._names: dict[str, list[str]] = {}
        for name in names:
            group = file.group(self._prefix + name)
            if group is None:
                raise InvalidModel(f"{file.where}: the group of layer {name!r} is missing")
            self._names[name] = file.strings(group, "weight_names") or []
        self._seen: set[tuple[str, str]] = set()

    def of(self, layer: Layer, scope: Sequence[Layer], part: str = "") -> list[tuple[str, ViewTensor]]:
        top = scope[0].name if scope else layer.name
        names = self._names.get(top, [])
        if scope:
            names = self._mine(names, layer, scope)
        if part:
            last = part.split("/")[0]
            names = [name for name in names if last in name.split("/")] or names
        self._seen.update((top, name) for name in names)
        return [(name, self.file.tensor(f"{self._prefix}{top}/{name}")) for name in names]

    def _mine(self, names: list[str], layer: Layer, scope: Sequence[Layer]) -> list[str]:
        """Of the weights of a nested model, those of `layer`."""
        leaves = list(_leaves(scope[0].network, ()))
        known = {path[-1] for path in leaves}
        if not all(_owners(name) & known or any(_is_keras1(name, leaf) for leaf in known) for name in names):
            prefix = self._aligned(names, leaves, scope[0].name).get((*(s.name for s in scope[1:]), layer.name))
            return [name for name in names if name.rpartition("/")[0] == prefix]
        mine = [name for name in names if layer.name in _owners(name) or _is_keras1(name, layer.name)]
        if sum(path[-1] == layer.name for path in leaves) > 1:
            inner = {part.name for part in scope[1:]}
            mine = [name for name in mine if inner <= _owners(name)]
            if not mine:
                raise InvalidModel(
                    f"{self.where}: several layers are called {layer.name!r} inside {scope[0].name!r}; "
                    "an .h5 file does not tell whose weights are whose, save the model as .keras"
                )
        return mine

    def _aligned(self, names: Sequence[str], leaves: Sequence[Path], top: str) -> dict[Path, str]:
        """Whose weights are whose where TensorFlow 1 has put numbers behind the names: layers keep their order."""
        found: dict[Path, str] = {}
        rest = iter(leaves)
        for prefix in dict.fromkeys(name.rpartition("/")[0] for name in names):
            last = prefix.rpartition("/")[2]
            path = next((path for path in rest if re.fullmatch(re.escape(path[-1]) + r"(_\d+)?", last)), None)
            if path is None:
                raise InvalidModel(
                    f"{self.where}: weights {prefix!r} of {top!r} belong to none of its layers; save it as .keras"
                )
            found[path] = prefix
        return found

    def theano_names(self) -> bool:
        """Whether the weights are called as Theano's are: TensorFlow puts `:0` behind every name."""
        names = [name for names in self._names.values() for name in names]
        return bool(names) and not any(name.endswith(":0") for name in names)

    def unused(self) -> list[str]:
        return [
            f"{top}/{name}" for top, names in self._names.items() for name in names if (top, name) not in self._seen
        ]

    def close(self) -> None:
        self.file.close()


class PartWeights:
    """The weights of the only layer inside of another one, `outer`, at `path` in it."""

    def __init__(self, store: WeightStore, outer: Layer, scope: Sequence[Layer], path: str) -> None:
        self.store = store
        self.where = store.where
        self.whole = store.whole
        self._outer, self._scope, self._path = outer, scope, path

    def of(self, layer: Layer, scope: Sequence[Layer], part: str = "") -> list[tuple[str, ViewTensor]]:
        if self.whole:
            return self.store.of(self._outer, self._scope)
        return self.store.of(self._outer, self._scope, f"{self._path}/{part}" if part else self._path)

    def unused(self) -> list[str]:
        return self.store.unused()

    def close(self) -> None:
        self.store.close()


def _is_keras1(name: str, layer: str) -> bool:
    """`conv_W:0` is a weight of `conv` in Keras 1."""
    return "/" not in name and name.removesuffix(":0").removeprefix(f"{layer}_") in KERAS1_WEIGHTS


def _leaves(network: Network | None, path: Path) -> Iterator[Path]:
    """The layers of a nested model that are not models, by their path, in order."""
    for name, layer in (network.layers if network is not None else {}).items():
        if layer.network is not None:
            yield from _leaves(layer.network, (*path, name))
        else:
            yield (*path, name)


def _owners(name: str) -> set[str]:
    return set(name.split("/")[:-1])


def open_store(file: WeightFile) -> WeightStore:
    """The store for the layout that `file` has."""
    root = file.group("model_weights")
    if root is not None or file.attribute(file.root, "layer_names") is not None:
        return GroupedWeights(file)
    return PathWeights(file)
