"""A folder of images as inputs of a model, with the preprocessing that the model expects."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hub.errors import MissingDependency, UsageError
from parity.runners import Array, Port

__all__ = ["Images"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True)
class Images:
    """Images of a folder, in the order of their names, resized to what the model takes.

    Pixels p, 0 to 255, become (p * scale - mean) / std; `mean` and `std` are numbers or one for each channel.

    Attributes:
        folder: where they are.
        scale, mean, std: as above.
        color: "RGB" or "BGR".
        size: (height, width) where the model leaves them open.
        prepare: in place of all that: a function of an array [height, width, 3] of uint8, giving what the model takes
            of one image.
        most: how many images at most.
    """

    folder: str | os.PathLike[str]
    scale: float = 1.0
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0
    color: str = "RGB"
    size: tuple[int, int] | None = None
    prepare: Callable[[Array], Array] | None = None
    most: int = 32

    @classmethod
    def parsed(cls, folder: str | os.PathLike[str], text: str) -> Images:
        """From "scale=0.0039,mean=0.5:0.4:0.4,std=0.2,color=BGR,size=224x224".

        Raises:
            UsageError: a word is none of these.
        """
        found: dict[str, Any] = {}
        for word in filter(None, text.split(",")):
            name, _, value = word.partition("=")
            try:
                if name == "size":
                    height, width = value.split("x")
                    found[name] = int(height), int(width)
                elif name in ("mean", "std"):
                    numbers = [float(part) for part in value.split(":")]
                    found[name] = numbers if len(numbers) > 1 else numbers[0]
                elif name == "scale":
                    found[name] = float(value)
                elif name == "color":
                    found[name] = value
                else:
                    raise UsageError(f"{word}: pixels are described by scale, mean, std, color and size")
            except ValueError:
                raise UsageError(f"{word}: as in scale=0.0039, mean=0.5:0.4:0.4, color=BGR, size=224x224") from None
        return cls(folder, **found)

    def feeds(self, ports: Sequence[Port]) -> list[dict[str, Array]]:
        """Sets of inputs: all images as one batch where the model allows it, else one after the other.

        Raises:
            UsageError: there are no images, or the model does not take one image.
            MissingDependency: Pillow is not installed.
        """
        if len(ports) != 1:
            raise UsageError(f"images are for models of one input; this one takes {', '.join(p.name for p in ports)}")
        (port,) = ports
        if self.color not in ("RGB", "BGR"):
            raise UsageError(f"color={self.color!r}; it is RGB or BGR")
        last = _channels_last(port)
        images = [self._taken(path, port, last) for path in self._paths()]
        batch = port.shape[0] if port.shape else None
        count = batch if isinstance(batch, int) and batch > 0 else len(images)
        whole = [images[i : i + count] for i in range(0, len(images) - count + 1, count)]
        if not whole:
            raise UsageError(f"{self.folder} has {len(images)} images, and the model takes {count} at a time")
        dtype = np.dtype(port.dtype or "float32")
        return [{port.name: np.stack(part).astype(dtype)} for part in whole]

    def _paths(self) -> list[Path]:
        found = sorted(path for path in Path(self.folder).iterdir() if path.suffix.lower() in SUFFIXES)
        if not found:
            raise UsageError(f"{self.folder}: there are no images in it ({', '.join(sorted(SUFFIXES))})")
        return found[: self.most]

    def _taken(self, path: Path, port: Port, last: bool) -> Array:
        try:
            from PIL import Image, UnidentifiedImageError
        except ImportError:
            raise MissingDependency("reading images needs Pillow, which is not installed: pip install pillow") from None
        shape = port.shape or ()
        channels, height, width = (shape[3], shape[1], shape[2]) if last else (shape[1], shape[2], shape[3])
        size = self.size or (height, width)
        if not all(isinstance(n, int) and n > 0 for n in size):
            raise UsageError(f"the input {port.name!r} leaves the size of images open: size=(height, width)")
        try:
            with Image.open(path) as image:
                plain: Any = image.convert("L" if channels == 1 else "RGB")
                if self.prepare is None:
                    plain = plain.resize((int(size[1] or 0), int(size[0] or 0)), Image.Resampling.BILINEAR)
                pixels: Array = np.asarray(plain)
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"{path} cannot be read as an image: {error}") from error
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if self.prepare is not None:
            return np.asarray(self.prepare(pixels))
        if self.color == "BGR":
            pixels = pixels[:, :, ::-1]
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        taken: Array = (pixels.astype(np.float32) * np.float32(self.scale) - mean) / std
        return taken if last else taken.transpose(2, 0, 1)


def _channels_last(port: Port) -> bool:
    """Whether an input is [N, H, W, C], as its shape says.

    Raises:
        UsageError: it is no image.
    """
    shape = port.shape or ()
    if len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3):
        return True
    if len(shape) == 4 and shape[1] in (1, 3):
        return False
    raise UsageError(f"the input {port.name!r} of shape {list(shape)} is no batch of images of 1 or 3 channels")
