"""The command line: what it prints, its exit codes, and that no argument makes it show a traceback."""

import contextlib
import dataclasses
import io
import json
import re
from types import SimpleNamespace
from typing import Literal

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy import catalog, store
from quickstudy.cli import COMMANDS, main
from quickstudy.cli.flags import Parser, add_config_flags, given_config
from quickstudy.cli.show_progress import show_progress
from quickstudy.persist import save_tree


@pytest.fixture(autouse=True)
def no_compile_cache(monkeypatch):
    """The tests leave the user's compile cache alone."""
    for module in ("training", "watching", "claiming", "others", "doctor"):
        monkeypatch.setattr(f"quickstudy.cli.{module}.use_compile_cache", lambda: None)


@dataclasses.dataclass(frozen=True)
class Config:
    flag: bool = True
    size: int = 3
    rate: float = 0.1
    name: str = "a"
    kind: Literal["mlp", "conv4"] = "mlp"
    widths: tuple[int, ...] = (1, 2)
    span: tuple[float, float] = (0.0, 1.0)
    limit: int | None = None


def parse(*arguments):
    parser = Parser("test", "")
    add_config_flags(parser, Config, {})
    return Config(**given_config(parser.read(arguments), Config))


def test_flags_of_every_type_of_field():
    assert parse("--no-flag", "--size", "5", "--rate", "1e-3", "--name", "x") == Config(flag=False, size=5, rate=0.001, name="x")
    assert parse("--kind", "conv4", "--widths", "4", "5", "6") == Config(kind="conv4", widths=(4, 5, 6))
    assert parse("--span", "-1", "2.5", "--limit", "7") == Config(span=(-1.0, 2.5), limit=7)
    assert parse() == Config()
    assert parse("--limit", "none") == Config(limit=None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--siez", "3"], "did you mean --size?"),
        (["--size", "3.5"], "--size"),
        (["--rate", "nan"], "finite"),
        (["--kind", "cnn"], "'mlp', 'conv4'"),
        (["--span", "1"], "2 arguments"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_flag_is_one_sentence(arguments, said):
    with pytest.raises(ValueError, match=said) as found:
        parse(*arguments)
    assert "\n" not in str(found.value)


def refused(capsys, *arguments):
    """Run a command that is refused and return its one sentence."""
    assert main([str(argument) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("quickstudy: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {command} " in printed for command in COMMANDS)
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        assert f"usage: quickstudy {command}" in capsys.readouterr().out


def test_list_is_complete_and_readable_by_machines(capsys):
    assert main(["list", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert [method["id"] for method in listing["methods"]] == list(catalog.METHODS)
    assert all(method["idea"] for method in listing["methods"])
    assert main(["list", "--family", "incontext"]) == 0
    printed = capsys.readouterr().out
    assert "incontext-gru" in printed
    assert "maml" not in printed


@pytest.mark.parametrize("method", catalog.METHODS)
def test_show_tells_defaults_with_sources(method, capsys):
    assert main(["show", method]) == 0
    printed = capsys.readouterr().out
    for field in catalog.defaults(catalog.METHODS[method]):
        assert f"{field.name} = {field.default}" in printed
        assert field.source in printed


def test_show_names_claims_in_files_of_their_own(capsys):
    assert main(["show", "generalist"]) == 0
    verdicts = "held|failed|undecided|not measured"
    assert re.search(rf"^  gato-mini: ({verdicts}).*, measured with this method$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian", "maml"], "did you mean 'train'?"),
        (["show", "mamle"], "did you mean 'maml'?"),
        (["show", "gato-mini"], "is a claim, not a method: quickstudy claim gato-mini"),
        (["list", "--family", "few-shot"], "did you mean 'fewshot'?"),
        (["train"], "train needs the id of a method"),
        (["train", "maml", "--inner-step", "3"], "did you mean --inner-steps?"),
        (["train", "maml", "--preset", "sinusoidal"], "did you mean 'sinusoid'?"),
        (["train", "maml", "--steps", "0"], "--steps"),
        (["train", "maml", "--seed", "1", "--seeds", "2"], "not allowed with"),
        (["train", "maml", "--seed", "-1"], "--seed"),
        (["train", "maml", "--distributed"], "--distributed needs --out"),
        (["claim", "maml-sine"], "did you mean"),
        (["claim", "maml-sinusoid", "--scale", "huge"], "--scale"),
        (["data", "fetch", "omniglt"], "did you mean 'omniglot'?"),
        (["data", "fetch"], "fetch needs the name"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(arguments, said, capsys):
    assert said in refused(capsys, *arguments)


def test_folders_that_cannot_be_used(capsys, tmp_path):
    assert "is not a folder" in refused(capsys, "eval", tmp_path / "nothing")
    assert "config.json is missing" in refused(capsys, "eval", tmp_path)
    assert "config.json is missing" in refused(capsys, "train", "--resume", tmp_path)
    assert "nothing" in refused(capsys, "demo", "--images", tmp_path / "nothing", "--out", tmp_path / "demo")
    (tmp_path / "file").write_text("mine")
    assert "file" in refused(capsys, "train", "maml", "--preset", "smoke", "--out", tmp_path / "file")
    assert "file" in refused(capsys, "train", "maml", "--preset", "smoke", "--out", tmp_path / "file" / "below")
    assert "not empty" in refused(capsys, "train", "maml", "--preset", "smoke", "--out", tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_setting_that_does_not_fit_leaves_no_folder(capsys, tmp_path):
    said = refused(capsys, "train", "maml", "--preset", "smoke", "--network", "conv4", "--out", tmp_path / "run")
    assert "square images" in said
    assert not (tmp_path / "run").exists()


def test_weights_to_start_from_that_do_not_fit_leave_no_folder(capsys, tmp_path):
    (tmp_path / "text").write_text("no weights")
    save_tree(tmp_path / "others", {"a": np.zeros(3)}, {})
    for name, words in (("nowhere", "is missing"), ("text", "is damaged"), ("others", "belongs to another model")):
        said = refused(capsys, "train", "maml", "--preset", "smoke", "--start-from", tmp_path / name, "--out", tmp_path / "run")
        assert words in said
        assert not (tmp_path / "run").exists()


def test_train_eval_and_report_on_one_run(capsys, tmp_path):
    run = tmp_path / "run"
    assert main(["train", "maml", "--preset", "smoke", "--steps", "4", "--width", "8", "--seeds", "2", "--out", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "4/4" in printed
    assert "score" in printed
    assert "quickstudy eval" in printed
    assert main(["eval", str(run / "seed-1"), "--n-tasks", "20", "--json"]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    assert len(evaluation["curve"]["mean"]) == 3
    assert "not empty" in refused(capsys, "train", "maml", "--preset", "smoke", "--seeds", "3", "--out", run)
    assert not (run / "seed-2").exists()
    assert "untrained" in evaluation["references"]
    assert main(["eval", str(run / "seed-0"), "--n-tasks", "20"]) == 0
    assert main(["train", "--resume", str(run)]) == 0, "nothing is left to do"
    capsys.readouterr()
    assert "leave out --width" in refused(capsys, "train", "maml", "--resume", run / "seed-0", "--width", "9")
    assert "holds a run of maml" in refused(capsys, "train", "reptile", "--resume", run / "seed-0")
    assert main(["report", str(run / "seed-0"), str(run / "seed-1"), "-o", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "Finn et al. 2017" in page
    assert "seed-1" in page
    assert "quickstudy train maml --preset smoke" in page


def test_a_loss_that_explodes_is_exit_code_1_and_names_metric_and_step(capsys, tmp_path):
    explode = ["--inner-learning-rate", "1e30", "--steps", "10", "--width", "8"]
    assert main(["train", "maml", "--preset", "smoke", *explode, "--out", str(tmp_path / "run")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "loss" in err
    assert "step" in err


def test_piped_progress_is_plain_lines(capsys):
    with show_progress("work", total=100) as report:
        for done in range(1, 101):
            report(done, {"loss": 1.0, "score": 2.0})
    lines = capsys.readouterr().out.splitlines()
    assert 9 <= len(lines) <= 11
    assert lines[-1].startswith("work  100/100  score 2  loss 1")
    assert "\x1b" not in "".join(lines)


def test_the_printed_steps_per_second_agree_with_the_clock(capsys, tmp_path, monkeypatch):
    clock, read, resume = SimpleNamespace(seconds=0.0), [], store.resume

    def timed(folder):
        """Compiling takes a minute, the other chunks hundredths of a second; the steps are counted by the lives themselves."""
        for chunk, progress in enumerate(resume(folder)):
            assert all(isinstance(values, np.ndarray) for values in progress.metrics.values())  # the device is done
            clock.seconds += 0.02 + 0.001 * chunk if chunk else 60.0
            read.append((clock.seconds, int(jnp.sum(progress.state.window.lives.tick))))
            yield progress

    monkeypatch.setattr(store, "resume", timed)
    monkeypatch.setattr("quickstudy.cli.show_progress.time", SimpleNamespace(perf_counter=lambda: clock.seconds))
    assert main(["train", "ppo", "--preset", "smoke", "--steps", "6", "--out", str(tmp_path / "run")]) == 0
    printed = re.findall(r" (\d+)/6 .* ([\d,]+) environment steps/s", capsys.readouterr().out)
    assert [int(step) for step, _ in printed] == [2, 3, 4, 5, 6]
    for step, per_second in printed:
        (began, before), (now, after) = read[0], read[int(step) - 1]
        assert float(per_second.replace(",", "")) == pytest.approx((after - before) / (now - began), rel=0.05)


_FLAGS = ["--preset", "--steps", "--seed", "--seeds", "--out", "--resume", "--inner-steps", "--network", "--n-tasks", "--json"]
_JUNK = ["-", "--", "--x", "=", "0", "-1", "nan", "1e999", "nothing/here", "\x00", "--seed=x"]
_WORDS = st.one_of(st.text(max_size=12), st.sampled_from([*_FLAGS, *_JUNK]))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["train", "eval", ""]), st.sampled_from(["maml", "mamel", "nothing/here", ""]), st.lists(_WORDS, max_size=5))
def test_no_arguments_make_a_traceback(command, first, junk):
    out, err = io.StringIO(), io.StringIO()
    # A flag that does not exist, last: whatever comes before, nothing may start to train.
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([word for word in (command, first) if word] + junk + ["--no-such-flag"])
    said = err.getvalue()
    if any(word.startswith("-h") or word == "--help" for word in junk):
        assert code in (0, 2)
    else:
        assert code == 2
        assert said.startswith("quickstudy: ")
        assert said.count("\n") == 1


def test_a_folder_of_omniglot_can_be_given_as_a_flag(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QUICKSTUDY_OMNIGLOT", "")
    code = main(["train", "protonet", "--preset", "omniglot", "--omniglot", str(tmp_path / "nothing"), "--out", str(tmp_path / "run")])
    assert code == 2
    assert str(tmp_path / "nothing") in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_watch_plays_a_life_and_writes_it(tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", "rl2", "--preset", "smoke", "--tasks", "restless-bandit", "--out", str(folder)]) == 0
    assert main(["watch", str(folder), "--ticks", "3", "--per-second", "100"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("tick ") == 3
    assert "in 3 ticks, 3 episodes, a task of the test split" in printed
    assert (folder / "life.gif").read_bytes().startswith(b"GIF8")
    assert main(["report", str(folder), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "The first episode: reward" in page
    assert "The last episode: reward" in page


def test_any_method_trains_in_named_tasks_and_the_run_remembers_them(tmp_path, capsys):
    folder = tmp_path / "run"
    named = [
        "--tasks",
        "cartpole",
        "--vary",
        "half_length,force",
        "--lives",
        "2",
        "--ticks",
        "8",
        "--width",
        "4",
        "--minibatches",
        "1",
    ]
    assert main(["train", "rl2", "--steps", "1", *named, "--out", str(folder)]) == 0
    assert main(["watch", str(folder), "--ticks", "2", "--per-second", "100"]) == 0
    assert "#####" in capsys.readouterr().out, "the cart"
    assert json.loads((folder / "config.json").read_text())["vary"] == ["half_length", "force"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--tasks", "cartpool"), "did you mean 'cartpole'"),
        (("--tasks", "cartpole", "--vary", "length"), "vary must be names among gravity"),
        (("--tasks", "dark-room", "--vary", "size"), "vary must be left out for dark-room"),
        (("--vary", "length"), "--vary needs --tasks"),
        (("--tasks", "gymnasium:CartPool-v1"), "CartPool-v1"),
        (("--tasks", "sinusoid"), "tasks must be of the control kind"),
    ],
)
def test_tasks_that_cannot_be_had_are_refused_in_one_sentence(flags, words, tmp_path, capsys):
    assert words in refused(capsys, "train", "rl2", *flags, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
