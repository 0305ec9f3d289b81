"""Reports: valid, self-contained, safe, and showing the numbers they were given."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from quickstudy import report
from quickstudy.report.charts import ticks
from quickstudy.report.images import Animation, animated_png, png


class Reader(HTMLParser):
    """Checks that every element is closed, and collects links, ids and texts."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.text, self.described = [], [], "", []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag == "img" or found.get("role") == "img":
            self.described.append(found.get("alt") or found.get("aria-label"))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(html):
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def a_page():
    x = np.arange(5)
    chart = report.line_chart(
        [report.Series("ours", x, x / 4, x / 4 - 0.1, x / 4 + 0.1), report.Series("a < b", x, 0 * x + 0.5, dashed=True)],
        title="Adaptation",
        x_label="ticks",
        y_label="accuracy",
    )
    grid = report.image_grid([np.zeros((4, 4), np.uint8)] * 2, ["3", "5"], marks=["right", "wrong"])
    rows = report.table([["maml", 0.123456, None]], ["method", "score", "note"])
    return report.page("Title & more", [report.Section("One", report.side_by_side([chart, rows])), report.Section("Two", grid)])


def test_a_page_is_well_formed_and_needs_nothing_from_outside():
    reader = read(a_page())
    assert all(link.startswith("data:") for link in reader.links)
    assert "@import" not in a_page()
    assert "url(" not in a_page()
    assert "<script" not in a_page()
    assert all(reader.described)
    assert len(reader.described) == 3
    assert "Title & more" in reader.text
    assert "a < b" in reader.text
    assert "0.1235" in reader.text


def test_a_chart_puts_points_where_their_numbers_are():
    html = report.line_chart([report.Series("line", [0, 1, 2], [0.0, 1.0, 0.5])], title="t", x_label="x", y_label="y")
    points = re.search(r'<polyline points="([^"]+)"', html)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points.group(1).split())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 < y2 < y0
    assert y2 == pytest.approx((y0 + y1) / 2, abs=0.2)


def test_a_line_is_interrupted_where_it_is_not_finite():
    html = report.line_chart([report.Series("line", range(5), [0, 1, np.nan, 1, 2])], title="t", x_label="x", y_label="y")
    assert html.count("<polyline") == 2
    assert not re.search(r"\bnan\b", re.sub(r"<details.*</details>", "", html))


def test_long_lines_are_averaged_without_shifting_their_mean():
    y = np.random.default_rng(0).normal(size=5_000)
    html = report.line_chart([report.Series("line", np.arange(5_000), y)], title="t", x_label="x", y_label="y", y_range=(-1, 1))
    heights = [float(point.split(",")[1]) for point in re.search(r'<polyline points="([^"]+)"', html).group(1).split()]
    assert 150 < len(heights) <= 300
    flat = report.line_chart([report.Series("line", [0, 1], [y.mean()] * 2)], title="t", x_label="x", y_label="y", y_range=(-1, 1))
    assert np.mean(heights) == pytest.approx(float(re.search(r'<polyline points="[^,]+,([\d.]+)', flat).group(1)), abs=1)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.0025, 0.0013), (3, 90_000), (-5, -4.9)])
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert low - 1e-9 <= found[0]
    assert found[-1] <= high + 1e-9


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_a_chart_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match="finite point"):
        report.line_chart([report.Series("line", range(len(values)), values)], title="t", x_label="x", y_label="y")
    with pytest.raises(ValueError, match="one length"):
        report.line_chart([report.Series("line", [1, 2, 3], [1, 2])], title="t", x_label="x", y_label="y")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_round_trip(tmp_path, shape):
    image_module = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "image.png").write_bytes(png(image))
    with image_module.open(tmp_path / "image.png") as back:
        assert np.array_equal(np.asarray(back), image)
    encoded = re.search(r"base64,([^\"]+)", report.image_grid([image], ["x"])).group(1)
    assert base64.b64decode(encoded) == png(image)


def test_an_animated_png_is_read_back_frame_by_frame(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    frames = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 3), dtype=np.uint8)
    (tmp_path / "frames.png").write_bytes(animated_png(frames, 0.25))
    with image_module.open(tmp_path / "frames.png") as back:
        assert (back.n_frames, back.info["loop"]) == (4, 0)
        for number, frame in enumerate(frames):
            back.seek(number)
            assert back.info["duration"] == 250
            assert np.array_equal(np.asarray(back), frame)
    encoded = re.search(r"base64,([^\"]+)", report.image_grid([Animation(frames, 0.25)], ["x"])).group(1)
    assert base64.b64decode(encoded) == animated_png(frames, 0.25)


def test_images_of_floats_are_refused():
    with pytest.raises((ValueError, TypeError), match=r"uint8|image"):
        png(np.zeros((3, 3)))
    with pytest.raises((ValueError, TypeError), match=r"frames must be uint8|animated_png"):
        animated_png(np.zeros((3, 3)), 0.1)
