"""Layers of forks that the real Caffe here does not know, against their published definitions, written out as loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe_in_nets import distance, feeds_of, net_text, seeded_blobs, write
from conftest import need

import hub

Array = np.ndarray


def run(
    tmp_path: Path, layers: str, feeds: dict[str, Array] | None = None, **inputs: tuple[int, ...]
) -> tuple[Any, ...]:
    """(inputs, the blobs of layer y, output y)."""
    text = net_text(layers, **inputs)
    blobs = seeded_blobs(text)
    model = hub.load(write(tmp_path, text, blobs))
    feeds = feeds or feeds_of(model)
    return [feeds[name] for name in inputs], blobs.get("y", []), model.run(feeds)["y"]


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ("", (2, 3, 4, 5)), ("across_spatial: false", (2, 3, 4, 5)), ("channel_shared: false", (2, 3, 4, 5)),
        ("across_spatial: false channel_shared: false eps: 0.1", (2, 3, 4, 5)), ("across_spatial: false", (2, 7)),
    ],
)  # fmt: skip
def test_normalize(fields: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    (x,), (scale,), got = run(tmp_path, f"y Normalize x; norm_param {{ {fields} }}", x=shape)
    expected = np.zeros_like(x)
    eps = 0.1 if "eps" in fields else 1e-10
    flat, out = x.reshape(*shape[:2], -1), expected.reshape(*shape[:2], -1)
    for n in range(shape[0]):
        for place in range(flat.shape[2]):
            part = flat[n, :, place] if "across_spatial: false" in fields else flat[n]
            out[n, :, place] = flat[n, :, place] / math.sqrt((part**2).sum() + eps) * scale
    assert distance(expected, got) < 1e-6


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("stride", [2, 3])
def test_reorg(reverse: bool, stride: int, tmp_path: Path) -> None:
    """Darknet's loop over flat memory, which Caffe's ports took over."""
    n, c, h, w = 2, 18 * 2, 6, 12
    fields = f"reorg_param {{ stride: {stride} reverse: {str(reverse).lower()} }}"
    (x,), _, got = run(tmp_path, f"y Reorg x; {fields}", x=(n, c, h, w))
    flat, out = x.reshape(-1), np.zeros(x.size, np.float32)
    small = c // stride**2
    for b in range(n):
        for k in range(c):
            for j in range(h):
                for i in range(w):
                    one = i + w * (j + h * (k + c * b))
                    offset = k // small
                    wide, tall = i * stride + offset % stride, j * stride + offset // stride
                    other = wide + w * stride * (tall + h * stride * (k % small + small * b))
                    if reverse:
                        out[other] = flat[one]
                    else:
                        out[one] = flat[other]
    shape = (n, small, h * stride, w * stride) if reverse else (n, c * stride**2, h // stride, w // stride)
    np.testing.assert_array_equal(got, out.reshape(shape))


def test_shuffle_channel(tmp_path: Path) -> None:
    (x,), _, got = run(tmp_path, "y ShuffleChannel x; shuffle_channel_param { group: 3 }", x=(2, 12, 2, 3))
    order = [group * 4 + member for member in range(4) for group in range(3)]
    np.testing.assert_array_equal(got, x[:, order])


def linear(x: Array, height: int, width: int) -> Array:
    """Linear between the corners."""
    result = np.zeros((*x.shape[:2], height, width))
    for j in range(height):
        for i in range(width):
            v = j * (x.shape[2] - 1) / (height - 1) if height > 1 else 0.0
            u = i * (x.shape[3] - 1) / (width - 1) if width > 1 else 0.0
            a, b = int(v), int(u)
            c, d = min(a + 1, x.shape[2] - 1), min(b + 1, x.shape[3] - 1)
            top = x[:, :, a, b] * (1 - (u - b)) + x[:, :, a, d] * (u - b)
            bottom = x[:, :, c, b] * (1 - (u - b)) + x[:, :, c, d] * (u - b)
            result[:, :, j, i] = top * (1 - (v - a)) + bottom * (v - a)
    return result


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ("height: 11 width: 4", (11, 4)), ("zoom_factor: 3", (13, 19)), ("shrink_factor: 2", (3, 4)),
        ("zoom_factor: 2 shrink_factor: 2", (5, 7)), ("height: 1 width: 1", (1, 1)),
    ],
)  # fmt: skip
def test_interp(fields: str, size: tuple[int, int], tmp_path: Path) -> None:
    (x,), _, got = run(tmp_path, f"y Interp x; interp_param {{ {fields} }}", x=(2, 3, 5, 7))
    assert distance(linear(x, *size), got) < 1e-6


def test_interp_cuts_off_negative_pads(tmp_path: Path) -> None:
    (x,), _, got = run(tmp_path, "y Interp x; interp_param { zoom_factor: 2 pad_beg: -1 pad_end: -2 }", x=(2, 3, 6, 8))
    assert distance(linear(x[:, :, 1:-2, 1:-2], 5, 9), got) < 1e-6


def test_upsample_repeats(tmp_path: Path) -> None:
    (x,), _, got = run(tmp_path, "y Upsample x; upsample_param { scale: 3 }", x=(2, 3, 4, 5))
    np.testing.assert_array_equal(got, x.repeat(3, 2).repeat(3, 3))


def test_forks_disagree_on_the_scale_of_an_upsample_without_one(tmp_path: Path) -> None:
    with pytest.raises(hub.UnsupportedOps, match="forks agree on `scale` alone"):
        hub.load(write(tmp_path, net_text("y Upsample x", x=(2, 3, 4, 5))))


@pytest.mark.parametrize("fields", ["", "upsample_h: 7 upsample_w: 9", "pad_out_h: true pad_out_w: true"])
def test_upsample_puts_numbers_to_their_places(fields: str, tmp_path: Path) -> None:
    """SegNet's decoder: the places of a pooling's maxima; the other numbers are 0."""
    shape = (2, 3, 7, 9) if fields else (2, 3, 8, 10)
    layers = "p Pooling x -> p m; pooling_param { kernel_size: 2 stride: 2 }\n"
    layers += f"q Power p; power_param {{ scale: 2 }}\ny Upsample q m; upsample_param {{ {fields} }}"
    (x,), _, got = run(tmp_path, layers, x=shape)
    expected = np.zeros_like(x)
    for n, c, j, i in np.ndindex(2, 3, -(-shape[2] // 2), -(-shape[3] // 2)):
        part = x[n, c, 2 * j : 2 * j + 2, 2 * i : 2 * i + 2]
        a, b = np.unravel_index(part.argmax(), part.shape)
        expected[n, c, 2 * j + a, 2 * i + b] = 2 * part.max()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


SIMPLE: dict[str, tuple[str, Callable[..., Array], dict[str, tuple[int, ...]]]] = {
    "ReLU6": ("y ReLU6 x", lambda x: np.clip(x, 0, 6), {"x": (2, 3, 4, 5)}),
    "Clip": ("y Clip x; clip_param { min: -0.5 max: 0.7 }", lambda x: np.clip(x, -0.5, 0.7), {"x": (2, 3, 4, 5)}),
    "Axpy": (
        "y Axpy a x z",
        lambda a, x, z: a.reshape(2, 3, 1, 1) * x + z,
        {"a": (2, 3), "x": (2, 3, 4, 5), "z": (2, 3, 4, 5)},
    ),
    "Axpy of images": (
        "y Axpy a x z",
        lambda a, x, z: a * x + z,
        {"a": (2, 3, 1, 1), "x": (2, 3, 4, 5), "z": (2, 3, 4, 5)},
    ),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_a_simple_layer(name: str, tmp_path: Path) -> None:
    layers, definition, inputs = SIMPLE[name]
    arrays, _, got = run(tmp_path, layers, **inputs)
    np.testing.assert_allclose(got, definition(*arrays), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["ConvolutionDepthwise", "DepthwiseConvolution"])
def test_a_depthwise_convolution_is_one_of_a_group_per_channel(kind: str, tmp_path: Path) -> None:
    fields = "convolution_param { num_output: 6 kernel_size: 3 pad: 1 stride: 2 %s }"
    _, _, got = run(tmp_path, f"y {kind} x; {fields % ''}", x=(2, 6, 7, 9))
    _, _, expected = run(tmp_path, f"y Convolution x; {fields % 'group: 6'}", x=(2, 6, 7, 9))
    np.testing.assert_array_equal(got, expected)


# -- SSD ---------------------------------------------------------------------------------------------------------


def priors(
    layer: tuple[int, int], image: tuple[int, int], least: list[float], most: list[float], ratios: list[float],
    flip: bool = True, clip: bool = False, variance: list[float] | None = None, step: tuple[float, float] | None = None,
    offset: float = 0.5,
) -> Array:  # fmt: skip
    """SSD's prior boxes as its paper and its code have them: sizes are whole numbers."""
    all_ratios = [1.0]
    for ratio in ratios:
        if min(abs(ratio - known) for known in all_ratios) >= 1e-6:
            all_ratios += [ratio, 1 / ratio] if flip else [ratio]
    steps = step or (image[0] / layer[0], image[1] / layer[1])
    rows = []
    for j in range(layer[0]):
        for i in range(layer[1]):
            x, y = (i + offset) * steps[1], (j + offset) * steps[0]
            for number, size in enumerate(map(int, least)):
                boxes = [(size, size)]
                if most:
                    boxes.append((math.sqrt(size * int(most[number])),) * 2)
                boxes += [(size * math.sqrt(r), size / math.sqrt(r)) for r in all_ratios if r != 1]
                for w, h in boxes:
                    row = [
                        (x - w / 2) / image[1],
                        (y - h / 2) / image[0],
                        (x + w / 2) / image[1],
                        (y + h / 2) / image[0],
                    ]
                    rows.append([min(max(v, 0), 1) for v in row] if clip else row)
    spread = variance or [0.1]
    return np.array([np.ravel(rows), spread * (len(rows) * 4 // len(spread))])[None]


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ("min_size: 30", {"least": [30], "most": [], "ratios": []}),
        (
            "min_size: 30.7 max_size: 60.9 aspect_ratio: 2 aspect_ratio: 3 variance: 0.1 variance: 0.1 variance: 0.2 "
            "variance: 0.2 clip: true",
            {"least": [30.7], "most": [60.9], "ratios": [2, 3], "variance": [0.1, 0.1, 0.2, 0.2], "clip": True},
        ),
        ("min_size: 9 min_size: 20 max_size: 19 max_size: 40 aspect_ratio: 1 aspect_ratio: 2 flip: false",
         {"least": [9, 20], "most": [19, 40], "ratios": [1, 2], "flip": False}),
        ("min_size: 12 step: 8 offset: 0.25 variance: 0.3",
         {"least": [12], "most": [], "ratios": [], "step": (8, 8), "offset": 0.25, "variance": [0.3]}),
        ("min_size: 12 step_h: 8 step_w: 6 aspect_ratio: 0.5 aspect_ratio: 2",
         {"least": [12], "most": [], "ratios": [0.5, 2], "step": (8, 6)}),
    ],
)  # fmt: skip
def test_prior_boxes(fields: str, options: dict[str, Any], tmp_path: Path) -> None:
    inputs = {"x": (2, 4, 3, 5), "image": (2, 3, 48, 64)}
    *_, got = run(tmp_path, f"y PriorBox x image; prior_box_param {{ {fields} }}", **inputs)
    assert distance(priors((3, 5), (48, 64), **options), got) < 1e-6
    *_, given = run(tmp_path, f"y PriorBox x; prior_box_param {{ {fields} img_h: 48 img_w: 64 }}", x=inputs["x"])
    np.testing.assert_array_equal(given, got)


def overlap(a: Array, b: Array) -> float:
    """Of two boxes; one whose corners are the wrong way round overlaps nothing."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((v[2] - v[0]) * (v[3] - v[1]) for v in (a, b))
    return float(width * height / (areas - width * height))


def decode(kind: str, prior: Array, variance: Array, p: Array) -> Array:
    size, center = prior[2:] - prior[:2], (prior[:2] + prior[2:]) / 2
    q = p * variance
    if kind == "CORNER":
        return prior + q
    if kind == "CORNER_SIZE":
        return prior + q * np.concatenate([size, size])
    middle, half = q[:2] * size + center, np.exp(q[2:]) * size / 2
    return np.concatenate([middle - half, middle + half])


def detections(
    location: Array, confidence: Array, prior: Array, classes: int, *, share: bool = True, background: int = 0,
    kind: str = "CORNER", encoded: bool = False, threshold: float = -np.inf, limit: float = 0.3, top_k: int = -1,
    keep: int = -1,
) -> Array:  # fmt: skip
    """SSD's detections: best first in each class of each image, what overlaps a better one left out."""
    count = prior.shape[2] // 4
    boxes, variances = prior[0].reshape(2, count, 4)
    variances = np.ones_like(variances) if encoded else variances
    rows: list[list[float]] = []
    for n in range(len(location)):
        found = []
        for label in range(classes):
            if label == background:
                continue
            place = location[n].reshape(count, 1 if share else classes, 4)[:, 0 if share else label]
            decoded = [decode(kind, boxes[i], variances[i], place[i]) for i in range(count)]
            scores = confidence[n].reshape(count, classes)[:, label]
            order = [i for i in sorted(range(count), key=lambda i: -scores[i]) if scores[i] > threshold]
            chosen: list[int] = []
            for i in order if top_k < 0 else order[:top_k]:
                if all(overlap(decoded[i], decoded[j]) <= limit for j in chosen):
                    chosen.append(i)
            found += [[n, label, scores[i], *decoded[i]] for i in chosen]
        if 0 <= keep < len(found):
            worst = sorted((row[2] for row in found), reverse=True)[keep - 1]
            found = [row for row in found if row[2] >= worst]
        rows += found
    if not rows:
        rows = [[n, -1, -1, -1, -1, -1, -1] for n in range(len(location))]
    return np.array(rows, np.float64)[None, None]


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ("code_type: CENTER_SIZE confidence_threshold: 0.3 keep_top_k: 7 nms_param { nms_threshold: 0.45 top_k: 9 }",
         {"kind": "CENTER_SIZE", "threshold": 0.3, "keep": 7, "limit": 0.45, "top_k": 9}),
        ("code_type: CENTER_SIZE nms_param { nms_threshold: 0.6 }", {"kind": "CENTER_SIZE", "limit": 0.6}),
        ("", {}),
        ("code_type: CORNER_SIZE confidence_threshold: 0.5", {"kind": "CORNER_SIZE", "threshold": 0.5}),
        ("background_label_id: -1 confidence_threshold: 0.6", {"background": -1, "threshold": 0.6}),
        ("background_label_id: 2 keep_top_k: 3", {"background": 2, "keep": 3}),
        ("variance_encoded_in_target: true code_type: CENTER_SIZE", {"encoded": True, "kind": "CENTER_SIZE"}),
        ("variance_encoded_in_target: true keep_top_k: 500", {"encoded": True, "keep": 500}),
        ("share_location: false code_type: CENTER_SIZE keep_top_k: 5 nms_param { top_k: 6 }",
         {"share": False, "kind": "CENTER_SIZE", "keep": 5, "top_k": 6}),
        ("share_location: false background_label_id: -1", {"share": False, "background": -1}),
        ("confidence_threshold: 2", {"threshold": 2}),
    ],
)  # fmt: skip
def test_detections(fields: str, options: dict[str, Any], tmp_path: Path) -> None:
    classes, count = 4, 30
    rng = np.random.default_rng(len(fields))
    low = rng.uniform(0, 0.7, (count, 2))
    corners = np.concatenate([low, low + rng.uniform(0.1, 0.4, (count, 2))], 1)
    prior = np.stack([corners.reshape(-1), np.tile([0.1, 0.1, 0.2, 0.2], count)])[None].astype(np.float32)
    per_class = 1 if options.get("share", True) else classes
    feeds = {
        "loc": rng.standard_normal((3, count * per_class * 4)).astype(np.float32),
        "conf": rng.permutation(3 * count * classes).reshape(3, -1).astype(np.float32) / (3 * count * classes),
        "prior": prior,
    }
    fields = f"detection_output_param {{ num_classes: {classes} {fields} }}"
    shapes = {name: array.shape for name, array in feeds.items()}
    *_, got = run(tmp_path, f"y DetectionOutput loc conf prior; {fields}", feeds, **shapes)
    expected = detections(feeds["loc"], feeds["conf"], prior, classes, **options)
    np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("background", [0, 2])
@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE"])
@pytest.mark.parametrize(("threshold", "limit", "top_k", "keep"), [(0.3, 0.45, 9, 7), (0.01, 0.6, 400, 200)])
def test_detections_against_opencv(
    share: bool, background: int, code: str, threshold: float, limit: float, top_k: int, keep: int, tmp_path: Path
) -> None:
    """OpenCV finds the same boxes. Where it departs from SSD's own layer:

    - it gives keep_top_k rows for each image of the batch: first what was found, the best of any class first,
      then zeros; of nothing it gives zeros, not rows of -1;
    - a confidence_threshold that is not given is 0 there, and everything in SSD;
    - eta is ignored, CORNER_SIZE is unknown, and variance_encoded_in_target asks for prior boxes without variances;
    - code_type, share_location, background_label_id, keep_top_k and nms_threshold have no defaults.
    """
    need("cv2")
    import cv2

    classes, count = 4, 30
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 0.7, (count, 2))
    corners = np.concatenate([low, low + rng.uniform(0.1, 0.4, (count, 2))], 1)
    feeds = {
        "loc": rng.standard_normal((3, count * (1 if share else classes) * 4)).astype(np.float32),
        "conf": rng.permutation(3 * count * classes).reshape(3, -1).astype(np.float32) / (3 * count * classes),
        "prior": np.stack([corners.reshape(-1), np.tile([0.1, 0.1, 0.2, 0.2], count)])[None].astype(np.float32),
    }
    fields = f"num_classes: {classes} share_location: {str(share).lower()} background_label_id: {background} "
    fields += f"code_type: {code} confidence_threshold: {threshold} keep_top_k: {keep} "
    fields += f"nms_param {{ nms_threshold: {limit} top_k: {top_k} }}"
    layer = f"y DetectionOutput loc conf prior; detection_output_param {{ {fields} }}"
    shapes = {name: array.shape for name, array in feeds.items()}
    *_, got = run(tmp_path, layer, feeds, **shapes)

    net = cv2.dnn.readNetFromCaffe(np.frombuffer(net_text(layer, **shapes).encode(), np.uint8))
    for name, array in feeds.items():
        net.setInput(array, name)
    rows = net.forward()[0, 0]
    assert rows.shape == (3 * keep, 7)
    found = rows[: got.shape[2]]
    assert not rows[got.shape[2] :].any()
    found = found[np.lexsort((-found[:, 2], found[:, 1], found[:, 0]))]
    np.testing.assert_allclose(got[0, 0], found, atol=2e-6)


@pytest.mark.parametrize(
    ("fields", "says"), [("nms_param { eta: 0.9 }", "from box to box"), ("visualize: true", "windows")]
)
def test_detections_that_are_refused(fields: str, says: str, tmp_path: Path) -> None:
    layer = f"y DetectionOutput loc conf prior; detection_output_param {{ num_classes: 3 {fields} }}"
    text = net_text(layer, loc=(1, 40), conf=(1, 30), prior=(1, 2, 40))
    with pytest.raises(hub.UnsupportedOps, match=says):
        hub.load(write(tmp_path, text))


def _head(number: int, source: str, boxes: int, sizes: str) -> str:
    order = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
    lines = []
    for kind, width in (("loc", 4), ("conf", 5)):
        conv = f"convolution_param {{ num_output: {boxes * width} kernel_size: 3 pad: 1 }}"
        lines += [f"{kind}{number} Convolution {source}; {conv}", f"{kind}{number}p Permute {kind}{number}; {order}"]
        lines += [f"{kind}{number}f Flatten {kind}{number}p"]
    variance = "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"
    return "\n".join([*lines, f"prior{number} PriorBox {source} data; prior_box_param {{ {sizes} {variance} }}\n"])


def test_a_whole_ssd(tmp_path: Path) -> None:
    layers = (
        "c1 Convolution data; convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 }\nr1 ReLU c1 -> c1\n"
    )
    layers += "n1 Normalize c1; norm_param { across_spatial: false channel_shared: false }\n"
    layers += (
        "c2 Convolution c1; convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 }\nr2 ReLU c2 -> c2\n"
    )
    layers += _head(1, "n1", 4, "min_size: 8 max_size: 16 aspect_ratio: 2")
    layers += _head(2, "c2", 6, "min_size: 16 max_size: 30 aspect_ratio: 2 aspect_ratio: 3")
    layers += (
        "loc Concat loc1f loc2f\nconf Concat conf1f conf2f\nprior Concat prior1 prior2; concat_param { axis: 2 }\n"
    )
    layers += "rows Reshape conf; reshape_param { shape { dim: 0 dim: -1 dim: 5 } }\n"
    layers += "prob Softmax rows; softmax_param { axis: 2 }\nflat Flatten prob\n"
    layers += "found DetectionOutput loc flat prior; detection_output_param { num_classes: 5 code_type: CENTER_SIZE "
    layers += "keep_top_k: 20 confidence_threshold: 0.1 nms_param { nms_threshold: 0.45 top_k: 100 } }"
    text = net_text(layers, data=(2, 3, 33, 40))
    blobs = {name: [array * np.float32(0.35) for array in arrays] for name, arrays in seeded_blobs(text).items()}
    model = hub.load(write(tmp_path, text, blobs), outputs=["loc", "flat", "prior", "found"])
    got = model.run(feeds_of(model))
    sizes = {"variance": [0.1, 0.1, 0.2, 0.2]}
    boxes = [
        priors((17, 20), (33, 40), [8], [16], [2], **sizes), priors((9, 10), (33, 40), [16], [30], [2, 3], **sizes),
    ]  # fmt: skip
    np.testing.assert_allclose(got["prior"], np.concatenate(boxes, 2), atol=1e-6)
    options = {"kind": "CENTER_SIZE", "keep": 20, "threshold": 0.1, "limit": 0.45, "top_k": 100}
    expected = detections(got["loc"], got["flat"], got["prior"], 5, **options)
    assert expected.shape == (1, 1, 40, 7)
    np.testing.assert_allclose(got["found"], expected, atol=1e-5)
