"""The conformance grid: every method, every task distribution and every claim of the catalogue goes through the public kit."""

import importlib

import jax
import numpy as np
import pytest

from quickstudy import catalog
from quickstudy.check import check_distribution, check_learner, check_program, check_task
from quickstudy.outer import NonFiniteError, Progress, run

METHODS = sorted(catalog.METHODS)
KEY = jax.random.key(0)


@pytest.mark.parametrize("method", METHODS)
def test_learner_conforms(method):
    module = importlib.import_module(catalog.METHODS[method])
    preset = module.PRESETS["smoke"]
    tasks = preset.tasks()
    learner = module.learner(preset.config, tasks, KEY)
    check_learner(learner, tasks, KEY, steps=preset.ticks)
    check_task(tasks.sample(KEY, "train"), learner, KEY, steps=preset.ticks)


@pytest.mark.parametrize("method", METHODS)
def test_program_resumes_bit_for_bit(method):
    module = importlib.import_module(catalog.METHODS[method])
    preset = module.PRESETS["smoke"]
    check_program(module.program(preset.config, preset.tasks()))
