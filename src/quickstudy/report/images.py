"""Small images inside a page, as PNG data addresses."""

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Literal

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
    height, width = image.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if image.ndim == 2 else 2, 0, 0, 0)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), np.ascontiguousarray(image).reshape(height, -1)], axis=1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def image_grid(
    images: Sequence[UInt8[np.ndarray, "height width *channels"]],
    captions: Sequence[str],
    *,
    marks: Sequence[Mark] | None = None,
    size: int = 64,
) -> str:
    """Images in a row that wraps, each `size` pixels wide with its caption, framed as "right" or "wrong" where `marks` say so.

    Images are bytes, grey or RGB. Raises `ValueError` if there are not as many captions, or marks, as images.
    """
    marks = [""] * len(images) if marks is None else marks
    if not len(images) == len(captions) == len(marks):
        raise ValueError(f"images, captions and marks must be as many, not {len(images)}, {len(captions)} and {len(marks)}")
    return f'<ul class="images">{"".join(_figure(*item, size) for item in zip(images, captions, marks, strict=True))}</ul>'


def _figure(image: UInt8[np.ndarray, "height width *channels"], caption: str, mark: Mark, size: int) -> str:
    source = base64.b64encode(png(image)).decode()
    height = round(size * image.shape[0] / image.shape[1])
    text = f"{caption} ({mark})" if mark else caption
    sign = {"": "", "right": "✓ ", "wrong": "✗ "}[mark]
    return (
        f'<li class="{mark}"><figure><img width="{size}" height="{height}" alt="{escape(text)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{sign}{escape(caption)}</figcaption></figure></li>"
    )
