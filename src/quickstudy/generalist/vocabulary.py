"""Values as token ids and back: discrete values, continuous values, the pixels of images. The specification is in `tokens.py`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int, Int32, Int64, Integer, UInt8

MU, LIMIT = 100.0, 256.0  # of the mu-law; beyond the limit, called M in the paper, values are clipped
PATCH = 16  # pixels on each side of a patch
POSITION_BINS = 128  # of a patch's row, and of its column


def mu_law(x: Float[np.ndarray, "*shape"], mu: float = MU, m: float = LIMIT) -> Float[np.ndarray, "*shape"]:
    """Values from [-m, m] companded to [-1, 1]: `sign(x) log(1 + mu |x|) / log(1 + mu m)`. Source: Reed et al. 2022, appendix B.

    >>> mu_law(np.array([-256.0, 0.0, 1.0, 256.0])).round(3).tolist()
    [-1.0, 0.0, 0.455, 1.0]
    """
    return np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu * m)


def inverse_mu_law(y: Float[np.ndarray, "*shape"], mu: float = MU, m: float = LIMIT) -> Float[np.ndarray, "*shape"]:
    """The values that `mu_law` compands to `y`."""
    return np.sign(y) * np.expm1(np.abs(y) * np.log1p(mu * m)) / mu


def require_range(what: str, values: Integer[np.ndarray, "*shape"], first: int, end: int) -> None:
    """Raises `ValueError` unless every value is at least `first` and less than `end`."""
    outside = (values < first) | (values >= end)
    if outside.any():
        raise ValueError(f"{what} must lie in [{first}, {end}), not {values[outside][0]}")


@dataclass(frozen=True)
class Vocabulary:
    """How many ids text, discrete values and the bins of continuous values have, and where they lie.

    The ranges are disjoint, in that order, with the separator as the last id. `literal` takes the paper's words at face value
    instead: discrete values share the first ids of text. Raises `ValueError` where a number is not positive, or where `literal` needs
    more text.

    >>> ours, theirs = Vocabulary(2048), Vocabulary(32000, literal=True)
    >>> ours.discrete_start, ours.continuous_start, ours.separator, ours.size
    (2048, 3072, 4096, 4097)
    >>> theirs.discrete_start, theirs.continuous_start, theirs.separator
    (0, 32000, 33024)
    """

    text: int
    discrete: int = 1024  # Reed et al. 2022, section 2.1
    continuous: int = 1024  # Reed et al. 2022, section 2.1
    literal: bool = False  # ours: disjoint, so that no id means two things

    def __post_init__(self) -> None:
        if min(self.text, self.discrete, self.continuous) < 1:
            raise ValueError(
                f"text, discrete and continuous must each be at least 1, not {(self.text, self.discrete, self.continuous)}"
            )
        if self.literal and self.text < self.discrete:
            raise ValueError(
                f"literal ranges need at least as many ids of text as of discrete values, {self.discrete}, not {self.text}"
            )

    @property
    def discrete_start(self) -> int:
        """The id of the discrete value 0."""
        return 0 if self.literal else self.text

    @property
    def continuous_start(self) -> int:
        """The id of the first bin."""
        return self.text + (0 if self.literal else self.discrete)

    @property
    def separator(self) -> int:
        """The id between a time step's observation and its action."""
        return self.continuous_start + self.continuous

    @property
    def size(self) -> int:
        """How many ids there are; the rows of a table of patches are counted from here on."""
        return self.separator + 1

    def encode_discrete(self, values: Int[np.ndarray, "*shape"]) -> Int32[np.ndarray, "*shape"]:
        """Ids of integers from 0. Raises `ValueError` for one that has no id.

        >>> Vocabulary(2048).encode_discrete(np.array([0, 7])).tolist()
        [2048, 2055]
        """
        require_range("discrete values", values, 0, self.discrete)
        return (values + self.discrete_start).astype(np.int32)

    def decode_discrete(self, ids: Int[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """The integers of ids. Raises `ValueError` for an id of another kind."""
        require_range("ids of discrete values", ids, self.discrete_start, self.discrete_start + self.discrete)
        return ids.astype(np.int64) - self.discrete_start

    def encode_continuous(self, values: Float[np.ndarray, "*shape"], *, compand: bool = True) -> Int32[np.ndarray, "*shape"]:
        """Ids of numbers: companded if asked for, clipped to [-1, 1], in bins of equal width. Raises `ValueError` for NaN.

        >>> Vocabulary(2048).encode_continuous(np.array([-1.0, 0.0, 1.0]), compand=False).tolist()
        [3072, 3584, 4095]
        """
        if np.isnan(values).any():
            raise ValueError("continuous values must be numbers, not NaN")
        values = values.astype(np.float64)
        unit = mu_law(np.clip(values, -LIMIT, LIMIT)) if compand else np.clip(values, -1.0, 1.0)
        bins = ((unit + 1) * (self.continuous / 2)).astype(np.int32)
        return np.minimum(bins, self.continuous - 1) + np.int32(self.continuous_start)  # +1 belongs to the last bin

    def decode_continuous(self, ids: Int[np.ndarray, "*shape"], *, compand: bool = True) -> Float64[np.ndarray, "*shape"]:
        """The centres of the bins of ids. Raises `ValueError` for an id of another kind.

        >>> Vocabulary(2048).decode_continuous(np.array([3072, 4095]), compand=False).tolist()
        [-0.9990234375, 0.9990234375]
        """
        require_range("ids of continuous values", ids, self.continuous_start, self.separator)
        centres = (ids - self.continuous_start + 0.5) * (2 / self.continuous) - 1
        return inverse_mu_law(centres) if compand else centres


def to_patches(images: UInt8[np.ndarray, "steps height width channels"]) -> UInt8[np.ndarray, "steps patches 16 16 3"]:
    """Images cut into patches of 16 by 16 pixels, row by row; grey is repeated to three channels.

    Raises `ValueError` where a side is no multiple of 16 or where there are neither one nor three channels.
    """
    steps, height, width, channels = images.shape
    check_image((height, width, channels))
    tiles = images.reshape(steps, height // PATCH, PATCH, width // PATCH, PATCH, channels).swapaxes(2, 3)
    return np.broadcast_to(tiles, (*tiles.shape[:-1], 3)).reshape(steps, -1, PATCH, PATCH, 3)


def from_patches(
    patches: UInt8[np.ndarray, "steps patches 16 16 3"], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "steps height width channels"]:
    """The images, of shape (height, width, channels), that `to_patches` cut."""
    height, width, channels = shape
    tiles = patches.reshape(-1, height // PATCH, width // PATCH, PATCH, PATCH, 3).swapaxes(2, 3)
    return tiles.reshape(-1, height, width, 3)[..., :channels]


def check_image(shape: tuple[int, ...]) -> None:
    """Raises `ValueError` unless images of this shape can be cut into patches."""
    height, width, channels = shape
    if height < 1 or width < 1 or height % PATCH or width % PATCH or channels not in (1, 3):
        raise ValueError(f"an image has sides that are multiples of {PATCH} and 1 or 3 channels, not {height} x {width} x {channels}")


def patch_intervals(height: int, width: int) -> UInt8[np.ndarray, "patches 2 2"]:
    """For each patch of an image, (row, column) x (first, last bin): the part of height and width that it covers, in 128ths.

    Both bins belong to the patch, and no two rows (or columns) of patches share a bin as long as there are at most 128 of them.

    >>> patch_intervals(32, 16).tolist()
    [[[0, 63], [0, 127]], [[64, 127], [0, 127]]]
    """
    sides = []
    for patches in (height // PATCH, width // PATCH):
        edges = np.rint(np.arange(patches + 1) * POSITION_BINS / patches).astype(np.int64)
        first = np.minimum(edges[:-1], POSITION_BINS - 1)
        sides.append(np.stack([first, np.maximum(first, edges[1:] - 1)], axis=1))
    rows, columns = sides
    pairs = [np.repeat(rows, len(columns), axis=0), np.tile(columns, (len(rows), 1))]
    return np.stack(pairs, axis=1).astype(np.uint8)


def position_bins(intervals: Any, share: Any = 0.5) -> Any:
    """One bin of each interval: the one that lies `share` of the way, from 0 to below 1, between its ends.

    In training the share is drawn uniformly; in evaluation it is one half, which is the rounded mean. For arrays of NumPy and of JAX:
    intervals `(..., 2, 2)`, bins `(..., 2)`.

    >>> position_bins(patch_intervals(32, 16)).tolist()
    [[32, 64], [96, 64]]
    """
    first, last = intervals[..., 0].astype(np.int32), intervals[..., 1].astype(np.int32)
    return first + ((last - first + 1).astype(np.float32) * share).astype(np.int32)


def scale_pixels(pixels: Any) -> Any:
    """Bytes as float32 in [-1, 1], divided by the square root of the patch's side, 4. For arrays of NumPy and of JAX.

    >>> scale_pixels(np.array([0, 255], np.uint8)).tolist()
    [-0.25, 0.25]
    """
    return (pixels.astype(np.float32) / 127.5 - 1) / PATCH**0.5


def distinct_patches(
    patches: UInt8[np.ndarray, "patches 16 16 3"],
) -> tuple[UInt8[np.ndarray, "rows 16 16 3"], Int32[np.ndarray, " patches"]]:
    """A table with each different patch once, in the order of appearance, and the row of each patch in it."""
    known: dict[bytes, int] = {}
    rows = np.array([known.setdefault(patch.tobytes(), len(known)) for patch in patches], np.int32)
    return patches[np.unique(rows, return_index=True)[1]], rows
