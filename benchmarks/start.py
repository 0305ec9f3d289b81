"""How long it takes to start: `quickstudy --help` by the clock, and `import quickstudy` in CPU-seconds.

* `help_wall_seconds`: the installed command from its start to its end, best of five.
* `import_cpu_seconds`: a Python process that imports quickstudy *and uses every public name* (`quickstudy.__all__`), best of five.
  Names load on first use, so the import alone, `bare_import_cpu_seconds`, says little. Both include Python's own start.
"""

import sys
import sysconfig
from pathlib import Path
from typing import Any

from _running import Target, main, spawn, spread

NAME = "start"
TARGETS = (Target("help_wall_seconds", "at most", 0.3), Target("import_cpu_seconds", "at most", 0.65))
REPEATS = 5
_BARE = "import quickstudy"
_ALL_NAMES = "import quickstudy; [getattr(quickstudy, name) for name in quickstudy.__all__]"


def measure() -> dict[str, Any]:
    command = str(Path(sysconfig.get_path("scripts")) / "quickstudy")
    spawn([sys.executable, "-c", _ALL_NAMES])  # reads the files from the disk once
    helps = [spawn([command, "--help"])[1].wall_seconds for _ in range(REPEATS)]
    bare = [spawn([sys.executable, "-c", _BARE])[1].cpu_seconds for _ in range(REPEATS)]
    names = [spawn([sys.executable, "-c", _ALL_NAMES])[1].cpu_seconds for _ in range(REPEATS)]
    metrics = spread("help_wall_seconds", helps) | spread("import_cpu_seconds", names) | spread("bare_import_cpu_seconds", bare)
    return {"metrics": metrics, "setting": {"repeats": REPEATS}}


if __name__ == "__main__":
    main(NAME, TARGETS, measure)
