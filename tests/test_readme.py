"""What the README and the guides show works as it stands."""

import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def test_the_example_learns(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    report = scope["evaluate"](scope["learner"], scope["Parabolas"](), n_tasks=200, steps=4, key=scope["jr"].key(2))
    assert report.curve.mean[-1] > 0.5 * report.curve.mean[0], "four ticks must at least halve the squared error"
    assert capsys.readouterr().out.startswith("test: ")


def test_the_guide_to_tables_reads_a_csv(capsys, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    lines = [
        f"{random.choice(['Oslo', 'Rome'])},{random.integers(18, 90)},{random.uniform(0, 100):.2f},{'yes' if i % 3 else 'no'}"
        for i in range(60)
    ]
    (tmp_path / "customers.csv").write_text("city,age,spent,came_back\n" + "\n".join(lines))
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guides" / "tables.md").read_text(), flags=re.DOTALL):
        exec(compile(code, "tables.md", "exec"), scope)
    assert "quickstudy train pfn-tabular --preset laptop --seed 0" in capsys.readouterr().out
