"""Small functions that generated files carry along when they need them."""

from __future__ import annotations

__all__ = ["HELPERS"]

_AVERAGE = '''def average_pool{n}d(
    x: Tensor, kernel_size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """Average over what lies inside of `x`: the padding does not count."""
    inside = F.pad(torch.ones_like(x[:1, :1]), padding)
    total = F.avg_pool{n}d(F.pad(x, padding), kernel_size, stride)
    return total / F.avg_pool{n}d(inside, kernel_size, stride)
'''

HELPERS = {
    "pad_same": '''def pad_same(
    x: Tensor,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    value: float,
) -> Tensor:
    """Pad so that a window of this size and stride gives ceil(size / stride) outputs."""
    pads: list[int] = []
    for size, k, s, d in zip(x.shape[:1:-1], kernel_size[::-1], stride[::-1], dilation[::-1]):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)
''',
    **{f"average_pool{n}d": _AVERAGE.replace("{n}", str(n)) for n in (1, 2, 3)},
}
