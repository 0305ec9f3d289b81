"""What the README and the guides show works as it stands."""

import json
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
    printed = capsys.readouterr().out
    assert "quickstudy train pfn-tabular --preset laptop --seed 0 at 44525f3" in printed
    assert "quickstudy train pfn-tabular --preset long --seed 0 --start-from WEIGHTS at 1eeed64" in printed


def test_the_guide_to_tables_quotes_what_was_measured():
    measured = json.loads((ROOT / "benchmarks" / "results" / "tabular.json").read_text())["metrics"]
    rows = re.findall(r"^\| ([\w -]+) \| ([\d. |]+) \|$", (ROOT / "docs" / "guides" / "tables.md").read_text(), flags=re.MULTILINE)
    figures = ("auc", "accuracy", "log loss", "calibration error", "rank in auc", "rank in log loss")
    assert {who for who, _ in rows} == {name.split(":")[0] for name in measured if name.endswith(": auc")}
    for who, cells in rows:
        for cell, figure in zip(cells.split(" | "), figures, strict=True):
            digits = len(cell.split(".")[1])
            assert float(cell) == round(measured[f"{who}: {figure}"], digits), (who, figure)
