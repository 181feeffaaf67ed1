"""Regression trees split for split as scikit-learn's, from features that are sorted once.

scikit-learn 1.9 sorts every feature again in every node of every tree. Here each feature is sorted
once; a split divides the sorted rows of each feature in two and keeps their order, so that a level
of a tree costs two passes over the data. What decides between splits of equal gain is kept as in
scikit-learn (tree/_splitter.pyx, _partitioner.pyx, _criterion.pyx, _tree.pyx): the features' random
order in each node, the sums' order of summation in float64, thresholds and tolerances. The one
exception is the order of rows that agree in a feature: there scikit-learn's depends on the sorts
before, here it is the rows' own. Sums over such rows can differ in their last bit.

Compiled by numba: about 8 seconds of processor time once, then read from numba's cache.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

EPSILON = np.finfo(np.float64).eps  # impurities up to here count as zero
NEARLY_EQUAL = np.float32(1e-7)  # no threshold lies between values so near to each other
NO_FEATURE = -2


@njit(error_model="numpy")
def _draw(state, high):
    """The next number of the 32 bit xorshift generator of scikit-learn's trees, modulo `high`."""
    mask = np.uint64(0xFFFFFFFF)
    x = np.uint64(max(state[0], 1))
    x = (x ^ (x << np.uint64(13))) & mask
    x = x ^ (x >> np.uint64(17))
    x = (x ^ (x << np.uint64(5))) & mask
    state[0] = x
    return np.int64(x & np.uint64(0x7FFFFFFF)) % high


@njit(error_model="numpy")
def _best_cut(column, rows, longest, target, total, best, gains):
    """The first cut of a node's `rows`, sorted by `column`, that gains more than `best`.

    The gain is L^2 / n_L + R^2 / n_R for the sums L, R of the target on both sides. `longest` is
    the most rows in a row whose values are nearly equal. Near the end, where fewer rows than that
    are left, scikit-learn may compute L backwards from the total.

    Returns:
        the gain and the number of rows to the left; `best` and 0 if no cut gains more.
    """
    n = len(rows)
    cut = 0
    stop = max(0, n - longest)
    while stop > 0 and column[rows[stop]] <= column[rows[stop - 1]] + NEARLY_EQUAL:
        stop -= 1
    # Three loops, of which the compiler vectorises the one that divides.
    left = 0.0
    for p in range(1, stop + 1):
        left += target[rows[p - 1]]
        gains[p] = left
    for p in range(1, stop + 1):
        right = total - gains[p]
        gains[p] = gains[p] * gains[p] / p + right * right / (n - p)
    for p in range(1, stop + 1):
        if gains[p] > best and column[rows[p]] > column[rows[p - 1]] + NEARLY_EQUAL:
            best, cut = gains[p], p
    done = stop
    while True:
        p = done + 1
        while p < n and column[rows[p]] <= column[rows[p - 1]] + NEARLY_EQUAL:
            p += 1
        if p >= n:
            return best, cut
        if p - done <= n - p:
            for j in range(done, p):
                left += target[rows[j]]
        else:
            left = total
            for j in range(n - 1, p - 1, -1):
                left -= target[rows[j]]
        right = total - left
        gain = left * left / p + right * right / (n - p)
        if gain > best:
            best, cut = gain, p
        done = p


@njit(error_model="numpy")
def _find_split(columns, orders, longest, target, total, features, constants, known, state, gains):
    """The best split of a node, the features tried in scikit-learn's random order.

    Args:
        orders: (C, m), the node's rows sorted by each feature that is not known to be constant.
        features, constants: (C,), their states as scikit-learn's splitter keeps them for a tree.
        known: how many features are constant above this node, hence in it.

    Returns:
        the feature (-1: none splits) and the number of rows to its left; the feature that was
        sorted last (-1: none that changes the order); how many are constant in the node.
    """
    best, split, cut, last = -np.inf, -1, 0, -1
    undrawn, found, drawn = len(features), 0, 0
    while undrawn > known + found:
        j = drawn + _draw(state, undrawn - found - drawn)
        if j < known:
            features[drawn], features[j] = features[j], features[drawn]
            drawn += 1
            continue
        j += found
        f = features[j]
        rows = orders[f]
        low, high = columns[f, rows[0]], columns[f, rows[len(rows) - 1]]
        if high > low:
            last = f
        if high <= low + NEARLY_EQUAL:
            features[j], features[known + found] = features[known + found], f
            found += 1
            continue
        undrawn -= 1
        features[undrawn], features[j] = f, features[undrawn]
        gain, at = _best_cut(columns[f], rows, longest[f], target, total, best, gains)
        if at > 0:
            best, split, cut = gain, f, at
    features[:known] = constants[:known]
    constants[known : known + found] = features[known : known + found]
    return split, cut, last, known + found


@njit(error_model="numpy")
def _separate(samples, goes_left):
    """Reorder a node's samples into the left child's and the right one's, as scikit-learn does: the
    children's sums run in this order."""
    i, j = 0, len(samples)
    while i < j:
        if goes_left[samples[i]]:
            i += 1
        else:
            j -= 1
            samples[i], samples[j] = samples[j], samples[i]


@njit(error_model="numpy")
def _divide(rows, goes_left, cut, out):
    """The rows that go left, then the others, both in their order; without a branch."""
    left, right = 0, cut
    for i in rows:
        to = goes_left[i]
        out[left if to else right] = i
        left += to
        right += 1 - to


@njit(error_model="numpy")
def _sums(samples, target):
    """Sum of the target and of its squares."""
    total, squares = 0.0, 0.0
    for i in samples:
        total += target[i]
        squares += target[i] * target[i]
    return total, squares


@njit(error_model="numpy")
def _impurities(samples, cut, target, total, squares):
    """Variances of the target left and right of the cut."""
    n = len(samples)
    left, left_squares = 0.0, 0.0
    for p in range(cut):
        left += target[samples[p]]
        left_squares += target[samples[p]] * target[samples[p]]
    if cut > n - cut:
        left = total
        for p in range(n - 1, cut - 1, -1):
            left -= target[samples[p]]
    mean_left, mean_right = left / cut, (total - left) / (n - cut)
    return (
        left_squares / cut - mean_left * mean_left,
        (squares - left_squares) / (n - cut) - mean_right * mean_right,
    )


@njit(error_model="numpy")
def _split_node(data, target, depth, part, node, known, drawing, work, start):
    """Split a node, its samples `part` reordered.

    Returns:
        how many go left (0: it is a leaf), how many features are constant in it, the children's
        impurities, and the rows sorted by each feature.
    """
    columns, order, longest = data
    features, constants, state = drawing
    levels, goes_left, gains = work
    m = len(part)
    orders = order if depth == 0 else levels[depth - 1, :, start : start + m]
    total, squares = _sums(part, target)
    if depth == 0:
        node.impurity = squares / m - (total / m) * (total / m)
    if node.impurity <= EPSILON:
        return 0, known, 0.0, 0.0, orders
    feature, cut, last, known = _find_split(
        columns, orders, longest, target, total, features, constants, known, state, gains
    )
    if feature < 0:
        return 0, known, 0.0, 0.0, orders
    part[:] = orders[last]
    rows = orders[feature]
    for p in range(m):
        goes_left[rows[p]] = p < cut
    _separate(part, goes_left)
    left, right = _impurities(part, cut, target, total, squares)
    gain = m / len(goes_left) * (node.impurity - (m - cut) / m * right - cut / m * left)
    if gain + EPSILON < 0.0:
        return 0, known, 0.0, 0.0, orders
    node.feature = feature
    node.threshold = columns[feature, rows[cut - 1]] / 2.0 + columns[feature, rows[cut]] / 2.0
    node.missing_go_to_left = cut > m - cut
    return cut, known, left, right, orders


@njit(error_model="numpy")
def _grow(data, target, seed, max_depth, nodes, spans, samples, work):
    """Grow one tree, depth first, left before right.

    Args:
        nodes: scikit-learn's records of a tree's nodes, in which the tree is written.
        spans: each node's first sample and the one after its last, in `samples`, which is written.

    Returns:
        the number of nodes.
    """
    levels, goes_left, _ = work
    num_features, n = data[0].shape
    features = np.arange(num_features)
    constants = np.empty(num_features, np.int64)
    state = np.array([seed], np.uint32)
    for i in range(n):
        samples[i] = i
    # To be done: start, end, depth, parent, is it the left one, constant features, and impurity.
    stack = [(0, n, 0, -1, False, 0, np.inf)]
    count = 0
    while len(stack) > 0:
        start, end, depth, parent, is_left, known, impurity = stack.pop()
        node, m = nodes[count], end - start
        if is_left:
            nodes[parent].left_child = count
        elif parent >= 0:
            nodes[parent].right_child = count
        node.left_child, node.right_child = -1, -1
        node.feature, node.threshold, node.missing_go_to_left = NO_FEATURE, -2.0, 0
        node.impurity, node.n_node_samples, node.weighted_n_node_samples = impurity, m, m
        spans[count, 0], spans[count, 1] = start, end
        if depth < max_depth and m > 1:
            drawing = (features, constants, state)
            cut, known, left, right, orders = _split_node(
                data, target, depth, samples[start:end], node, known, drawing, work, start
            )
            if cut > 0:
                if depth + 1 < max_depth:
                    for j in range(known, num_features):
                        f = features[j]
                        _divide(orders[f], goes_left, cut, levels[depth, f, start:end])
                stack.append((start + cut, end, depth + 1, count, False, known, right))
                stack.append((start, start + cut, depth + 1, count, True, known, left))
        count += 1
    return count


@njit(error_model="numpy")
def _pairwise_sum(a):
    """numpy's sum of float64, in numpy's order of summation."""
    n = len(a)
    if n < 8:
        total = -0.0
        for x in a:
            total += x
        return total
    if n <= 128:
        r0, r1, r2, r3, r4, r5, r6, r7 = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
        whole = n - n % 8
        for i in range(8, whole, 8):
            r0, r1, r2, r3 = r0 + a[i], r1 + a[i + 1], r2 + a[i + 2], r3 + a[i + 3]
            r4, r5, r6, r7 = r4 + a[i + 4], r5 + a[i + 5], r6 + a[i + 6], r7 + a[i + 7]
        total = ((r0 + r1) + (r2 + r3)) + ((r4 + r5) + (r6 + r7))
        for i in range(whole, n):
            total += a[i]
        return total
    half = n // 2
    half -= half % 8
    return _pairwise_sum(a[:half]) + _pairwise_sum(a[half:])


@njit(error_model="numpy")
def _set_leaves(target, is_class, factor, nodes, spans, samples, values, work):
    """Newton's step for each leaf (Friedman 2001, algorithms 5 and 6), as scikit-learn takes it."""
    leaf_of, numerators, weights = work
    begins = spans[:, 0].copy()
    for node in range(len(nodes)):
        if nodes[node].feature == NO_FEATURE:
            for p in range(spans[node, 0], spans[node, 1]):
                leaf_of[samples[p]] = node
    # Each leaf's samples together, in their own order.
    for i in range(len(target)):
        p = begins[leaf_of[i]]
        begins[leaf_of[i]] = p + 1
        probability = is_class[i] - target[i]
        numerators[p] = target[i]
        weights[p] = probability * (1.0 - probability)
    for node in range(len(nodes)):
        start, end = spans[node]
        values[node] = 0.0
        if nodes[node].feature == NO_FEATURE:
            mean = _pairwise_sum(weights[start:end]) / (end - start)
            if abs(mean) >= 1e-150:
                values[node] = _pairwise_sum(numerators[start:end]) / (end - start) * factor / mean


def _grow_trees(data, targets, is_class, seeds, settings, raw, nodes, counts, values):
    """Grow one tree for each of several classes of a boosting stage, and add it to the predictions.

    Args:
        data: columns float32 (C, n); uint32 (C, n), each column's rows in ascending order; int64
            (C,), the most rows in a row with nearly equal values.
        targets: (K, n), negative gradients of the loss. is_class: uint8 (K, n), 1 for a row of
            the class. seeds: uint32 (K,), of the trees' generators.
        settings: the trees' depth, the learning rate, and a factor of the leaves' values.
        raw: (K, n), predictions so far; the trees' are added.
        nodes, counts, values: (K, M), (K,), (K, M), where the trees are written: records of
            scikit-learn's type, the number of nodes, and the leaves' values.
    """
    columns, _, _ = data
    max_depth, learning_rate, factor = settings
    num_features, n = columns.shape
    samples = np.empty(n, np.uint32)
    levels = np.empty((max(max_depth - 1, 1), num_features, n), np.uint32)
    goes_left, leaf_of = np.empty(n, np.uint8), np.empty(n, np.uint32)
    gains, numerators, weights = np.empty(n), np.empty(n), np.empty(n)
    spans = np.empty((nodes.shape[1], 2), np.int64)
    for k in range(len(targets)):
        target = targets[k]
        growing = (levels, goes_left, gains)
        counts[k] = _grow(data, target, seeds[k], max_depth, nodes[k], spans, samples, growing)
        work = (leaf_of, numerators, weights)
        tree = nodes[k, : counts[k]]
        _set_leaves(target, is_class[k], factor, tree, spans, samples, values[k], work)
        for i in range(n):
            raw[k, i] += learning_rate * values[k, leaf_of[i]]


grow_trees: Callable[..., Any]
try:
    grow_trees = njit(nogil=True, error_model="numpy", cache=True)(_grow_trees)
except RuntimeError:  # neither this folder nor the user's cache can be written: compile each time
    grow_trees = njit(nogil=True, error_model="numpy")(_grow_trees)
