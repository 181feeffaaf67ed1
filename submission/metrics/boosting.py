"""scikit-learn's gradient boosting with its trees grown from features that are sorted once."""

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.tree import DecisionTreeRegressor
from sklearn.tree._tree import NODE_DTYPE, Tree

from submission.metrics.trees import NEARLY_EQUAL, grow_trees

Array = NDArray[Any]
_SEEDS = 2**31 - 1  # scikit-learn's RAND_R_MAX


class SortedGradientBoosting(GradientBoostingClassifier):
    """GradientBoostingClassifier with other code for the growing of its trees.

    Checks, loss, predictions and importances are scikit-learn's own. For the same random state the
    trees are the same to the last bit, unless rows that agree in one feature differ in others:
    see `trees`. Understood are n_estimators, learning_rate, max_depth and random_state; the other
    parameters must stay at their defaults, which the library's DCI uses.

    Attributes to set before `fit`:
        pool: where the classes' trees of a stage are grown side by side; None: in this thread.
        share: how many of a stage's trees one call of the pool grows.
        grown: called after each stage with the number of its trees. What it raises ends the fit.
    """

    pool: Executor | None = None
    share: int = 1
    grown: Callable[[int], object] | None = None

    def _fit_stages(
        self,
        X: Array,
        y: Array,
        raw_predictions: Array,
        sample_weight: Array,
        random_state: np.random.RandomState,
        *others: object,
    ) -> int:
        """What `fit` calls once all is checked; X is float32 (n, C), y the class numbers (n,)."""
        data = sorted_features(X)
        num_classes = self.n_trees_per_iteration_  # 1 for two classes
        is_class = (y == np.arange(num_classes)[:, None] + (num_classes == 1)).astype(np.uint8)
        factor = 1.0 if num_classes == 1 else (num_classes - 1) / num_classes
        settings = (self.max_depth, float(self.learning_rate), factor)
        raw = np.asfortranarray(raw_predictions)
        for stage in range(self.n_estimators):
            gradient = -self._loss.gradient(y_true=y, raw_prediction=raw)
            targets = gradient.reshape(len(y), num_classes).T
            # One by one, as scikit-learn draws them.
            drawn = [random_state.randint(0, _SEEDS) for _ in range(num_classes)]
            nodes = np.zeros((num_classes, 2 ** (self.max_depth + 1) - 1), NODE_DTYPE)
            counts, values = np.zeros(num_classes, np.int64), np.zeros(nodes.shape)
            by_class = (targets, is_class, np.array(drawn, np.uint32))
            self._grow(data, by_class, settings, (raw.T, nodes, counts, values))
            for k in range(num_classes):
                tree = _tree(X.shape[1], self.max_depth, nodes[k, : counts[k]], values[k])
                self.estimators_[stage, k] = tree
            if self.grown is not None:
                self.grown(num_classes)
        return int(self.n_estimators)

    def _grow(
        self,
        data: tuple[Array, ...],
        by_class: tuple[Array, ...],
        settings: tuple[int, float, float],
        results: tuple[Array, ...],
    ) -> None:
        """`grow_trees` on all classes of a stage, in shares."""
        if self.pool is None:
            grow_trees(data, *by_class, settings, *results)
            return
        calls = []
        for start in range(0, len(by_class[0]), self.share):
            own = slice(start, start + self.share)
            of, to = [a[own] for a in by_class], [a[own] for a in results]
            calls.append(self.pool.submit(grow_trees, data, *of, settings, *to))
        for call in calls:
            call.result()


def sorted_features(x: Array) -> tuple[Array, Array, Array]:
    """What `grow_trees` reads of float32 (n, C): the columns (C, n); uint32 (C, n), each one's rows
    in ascending order; int64 (C,), the most rows in a row whose values are nearly equal."""
    columns = np.ascontiguousarray(x.T)
    order = np.argsort(columns, axis=1, kind="stable")
    ascending = np.take_along_axis(columns, order, axis=1)
    longest = np.empty(len(columns), np.int64)
    for f, values in enumerate(ascending):
        begins = np.flatnonzero(values[1:] > values[:-1] + NEARLY_EQUAL) + 1
        longest[f] = np.diff(begins, prepend=0, append=len(values)).max()
    return columns, order.astype(np.uint32), longest


def _tree(num_features: int, max_depth: int, nodes: Array, values: Array) -> DecisionTreeRegressor:
    """scikit-learn's tree of these nodes; inner nodes have the value 0, which nobody reads."""
    tree = Tree(num_features, np.array([1]), 1)
    state = {"max_depth": max_depth, "node_count": len(nodes), "nodes": nodes.copy()}
    tree.__setstate__(state | {"values": values[: len(nodes)].reshape(-1, 1, 1).copy()})
    regressor = DecisionTreeRegressor(max_depth=max_depth)
    regressor.tree_, regressor.n_features_in_, regressor.n_outputs_ = tree, num_features, 1
    return regressor
