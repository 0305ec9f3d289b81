"""What the README shows works as it stands."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_learns(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    report = scope["evaluate"](scope["learner"], scope["Parabolas"](), n_tasks=200, steps=4, key=scope["jr"].key(2))
    assert report.curve.mean[-1] > 0.5 * report.curve.mean[0], "four ticks must at least halve the squared error"
    assert capsys.readouterr().out.startswith("test: ")
