"""Evidence: measured repeat by repeat, resumable, complete, and shown in the README as it is."""

import json
from pathlib import Path

import pytest

from quickstudy import catalog, claims_table, evidence, measure
from quickstudy.claims import Claim, Expectation, verdict
from quickstudy.cli import main


class Stopped(BaseException):
    """Stands for Ctrl-C or a kill in the middle of a repeat."""


@pytest.fixture
def measured(monkeypatch):
    """A claim that costs nothing, and the seeds that were measured; it stops at the seeds in `measured.stops`."""

    class Measured(list):
        stops: tuple[int, ...] = ()
        gap = 1.0

    seeds = Measured()

    def measure_it(scale, seed):
        if seed in seeds.stops:
            raise Stopped
        seeds.append(seed)
        return {"ours": seeds.gap + seed / 100, "baseline": 0.0}

    expected = (Expectation("ours", ">", "baseline"),)
    claim = Claim("maml-sinusoid", "ours | beats the baseline", "A 2017", "2.0", "the rest", measure_it, expected)
    monkeypatch.setattr(evidence, "claim_of", lambda name: claim)
    monkeypatch.setattr("quickstudy.cli.claiming.use_compile_cache", lambda: None)
    return seeds


def test_a_claim_without_evidence_is_measured_once_and_then_read(measured, tmp_path, capsys):
    assert main(["claim", "maml-sinusoid", "--results", str(tmp_path)]) == 0
    assert "verdict: held" in capsys.readouterr().out
    assert measured == [0, 1, 2, 3, 4]
    assert main(["claim", "maml-sinusoid", "--results", str(tmp_path)]) == 0
    assert "verdict: held" in capsys.readouterr().out
    assert len(measured) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["maml-sinusoid.laptop.json"]
    found = evidence.read("maml-sinusoid", "laptop", tmp_path)
    assert found["arms"]["ours"]["mean"] == pytest.approx(1.02)
    assert found["expected"][0]["margin"]["low"] == pytest.approx(1.01, abs=0.01)
    assert {"statement", "reported", "not_answered", "command", "versions", "machine", "commit", "date"} <= found.keys()


def test_an_interrupted_measurement_keeps_its_repeats(measured, tmp_path):
    measured.stops = (3,)
    with pytest.raises(Stopped):
        list(evidence.measure_claim("maml-sinusoid", "laptop", tmp_path, "test"))
    assert evidence.read("maml-sinusoid", "laptop", tmp_path) is None
    # A kill may leave a part of a line.
    (partial,) = tmp_path.iterdir()
    partial.write_text(partial.read_text() + '{"seed": 3, "val')
    measured.stops = ()
    list(evidence.measure_claim("maml-sinusoid", "laptop", tmp_path, "test"))
    assert measured == [0, 1, 2, 3, 4]
    assert [repeat["seed"] for repeat in evidence.read("maml-sinusoid", "laptop", tmp_path)["repeats"]] == [0, 1, 2, 3, 4]


def test_repeats_of_changed_code_are_not_mixed(measured, tmp_path, monkeypatch):
    measured.stops = (2,)
    with pytest.raises(Stopped):
        list(evidence.measure_claim("maml-sinusoid", "laptop", tmp_path, "test"))
    measured.stops = ()
    monkeypatch.setattr(catalog, "source_text", lambda module: "other code")
    list(evidence.measure_claim("maml-sinusoid", "laptop", tmp_path, "test"))
    assert measured == [0, 1, 0, 1, 2, 3, 4]


def test_failed_and_undecided_claims_are_exit_code_1(measured, tmp_path, capsys):
    measured.gap = -1.0
    assert main(["claim", "maml-sinusoid", "--results", str(tmp_path)]) == 1
    assert "verdict: failed" in capsys.readouterr().out
    assert main(["claim", "maml-sinusoid", "--results", str(tmp_path), "--scale", "smoke"]) == 1
    assert "verdict: undecided" in capsys.readouterr().out, "one repeat decides nothing"
    measured.gap = 1.0
    assert main(["claim", "maml-sinusoid", "--results", str(tmp_path), "--rerun"]) == 0


def test_the_interrupted_command_says_so(measured, tmp_path, capsys, monkeypatch):
    def interrupt(name, scale, results, command):
        yield 1, 5, {"values": {"ours": 1.0}, "seconds": 0.1}
        raise KeyboardInterrupt

    monkeypatch.setattr(evidence, "measure_claim", interrupt)
    assert main(["claim", "maml-sinusoid", "--results", str(tmp_path)]) == 130
    assert "keeps the finished repeats" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"claim": "fomaml", "scale": "laptop", "verdict": "held"}'])
def test_damaged_evidence_is_named(tmp_path, text, capsys):
    (tmp_path / "maml-sinusoid.laptop.json").write_text(text)
    assert main(["claim", "maml-sinusoid", "--results", str(tmp_path)]) == 2
    assert "maml-sinusoid.laptop.json is damaged" in capsys.readouterr().err


def test_the_table_shows_every_claim_with_its_verdict(measured, tmp_path):
    list(evidence.measure_claim("maml-sinusoid", "laptop", tmp_path, "test"))
    text = claims_table.updated(f"# Title\n{claims_table.BEGIN}\nold\n{claims_table.END}\nafter\n", tmp_path)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(catalog.CLAIMS)
    assert "old" not in text
    assert text.endswith("\nafter\n")
    assert "**held**" in rows[0]
    assert "ours \\| beats" in rows[0]
    assert "not measured yet" in rows[1]
    assert claims_table.updated(text, tmp_path) == text
    with pytest.raises(ValueError, match="markers"):
        claims_table.updated("# Title")


def stored() -> list[Path]:
    return sorted(evidence.results_folder().glob("*.json"))


@pytest.mark.parametrize("path", stored(), ids=lambda path: path.name)
def test_stored_verdicts_follow_from_their_repeats(path):
    found = json.loads(path.read_text())
    claim = evidence.claim_of(found["claim"])
    assert found["verdict"] == verdict(claim, [repeat["values"] for repeat in found["repeats"]])
    assert [item["expectation"] for item in found["expected"]] == [str(expectation) for expectation in claim.expected]
    assert len(found["repeats"]) == claim.repeats[found["scale"]]
    assert found["statement"] == claim.statement


def test_the_readme_shows_the_stored_evidence():
    root = measure.checkout()
    if root is None:
        pytest.skip("an installed package has no README beside it")
    text = (root / "README.md").read_text()
    assert claims_table.updated(text) == text, "run: make readme"
