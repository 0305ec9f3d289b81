"""The catalogue: everything it names exists, and reading it costs nothing."""

import dataclasses
import importlib
import subprocess
import sys

import pytest

from quickstudy import catalog
from quickstudy.cli.flags import given_config
from quickstudy.cli.training import _train_parser


def test_help_and_listing_never_import_jax():
    script = (
        "import sys, quickstudy; from quickstudy.cli import main\n"
        "codes = [main([]), main(['--help']), main(['list']), main(['show', 'maml'])]\n"
        "heavy = {'jax', 'numpy', 'rich', 'equinox'} & set(sys.modules)\n"
        "assert codes == [0] * 4 and not heavy, (codes, heavy)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("method", catalog.METHODS)
def test_a_method_says_what_it_is_and_can_be_built(method):
    name = catalog.METHODS[method]
    card = catalog.card(name)
    assert card.idea
    assert card.slow
    assert card.fast
    assert card.outer_step
    assert card.equation
    assert card.source
    assert catalog.family(name) in catalog.FAMILIES
    module = importlib.import_module(name)
    assert catalog.presets(name) == {preset: found.expected for preset, found in module.PRESETS.items()}
    read, fields = catalog.defaults(name), dataclasses.fields(module.Config)
    assert [field.name for field in read] == [field.name for field in fields]
    assert all(field.source for field in read), "every default names its source"
    assert all(isinstance(preset.config, module.Config) for preset in module.PRESETS.values())


@pytest.mark.parametrize("method", catalog.METHODS)
def test_every_setting_of_a_method_has_a_flag_of_its_own(method):
    module = importlib.import_module(catalog.METHODS[method])
    assert given_config(_train_parser(method).read([method]), module.Config) == {}, "absent unless given"


@pytest.mark.parametrize("task", catalog.TASKS)
def test_a_task_exists(task):
    module, _, name = catalog.TASKS[task].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert catalog.one_line(module)


@pytest.mark.parametrize("claim", catalog.CLAIMS)
def test_a_claim_is_in_its_module(claim):
    module = importlib.import_module(catalog.CLAIMS[claim])
    assert [found.id for found in module.CLAIMS].count(claim) == 1


def test_every_method_in_the_sources_is_listed():
    root = catalog.Path(catalog.__file__).parent / "algorithms"
    files = {
        f"quickstudy.algorithms.{path.parent.name}.{path.stem}" for path in root.glob("*/*.py") if "\ndef program(" in path.read_text()
    }
    assert files <= set(catalog.METHODS.values())


@pytest.mark.parametrize(("given", "near"), [("mamle", "maml"), ("meta_sgd", "meta-sgd"), ("proto-net", "protonet")])
def test_the_nearest_id_is_offered(given, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        catalog.require(given, catalog.METHODS, "method")
