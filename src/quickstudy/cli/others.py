"""`quickstudy demo`, `bench` and `report`: commands that hand over to another part of the package."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from quickstudy import catalog, measure
from quickstudy.cli.compile_cache import use_compile_cache
from quickstudy.cli.flags import Parser


def demo_command(arguments: Sequence[str]) -> int:
    """Run the demo."""
    parser = Parser("demo", "Meta-train on drawn glyphs, then learn real handwritten digits, never seen, from a few examples.")
    parser.add_argument("--images", metavar="DIR", help="learn these instead: one sub-folder of images per class")
    parser.add_argument("--out", metavar="DIR", default="demo", help="where the report goes; demo by default")
    found = parser.read(arguments)
    use_compile_cache()
    from quickstudy import demo

    return demo.main(images=found.images, out=found.out)


def bench_command(arguments: Sequence[str]) -> int:
    """Run benchmarks of the checkout, each in a process of its own."""
    parser = Parser("bench", "Speed of this machine against peers, measured side by side in one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; all by default")
    names = parser.read(arguments).names
    root = measure.checkout()
    folder = root / "benchmarks" if root else None
    found = {path.stem.replace("_", "-"): path for path in sorted(folder.glob("[!_]*.py"))} if folder else {}
    if not found:
        raise ValueError("the benchmarks live in the source repository: run quickstudy bench from a checkout")
    for name in names:
        catalog.require(name, found, "benchmark")
    codes = [subprocess.run([sys.executable, str(found[name])]).returncode for name in names or found]
    return 1 if any(codes) else 0


def report_command(arguments: Sequence[str]) -> int:
    """Write the page of one or more runs."""
    parser = Parser("report", "One self-contained HTML page for one or more runs, side by side.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the folder to write index.html in")
    found = parser.read(arguments)
    use_compile_cache()
    from quickstudy.report.runs import write_report

    print(write_report(found.runs, found.out))
    return 0
