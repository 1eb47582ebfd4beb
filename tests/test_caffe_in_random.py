"""Random Caffe nets against the real Caffe, layer by layer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from caffe_in_nets import distance, feeds_of, layer_values, net_text, seeded_blobs, write
from conftest import need_runtime

import hub


def _window(rng: random.Random) -> str:
    kernel = rng.choice([1, 2, 3, 4])
    pad = rng.randrange(kernel)
    return f"kernel_size: {kernel} stride: {rng.randint(1, kernel)} pad: {min(pad, 1)}"


def _layer(rng: random.Random, blobs: list[str], number: int) -> str:
    """One more layer, which reads one of the blobs."""
    name, x = f"l{number}", rng.choice(blobs[-3:])
    kind = rng.choice(
        "Convolution Convolution Deconvolution Pooling Pooling BatchNorm Scale Bias ReLU PReLU ELU Sigmoid TanH "
        "Power LRN MVN Eltwise Concat Reshape Tile Softmax InnerProduct Dropout Permute Reduction Flatten".split()
    )
    fields = ""
    if kind in ("Convolution", "Deconvolution"):
        dilation = "dilation: 2" if rng.random() < 0.2 else ""
        sizes = f"num_output: {rng.choice([4, 6])} {_window(rng)} {dilation} group: {rng.choice([1, 1, 2])}"
        fields = f"convolution_param {{ {sizes} }}"
    elif kind == "Pooling":
        fields = f"pooling_param {{ pool: {rng.choice(['MAX', 'AVE'])} {_window(rng)} }}"
    elif kind in ("Scale", "Bias"):
        fields = f"{kind.lower()}_param {{ axis: {rng.choice([1, 1, 2])} num_axes: {rng.choice([1, 1, -1])} }}"
    elif kind == "Power":
        numbers = f"scale: {rng.uniform(-2, 2):.3f} shift: {rng.uniform(-1, 1):.3f} power: {rng.choice([1, 2])}"
        fields = f"power_param {{ {numbers} }}"
    elif kind == "LRN":
        region = rng.choice(["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
        fields = f"lrn_param {{ local_size: 3 alpha: 0.3 norm_region: {region} }}"
    elif kind == "MVN":
        fields = f"mvn_param {{ across_channels: {rng.choice(['true', 'false'])} eps: 0.01 }}"
    elif kind == "Eltwise":
        operation = rng.choice(["operation: PROD", "operation: MAX", "coeff: 0.5 coeff: -1"])
        return f"{name} Eltwise {x} {rng.choice(blobs)}; eltwise_param {{ {operation} }}"
    elif kind == "Concat":
        return f"{name} Concat {x} {rng.choice(blobs)}; concat_param {{ axis: {rng.choice([1, 1, 2])} }}"
    elif kind == "Reshape":
        fields = f"reshape_param {{ shape {{ dim: 0 dim: {rng.choice([2, 4])} dim: -1 dim: {rng.choice([2, 3])} }} }}"
    elif kind == "Tile":
        fields = f"tile_param {{ axis: {rng.choice([1, 2])} tiles: 2 }}"
    elif kind == "Softmax":
        fields = f"softmax_param {{ axis: {rng.choice([1, 2, -1])} }}"
    elif kind == "InnerProduct":
        fields = f"inner_product_param {{ num_output: 6 axis: {rng.choice([1, 2, -1])} }}"
    elif kind == "Permute":
        fields = "permute_param { order: 0 order: 2 }"
    elif kind == "Reduction":
        fields = f"reduction_param {{ axis: -1 operation: {rng.choice(['MEAN', 'ASUM'])} }}"
    elif kind in ("ReLU", "Sigmoid", "BatchNorm", "Dropout") and x == blobs[-1] and x != "data" and rng.random() < 0.5:
        return f"{name} {kind} {x} -> {x}"
    return f"{name} {kind} {x}; {fields}"


def random_net(seed: int, count: int = 14) -> str:
    """The layers of a net that can be read; what does not fit is left out."""
    rng = random.Random(seed)
    shape = (2, rng.choice([4, 6]), rng.randint(6, 13), rng.randint(6, 13))
    layers: list[str] = []
    blobs = ["data"]
    for number in range(count * 2):
        line = _layer(rng, blobs, number)
        try:
            _read(net_text("\n".join([*layers, line]), data=shape))
        except hub.HubError:
            continue
        layers.append(line)
        if "->" not in line:
            blobs.append(f"l{number}")
        if len(layers) == count:
            break
    return net_text("\n".join(layers), data=shape)


def _read(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        hub.load(write(Path(folder), text), weights="random")


@pytest.mark.parametrize("seed", range(40))
def test_a_random_net(seed: int, tmp_path: Path) -> None:
    need_runtime("caffe")
    from parity.runners.caffe import open as open_caffe

    text = random_net(seed)
    path = write(tmp_path, text, seeded_blobs(text, seed))
    model = hub.load(path)
    feeds = feeds_of(model, seed)
    values = layer_values(model, feeds)
    runner = open_caffe(path)
    try:
        expected = runner.run(feeds, [f"layer:{layer}" for layer in runner.layers])
    finally:
        runner.close()
    compared = [name for name in runner.layers if name in values and f"layer:{name}" in expected]
    assert len(compared) == len(runner.layers)
    for name in compared:
        # Sums over large numbers, as in LRN, are rounded differently; a wrong layer is off by far more.
        assert distance(expected[f"layer:{name}"], values[name]) < 3e-4, f"{name}\n{text}"
