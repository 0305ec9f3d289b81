"""Pictures of worlds for people: plain RGB arrays, drawn with nothing but NumPy, on the host."""

import numpy as np
from jaxtyping import Bool, Float, UInt8

Picture = UInt8[np.ndarray, "height width 3"]
Colour = tuple[int, int, int]

# The palette of all worlds; told apart also by readers who confuse red and green (after Okabe and Ito 2008).
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (30, 30, 30)
GREY: Colour = (150, 150, 150)
BLUE: Colour = (0, 114, 178)
ORANGE: Colour = (230, 159, 0)
GREEN: Colour = (0, 158, 115)
RED: Colour = (213, 94, 0)
PINK: Colour = (204, 121, 167)
SKY: Colour = (86, 180, 233)
YELLOW: Colour = (240, 228, 66)
BROWN: Colour = (140, 90, 40)


def canvas(height: int, width: int, colour: Colour = WHITE) -> Picture:
    """An empty picture.

    >>> canvas(2, 3).shape
    (2, 3, 3)
    """
    return np.full((height, width, 3), colour, np.uint8)


def cells(colours: UInt8[np.ndarray, "rows columns 3"], size: int = 16) -> Picture:
    """A grid of squares of `size` pixels, each of one colour, with a thin line between them.

    >>> cells(canvas(5, 4), size=16).shape
    (80, 64, 3)
    """
    picture = np.repeat(np.repeat(colours, size, axis=0), size, axis=1)
    lines = picture // 8 * 7
    picture[::size], picture[:, ::size] = lines[::size], lines[:, ::size]
    return picture


def bars(values: Float[np.ndarray, " n"], height: int = 64, width: int = 12) -> Picture:
    """One bar for each value, on a scale from the smallest (or zero) to the largest value (or one).

    >>> bars(np.array([0.0, 0.5, 1.0])).shape
    (64, 36, 3)
    """
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    picture = canvas(height, width * len(values))
    for i, value in enumerate(values):
        top = height - round((float(value) - low) / (high - low) * (height - 2)) - 1
        picture[top:, i * width + 1 : (i + 1) * width - 1] = BLUE
    return picture


def paint(picture: Picture, where: Bool[np.ndarray, "height width"], colour: Colour) -> None:
    """Give the pixels of a mask a colour, in place."""
    picture[where] = colour


def places(size: int, low: float = -1.0, high: float = 1.0) -> tuple[Float[np.ndarray, "size size"], Float[np.ndarray, "size size"]]:
    """The x and y of every pixel of a square picture that shows [low, high] x [low, high], y upwards.

    >>> x, y = places(3)
    >>> float(x[0, 2]), float(y[0, 2])
    (1.0, 1.0)
    """
    axis = np.linspace(low, high, size)
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[::-1, None], (size, size))


def disc(picture: Picture, centre: tuple[float, float], radius: float, colour: Colour, low: float = -1.0, high: float = 1.0) -> None:
    """A filled disc in a square picture of [low, high] x [low, high], in place."""
    x, y = places(len(picture), low, high)
    paint(picture, (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2, colour)


def line(
    picture: Picture, ends: tuple[float, float, float, float], width: float, colour: Colour, low: float = -1.0, high: float = 1.0
) -> None:
    """A thick line from (x0, y0) to (x1, y1) in a square picture of [low, high] x [low, high], in place."""
    x, y = places(len(picture), low, high)
    x0, y0, x1, y1 = ends
    along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-12)
    along = np.clip(along, 0.0, 1.0)
    paint(picture, (x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2 <= (width / 2) ** 2, colour)
