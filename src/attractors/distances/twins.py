"""Twins: images of a training set that are copies of each other, of which every definition counts one."""

import numpy as np

TWINS = 8  # near twins of one image that are looked for; exact ones are found however many they are
SHARE = 0.25  # of S: where a larger group is near each other, the next image may be the odd one
FAR = 3  # a near twin is so many times nearer than the next image: the factor of Yoon et al. 2023, within S


def originals(distances: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return for each image of S the lowest number among its twins and itself: [K] int64.

    distances, indices: [K, k] of the nearest other images of S, ascending, as `nearest` gives them; Euclidean. Exact
    twins are at distance 0. The first j neighbours are near twins if they are FAR times nearer than the next one, and
    they and the image are at most a share SHARE of S. Twins of twins are twins.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count, k = distances.shape
    near = np.arange(2, k + 1) <= count * SHARE  # the size of a group whose next image is far
    jump = (distances[:, :-1] < distances[:, 1:] / FAR) & np.isfinite(distances[:, 1:]) & near
    last = ((np.arange(k - 1) + 1) * jump).max(1, initial=0)
    linked = (distances == 0) | (np.arange(k) < last[:, None])
    row, rank = linked.nonzero()
    links = coo_array((np.ones(len(row)), (row, indices[row, rank])), (count, count))
    _, group = connected_components(links, directed=False)
    return np.unique(group, return_index=True)[1][group].astype(np.int64)


def one_each(distances: np.ndarray, indices: np.ndarray, first: np.ndarray, count: int) -> np.ndarray:
    """Return the distances to the nearest image of each of the `count` nearest groups of twins: [n, count], ascending.

    distances, indices: [n, k] of the nearest images of S. first: [K], from `originals`. Missing ones are inf; k must
    be the size of `count` groups, or K, for none to be missing.
    """
    groups = np.where(indices >= 0, first[indices], -1)
    order = groups.argsort(1, kind="stable")
    ranked = np.take_along_axis(groups, order, 1)
    again = np.zeros(groups.shape, bool)
    np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], 1)
    table = np.sort(np.where(again, np.inf, distances), 1)[:, :count]
    return np.pad(table, [(0, 0), (0, count - table.shape[1])], constant_values=np.inf)


def spacing_of(distances: np.ndarray, indices: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the distance of each image of S to the nearest one that is no twin of it: [K], inf where there is none.

    distances, indices: [K, k] of the nearest other images of S. first: [K], from `originals`.
    """
    other = (indices >= 0) & (first[indices] != first[:, None])
    return np.where(other, distances, np.inf).min(1)


def in_words(first: np.ndarray) -> str:
    """Return what is said of a set with twins."""
    different = len(np.unique(first))
    return (
        f"{len(first) - different} of {len(first)} training images repeat another one, exactly or nearly: {different} "
        "different images; each counts once in spacings and ratios"
    )
