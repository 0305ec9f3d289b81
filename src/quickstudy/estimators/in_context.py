"""What the estimators over a prior-fitted network share: `fit` stores the context, `predict` is a forward pass, nothing is trained.

Both average `members` forward passes over different looks at the same table. Each member gives every target a symbol, and the network
predicts the symbols of new rows: a classifier's are a random renumbering of the classes, a regressor's say in which bin a target lies.

Source: Hollmann et al. 2023, "TabPFN: A Transformer That Solves Small Tabular Classification Problems in a Second", section 5 (the
ensemble).
"""

import abc
import functools
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from quickstudy.algorithms.incontext import pfn_tabular
from quickstudy.estimators import tables
from quickstudy.estimators.tables import Table
from quickstudy.persist import load_tree, read_arrays, read_bytes, save_tree
from quickstudy.shipped import weights_of
from quickstudy.tasks.episode import EpisodeView
from quickstudy.tasks.tabular_worlds import UNKNOWN, TabularWorlds

MOST_ROWS, MOST_COLUMNS = 2_000, 100  # what the network is for: ours
BLOCKS = (1, 4, 16, 64)  # queries that one call answers: as many as the memory allows; larger blocks are hardly faster
WEIGHTS = weights_of("pfn-tabular")

Symbols = Int[np.ndarray, " rows"]
Estimator = TypeVar("Estimator", bound="AbstractInContext")


# --- The network --------------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def network(path: Path) -> pfn_tabular.TabularPFN:
    """The trained network in a file of weights.

    Raises `OSError` if it is missing or damaged, `ValueError` if it is another model's.
    """
    template = eqx.filter_eval_shape(pfn_tabular.learner, pfn_tabular.Config(), TabularWorlds(), jr.key(0))
    return load_tree(path, template)[0]


@eqx.filter_jit
def _remember(net: pfn_tabular.TabularPFN, x: Array, y: Array) -> pfn_tabular.Context:
    return net.begin(EpisodeView(x, y, x[:1], outputs=net.out.shape[1]), jr.key(0))


@eqx.filter_jit
def _answer(net: pfn_tabular.TabularPFN, context: pfn_tabular.Context, x: Array) -> Float[Array, "queries slots"]:
    return net.respond(context, EpisodeView(x[:1], jnp.zeros(1, int), x, outputs=net.out.shape[1]), jr.key(0))


def queries_at_once(net: pfn_tabular.TabularPFN, rows: int, columns: int, megabytes: float) -> int:
    """How many queries fit into the memory. Raises `ValueError` if not even one does."""
    width, size = net.embedding.shape[1], net.out.shape[0]
    # Of a query: its cells in and after a few products, its scores and weights in attention, its features.
    numbers = columns * (10 * width + 2 * len(net.embedding)) + 4 * rows * net.rows.architecture.heads + 40 * size
    fitting = [block for block in BLOCKS if 4 * numbers * block <= megabytes * 1e6]
    if not fitting:
        raise ValueError(f"memory_limit must be at least {4 * numbers / 1e6:.1f} megabytes for this table, not {megabytes}")
    return fitting[-1]


# --- What both estimators share -----------------------------------------------------------------------------------------------------


class AbstractInContext(BaseEstimator):
    """Stores a table as the context of a network, once for each member, and asks for the symbols of new rows."""

    def __init__(
        self,
        *,
        members: Any = 4,  # ours, not tuned
        categorical: Any = None,
        memory_limit: Any = 500.0,  # ours
        random_state: Any = None,
        weights: Any = None,
    ):
        self.members = members
        self.categorical = categorical
        self.memory_limit = memory_limit
        self.random_state = random_state
        self.weights = weights

    @abc.abstractmethod
    def _understand(self, y: np.ndarray) -> np.ndarray:
        """What is kept of checked targets; settles which targets there are."""

    @abc.abstractmethod
    def _symbols(self, targets: np.ndarray, random: np.random.Generator) -> list[Symbols]:
        """For each member the symbol of every target."""

    @abc.abstractmethod
    def _keep(self, targets: np.ndarray, random: np.random.Generator) -> Int[np.ndarray, " rows"]:
        """All rows in random order; the first `MOST_ROWS` are kept."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self: Estimator, X: Any, y: Any) -> Estimator:
        """Store the rows X (rows, columns) and their targets y (rows,) as the context."""
        for name, least in (("members", 1), ("memory_limit", 0)):
            value = getattr(self, name)
            if not isinstance(value, int | float | np.number) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a number of at least {least}, not {value!r}")
        self._categorical = tables.categorical_columns(X, self.categorical)
        numeric = {"y_numeric": True} if isinstance(self, RegressorMixin) else {}
        numbers, values, y = tables.read(self, X, self._categorical, y=y, ensure_min_samples=2, **numeric)
        if numbers.shape[1] > MOST_COLUMNS:
            raise ValueError(f"X must have at most {MOST_COLUMNS} features, not {numbers.shape[1]}: select some first")
        targets = self._understand(y)
        self._encoder = tables.learn_codes(values) if self._categorical else None
        table = self._encoded(numbers, values)
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        if len(table) > MOST_ROWS:
            warnings.warn(f"X has {len(table)} rows: a random {MOST_ROWS} of them are kept as context", UserWarning, stacklevel=2)
            kept = np.sort(self._keep(targets, np.random.default_rng(self._seed))[:MOST_ROWS])
            table, targets = table[kept], targets[kept]
        return self._remember(table, targets)

    def _encoded(self, numbers: Table, values: np.ndarray) -> Table:
        if self._encoder is None:
            return numbers
        encoded = numbers.copy()
        encoded[:, self._categorical] = self._encoder.transform(values)
        return encoded

    def _remember(self: Estimator, table: Table, targets: np.ndarray) -> Estimator:
        """Keep what the network makes of the table, for each member with its own look and symbols."""
        net, random = self._network(), np.random.default_rng(self._seed)
        rows, self._columns = tables.smallest(tables.ROWS, len(table)), tables.smallest(tables.COLUMNS, table.shape[1])
        self._block = queries_at_once(net, rows, self._columns, self.memory_limit)
        self._table, self._targets, self._contexts, self._looks = table, targets, [], []
        for member, symbols in enumerate(self._symbols(targets, random)):
            look = tables.draw_look(member, table, self._categorical, random)
            y = np.full(rows, UNKNOWN, np.int32)
            y[: len(table)] = symbols
            context = _remember(net, jnp.asarray(tables.padded(look(table), rows, self._columns)), jnp.asarray(y))
            self._looks.append(look)
            self._contexts.append(jax.tree.map(np.asarray, context))
        return self

    def _logits(self, X: Any) -> Iterator[Float[np.ndarray, "rows slots"]]:
        """Each member's logits of the symbols of new rows; of a symbol that no target has, practically minus infinity."""
        x = self._encoded(*tables.read(self, X, self._categorical, reset=False)[:2])
        net = self._network()
        for look, context in zip(self._looks, self._contexts, strict=True):
            seen, found = look(x), []
            for start in range(0, len(x), self._block):
                part = seen[start : start + self._block]
                # Always of one size: another size rounds otherwise, and a row's answer would depend on the rows beside it.
                block = jnp.asarray(tables.padded(part, self._block, self._columns))
                found.append(np.asarray(_answer(net, context, block), np.float64)[: len(part)])
            yield np.concatenate(found)

    # --- Weights ---

    def _network(self) -> pfn_tabular.TabularPFN:
        return self.weights if isinstance(self.weights, pfn_tabular.TabularPFN) else network(self._weights_file())

    def _slots(self) -> int:
        return self._network().out.shape[1]

    def _weights_file(self) -> Path:
        return WEIGHTS if self.weights is None else Path(self.weights)

    # --- On disk ---

    def save(self, path: str | Path) -> None:
        """Write a fitted estimator as safetensors: its settings and the context, not the network.

        Raises `TypeError` if the weights are not in a file or a class or a category is no number, text or truth value.
        """
        check_is_fitted(self)
        if isinstance(self.weights, pfn_tabular.TabularPFN):
            raise TypeError("weights must be a file, or None, for the estimator to be saved")
        settings = self.get_params() | {"weights": None if self.weights is None else str(self.weights)}
        if not isinstance(self.random_state, int | None):
            settings["random_state"] = None
        facts = {
            "estimator": type(self).__name__,
            "settings": settings,
            "weights": hashlib.sha256(read_bytes(self._weights_file())).hexdigest(),
            "seed": self._seed,
            "features": self.n_features_in_,
            "names": getattr(self, "feature_names_in_", np.array([])).tolist(),
            "categorical": self._categorical,
            "categories": [_plain(one) for one in self._encoder.categories_] if self._encoder else [],
            "classes": _plain(self.classes_) if hasattr(self, "classes_") else None,
        }
        save_tree(Path(path), {"table": self._table, "targets": self._targets}, facts)

    @classmethod
    def load(cls: type[Estimator], path: str | Path) -> Estimator:
        """The estimator in a file that `save` wrote.

        Raises `OSError` if the file is missing or damaged, `ValueError` if it holds another estimator or was saved with other weights.
        """
        arrays, facts = read_arrays(Path(path))
        if facts.get("estimator") != cls.__name__:
            raise ValueError(f"{path} holds {facts.get('estimator', 'something else')}, not {cls.__name__}")
        new = cls(**facts["settings"])
        if hashlib.sha256(read_bytes(new._weights_file())).hexdigest() != facts["weights"]:
            raise ValueError(f"{path} was saved with other weights than those of {new._weights_file()}")
        new._seed, new._categorical, new.n_features_in_ = facts["seed"], facts["categorical"], facts["features"]
        if facts["names"]:
            new.feature_names_in_ = np.array(facts["names"], object)
        if facts["classes"] is not None:
            new.classes_ = np.array(facts["classes"][1], facts["classes"][0])
        categories = [np.array(values, dtype) for dtype, values in facts["categories"]]
        new._encoder = tables.learn_codes(np.empty(0), categories) if categories else None
        return new._remember(arrays["['table']"], arrays["['targets']"])


def _plain(values: np.ndarray) -> tuple[str, list]:
    """An array as JSON can hold it: its type and its values."""
    listed = values.tolist()
    strange = [value for value in listed if not isinstance(value, str | int | float)]
    if strange:
        raise TypeError(f"{strange[0]!r} cannot be saved: classes and categories must be numbers, text or truth values")
    return str(values.dtype) if values.dtype != object else "object", listed
