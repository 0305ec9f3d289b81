"""What the README and the guides show works as it stands."""

import json
import re
from pathlib import Path

import numpy as np

from quickstudy import claims_figure
from quickstudy.algorithms.imitation import gato_mini
from quickstudy.generalist.data import scenes

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
    guide = (ROOT / "docs" / "guides" / "tables.md").read_text()
    figures = ("auc", "accuracy", "log loss", "calibration error", "rank in auc", "rank in log loss", "seconds")
    for file, after in (("tabular", ""), ("tabular-tuned", "(?:, tuned|, not tuned)")):
        measured = json.loads((ROOT / "benchmarks" / "results" / f"{file}.json").read_text())["metrics"]
        rows = re.findall(rf"^\| ([\w -]+){after} \| ([\d. |]+) \|$", guide, flags=re.MULTILINE)
        assert {who for who, _ in rows} == {name.split(":")[0] for name in measured if name.endswith(": auc")}
        for who, cells in rows:
            for cell, figure in zip(cells.split(" | "), figures, strict=False):
                digits = len(cell.split(".")[1])
                assert float(cell) == round(measured[f"{who}: {figure}"], digits), (who, figure)


def test_the_guide_to_the_generalist_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    scope: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guides" / "generalist.md").read_text(), flags=re.DOTALL):
        exec(compile(code, "generalist.md", "exec"), scope)
    mission, outcome, caption, answer, labels, first, *_, minari = capsys.readouterr().out.splitlines()
    assert mission.startswith("go to ")
    assert outcome in ("done", "not done")
    assert caption.startswith("a ")
    assert answer in scenes.NUMBERS
    assert re.fullmatch(r"\[[0-4 ]{9}\] are \[[0-4 ]{9}\]", labels)
    assert re.fullmatch(r'0: mission "go to .*", image patches 0, action \d', first)
    assert re.fullmatch(r"\d+ steps, \d+ tokens, return 0\.\d+", minari)


def test_the_guide_to_the_generalist_quotes_what_was_measured():
    guide = (ROOT / "docs" / "guides" / "generalist.md").read_text()
    levels, others, arm, pictures = (
        json.loads((ROOT / "results" / "scoreboards" / f"generalist.laptop.{part}.json").read_text())
        for part in ("levels", "others", "arm", "pictures")
    )
    rows = {name: cells.split(" | ") for name, cells in re.findall(r"^\| ([\w-]+) \| ([\d. |a-z-]+) \|$", guide, flags=re.MULTILINE)}
    task = lambda name: name.partition("/")[2]
    who = (
        *("expert", "generalist", "with prompt: end", "with prompt: wrong-task"),
        *("single-task cloning", "one-hot cloning", "nearest neighbour", "random"),
    )
    found = {task(name): [played[player]["success"] for player in who] for name, played in levels["tasks"].items()}
    found["mean"] = [levels["mean"][player]["success"] for player in who]
    for name, played in {**others["tasks"], **arm["tasks"]}.items():
        success = {player: played[player]["success"] for player in ("expert", "generalist", "nearest neighbour", "random")}
        numbers = [success["expert"], success["generalist"], played["generalist"]["normalised"]]
        found[task(name)] = [*numbers, success["nearest neighbour"], success["random"]]
    shown = {name: [f"{number:.2f}" for number in numbers] for name, numbers in found.items()}
    for name, row in {**others["examined"], **pictures["examined"]}.items():
        low, high = row["right interval"]
        shown[task(name)] = [f"{row['right']:.2f}", f"{low:.2f} to {high:.2f}", f"{row['commonest']:.2f}"]
    assert {name: rows.get(name) for name in shown} == shown


def test_the_guide_to_the_generalist_shows_the_sizes_as_they_were_measured():
    guide = (ROOT / "docs" / "guides" / "generalist.md").read_text()
    arms = json.loads((ROOT / "results" / "gato-mini.laptop.json").read_text())["arms"]
    for size in gato_mini.SIZES:
        points = [arms[f"{size}: {point}"] for point in gato_mini.POINTS]
        cells = [size, *(f"{point['mean']:.2f} ({point['low']:.2f} to {point['high']:.2f})" for point in points)]
        cells += [f"{arms[f'{size}: {domain}']['mean']:.2f}" for domain in ("babyai", "toytext", "bandits", "control")]
        assert f"| {' | '.join(cells)} |" in guide, "the guide does not show what was measured"


def test_the_scaling_figure_is_drawn_from_the_evidence():
    assert (ROOT / claims_figure.FIGURE).read_text() == claims_figure.drawn(ROOT / "results") + "\n", "run: make readme"
    assert claims_figure.FIGURE.name in (ROOT / "docs" / "guides" / "generalist.md").read_text()
