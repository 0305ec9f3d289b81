"""Small images and animations inside a page, as PNG data addresses."""

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8

from quickstudy.report.html import escape

Mark = Literal["", "right", "wrong"]


def png(image: UInt8[np.ndarray, "height width *channels"]) -> bytes:
    """A grey `(height, width)` or RGB `(height, width, 3)` image of bytes as a PNG file.

    Raises `ValueError` for another shape or dtype. Source: the PNG specification (ISO/IEC 15948), filter type 0.

    >>> png(np.zeros((2, 2), np.uint8))[:4]
    b'\\x89PNG'
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or image.size == 0:
        raise ValueError(
            f"image must be uint8 of shape (height, width) or (height, width, 3), not {image.dtype} of shape {image.shape}"
        )
    return _SIGNATURE + _header(image) + _chunk(b"IDAT", _pixels(image)) + _chunk(b"IEND", b"")


def animated_png(frames: UInt8[np.ndarray, "frames height width 3"], seconds: float) -> bytes:
    """RGB frames of bytes as an animated PNG file that begins anew for ever, each frame shown for so many seconds, at most 65.

    Who does not know of animations shows the first frame. Raises `ValueError` for another shape or dtype. Source: Portable Network
    Graphics (PNG) Specification (Third Edition), section 11.3.6: acTL, and for each frame fcTL with its data.

    >>> animated_png(np.zeros((3, 2, 2, 3), np.uint8), 0.5).count(b"fcTL")
    3
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or frames.size == 0:
        raise ValueError(f"frames must be uint8 of shape (frames, height, width, 3), not {frames.dtype} of shape {frames.shape}")
    height, width = frames.shape[1:3]
    chunks = [_header(frames[0]), _chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    number = 0  # of fcTL and fdAT chunks together
    for index, frame in enumerate(frames):
        control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, round(1000 * seconds), 1000, 0, 0)
        first = index == 0  # is an ordinary image, whose data has no number
        data = _pixels(frame) if first else struct.pack(">I", number + 1) + _pixels(frame)
        chunks += [_chunk(b"fcTL", control), _chunk(b"IDAT" if first else b"fdAT", data)]
        number += 1 if first else 2
    return _SIGNATURE + b"".join(chunks) + _chunk(b"IEND", b"")


_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _header(image: UInt8[np.ndarray, "height width *channels"]) -> bytes:
    height, width = image.shape[:2]
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0 if image.ndim == 2 else 2, 0, 0, 0))


def _pixels(image: UInt8[np.ndarray, "height width *channels"]) -> bytes:
    rows = np.concatenate([np.zeros((len(image), 1), np.uint8), np.ascontiguousarray(image).reshape(len(image), -1)], axis=1)
    return zlib.compress(rows.tobytes(), 9)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


class Animation(NamedTuple):
    """RGB frames of bytes, and for how many seconds each is shown."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    seconds: float


def image_grid(
    images: Sequence[UInt8[np.ndarray, "height width *channels"] | Animation],
    captions: Sequence[str],
    *,
    marks: Sequence[Mark] | None = None,
    size: int = 64,
) -> str:
    """Images in a row that wraps, each `size` pixels wide with its caption, framed as "right" or "wrong" where `marks` say so.

    Images are bytes, grey or RGB, or animations. Raises `ValueError` if there are not as many captions, or marks, as images.
    """
    marks = [""] * len(images) if marks is None else marks
    if not len(images) == len(captions) == len(marks):
        raise ValueError(f"images, captions and marks must be as many, not {len(images)}, {len(captions)} and {len(marks)}")
    return f'<ul class="images">{"".join(_figure(*item, size) for item in zip(images, captions, marks, strict=True))}</ul>'


def _figure(image: np.ndarray | Animation, caption: str, mark: Mark, size: int) -> str:
    data, first = (animated_png(*image), image.frames[0]) if isinstance(image, Animation) else (png(image), image)
    source = base64.b64encode(data).decode()
    height = round(size * first.shape[0] / first.shape[1])
    text = f"{caption} ({mark})" if mark else caption
    sign = {"": "", "right": "✓ ", "wrong": "✗ "}[mark]
    return (
        f'<li class="{mark}"><figure><img width="{size}" height="{height}" alt="{escape(text)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{sign}{escape(caption)}</figcaption></figure></li>"
    )
