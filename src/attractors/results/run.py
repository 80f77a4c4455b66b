"""The results of a run: its tables, types and distances, the spurious peak and the half-crossing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attractors.arrays import read_arrays
from attractors.distances.detection import TYPES
from attractors.tables import parse_csv

ORDER = (*TYPES, "training")  # the rows of a table of measurements, in the order in which figures show them


@dataclass(frozen=True)
class Run:
    """The results in the folders `metrics` (tables) and `data` (arrays).

    learned, controls: names of the sweeps of trained networks and of those of the exact denoiser; studies: names of
    the studies of prompts. They are empty where a caller asks for sweeps by name.
    """

    metrics: Path
    learned: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    data: Path = Path("data")
    reader: Callable[[str], bytes | None] | None = None  # reads tables of another revision by their path below metrics

    def read(self, path: str) -> bytes | None:
        """Return the content of the file `path` below the folder of tables, or None where there is no such file."""
        if self.reader:
            return self.reader(path)
        file = Path(self.metrics) / path
        return file.read_bytes() if file.is_file() else None

    def table(self, kind: str, name: str = "", *columns: str) -> Any:  # a frame or None
        """Return the table METRICS/kind/name.csv (METRICS/kind.csv without a name), or None where the file is missing.

        Raises ValueError naming the file where it is not a table, or lacks one of `columns`, which must hold numbers.
        """
        path = f"{kind}/{name}.csv" if name else f"{kind}.csv"
        content = self.read(path)
        return None if content is None else parse_csv(BytesIO(content), Path(self.metrics) / path, *columns)

    def needed(self, kind: str, name: str, *columns: str) -> pd.DataFrame:
        """Return `table`. Raises ValueError naming the file where there is none."""
        table = self.table(kind, name, *columns)
        if table is None:
            raise ValueError(f"{Path(self.metrics) / kind / name}.csv: no such file")
        return table

    def replicates(self, kind: str, name: str) -> Any:
        """The table of fractions, basin, curvature or energy with one row for each replicate too; None without one.

        Results from before there were replicates have one of fractions alone, that of replicate 0.
        """
        single = self.table(f"replicates/{kind}", name)
        if single is None and kind == "fractions" and (table := self.table(kind, name)) is not None:
            return table[["K", "count", *TYPES]].assign(replicate=0)
        return single

    def control(self, kind: str, name: str, form: str = "exact") -> Any:
        """Return the table of the control NAME-exact or NAME-linear of a sweep, or None without one."""
        return self.table(kind, f"{name}-{form}")

    def peak(self, name: str) -> pd.Series:
        """Return `spurious_peak` of the sweep called `name`. Raises ValueError where it has no table of fractions."""
        return spurious_peak(self.needed("fractions", name, "K", *TYPES))

    @cached_property
    def peaks(self) -> dict[str, pd.Series]:
        """Return `peak` of every learned sweep that was classified, by name."""
        return {name: self.peak(name) for name in self.learned if self.table("fractions", name) is not None}

    def sizes(self, name: str) -> list[int]:
        """Return the K at which sweep `name` was classified, ascending. Raises ValueError where there is none."""
        folder = Path(self.data) / "types" / name
        known = sorted(int(path.stem) for path in folder.glob("*.safetensors") if path.stem.isdecimal())
        if not known:
            raise ValueError(f"{folder}: no types (K.safetensors); python src/main.py classify writes them")
        return known

    def sizes_in(self, kind: str, name: str) -> list[int]:
        """Return the K of the files DATA/kind/name/K.safetensors and K-R.safetensors, ascending."""
        files = (Path(self.data) / kind / name).glob("[0-9]*.safetensors")
        return sorted({int(path.stem.partition("-")[0]) for path in files})

    def files(self, kind: str, name: str, size: int) -> dict[int, Path]:
        """Return {replicate: path} of the files DATA/kind/name/K.safetensors (replicate 0) and K-R.safetensors, by R.

        Files of replicates that were not classified, of a sweep that had more of them, are left out.
        """
        folder = Path(self.data) / kind / name
        paths = {0: folder / f"{size}.safetensors"} if (folder / f"{size}.safetensors").is_file() else {}
        numbers = (path.stem.partition("-")[2] for path in folder.glob(f"{size}-*.safetensors"))
        paths |= {
            number: folder / f"{size}-{number}.safetensors"
            for number in sorted(int(n) for n in numbers if n.isdecimal())
        }
        if (table := self.table("replicates/fractions", name)) is None:
            return paths
        classified = set(table.replicate[size == table.K])
        return {number: path for number, path in paths.items() if number in classified}

    def codes(self, name: str, size: int) -> np.ndarray:
        """Return the types of all samples of sweep `name` at K = `size` as classify wrote them: [N'] int8 into TYPES.

        The samples of all replicates follow one another, in the same order as in `distances`. Raises ValueError naming
        the file where it is missing or belongs to another run.
        """
        path = Path(self.data) / "types" / name / f"{size}.safetensors"
        arrays, record = read_arrays(path, "codes")
        codes = arrays["codes"]
        if codes.ndim != 1 or codes.dtype != np.int8 or not len(codes) or not 0 <= codes.min() <= codes.max() <= 2:
            raise ValueError(f"{path}: not the types of samples as classify writes them")
        if record.get("size") != size:
            raise ValueError(f"{path}: types of K = {record.get('size')}, not of {size}")
        return codes

    def distances(self, name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the distances of every sample to its nearest image of S and to its nearest other sample: two [N']
        float32.
        """
        parts = [part for part, _ in self._neighbours(name, size)]
        to_training, within = (np.concatenate(axis) for axis in zip(*parts, strict=True))
        return to_training, within

    def replicate(self, name: str, size: int) -> np.ndarray:
        """Return the number of the replicate to which each sample belongs: [N'] int16."""
        return np.concatenate(
            [np.full(len(part[0]), number, np.int16) for part, number in self._neighbours(name, size)]
        )

    def _neighbours(self, name: str, size: int) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], int]]:
        files = self.files("neighbours", name, size)
        if not files:
            raise ValueError(f"{Path(self.data) / 'neighbours' / name / str(size)}.safetensors: no such file")
        for number, path in files.items():
            arrays, _ = read_arrays(path, "training_distances", "synthetic_distances")
            if any(array.ndim != 2 or 0 in array.shape for array in arrays.values()):
                raise ValueError(f"{path}: not neighbours as neighbours writes them")
            yield (arrays["training_distances"][:, 0], arrays["synthetic_distances"][:, 0]), number

    def measurements(self, kind: str, name: str, size: int) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """What was measured of samples and training images of all replicates, and the record; None without a file.

        kind: basin, curvature or energy. `numbers` are positions among all samples. `replicate` and
        `training_replicate` are added, the replicate of each row. Raises ValueError naming the file where it is of
        another K, of samples that S' does not have, or of other quantities than the first replicate's.
        """
        owners, files = self.replicate(name, size), self.files(kind, name, size)
        parts = []
        for number, path in files.items():
            arrays, record = read_arrays(path)
            if record.get("size") != size:
                raise ValueError(f"{path}: measurements at K = {record.get('size')}, not at {size}")
            if missing := {"numbers", "weight", "training_numbers"} - set(arrays):
                raise ValueError(f"{path}: no {min(missing)}; python src/main.py {kind} writes such a file")
            numbers, members = arrays["numbers"], np.flatnonzero(owners == number)
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(members):
                raise ValueError(
                    f"{path}: measurements of sample {numbers.max()}; {name} has {len(members)} at K = {size}"
                )
            rows = {"": len(numbers), "training_": len(arrays["training_numbers"])}
            arrays |= {f"{prefix}replicate": np.full(count, number, np.int16) for prefix, count in rows.items()}
            arrays["numbers"] = numbers + (members[0] if len(members) else 0)
            parts.append((arrays, record))
        if not parts:
            return None
        first, record = parts[0]
        shapes = [{key: array.shape[1:] for key, array in arrays.items()} for arrays, _ in parts]
        for path, shape in zip(files.values(), shapes, strict=True):
            if shape != shapes[0]:
                raise ValueError(f"{path}: not measured as {next(iter(files.values()))} was; {kind} writes both")
        joined = {key: np.concatenate([arrays[key] for arrays, _ in parts]) for key in first if key != "references"}
        return joined | {key: first[key] for key in first if key == "references"}, record


def spurious_peak(fractions: pd.DataFrame) -> pd.Series:
    """The row of a table of fractions, one for each K, in which spurious samples are most frequent: the first of them.

    The row's `name` is its label in the table.
    """
    return fractions.loc[fractions.spurious.idxmax()]


def crossings(sizes: np.ndarray, shares: np.ndarray, level: float = 0.5) -> np.ndarray:
    """Return the K at which a falling share first crosses `level`, interpolated in log K: [n]; nan where it never does.

    sizes: [m], ascending. shares: [n, m] in [0, 1], of n runs at these sizes.
    """
    if len(sizes) < 2:
        return np.full(len(shares), np.nan)
    above, below = shares[:, :-1], shares[:, 1:]
    falls = (above > level) & (level >= below)
    first, row = falls.argmax(1), np.arange(len(shares))
    logs = np.log(sizes)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = ((above - level) / (above - below))[row, first]
    return np.where(falls.any(1), np.exp(logs[first] + along * (logs[first + 1] - logs[first])), np.nan)


def half_memorized(fractions: pd.DataFrame) -> float:
    """Return the K at which the memorized fraction falls to one half, interpolated in log K; nan where it does not."""
    return float(crossings(fractions.K.to_numpy(), fractions.memorized.to_numpy()[None])[0])


def halving(table: pd.DataFrame, column: str = "memorized", level: float = 0.5) -> tuple[int, int] | None:
    """Return the two neighbouring K of a table between which the share `column` first falls across `level`, or None."""
    for above, below in zip(table.itertuples(), table.iloc[1:].itertuples(), strict=False):
        if getattr(above, column) > level >= getattr(below, column):
            return int(above.K), int(below.K)
    return None


def fractions_below(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the memorized fraction [M + 1] and the spurious one [M + 1, S + 1], Eqs. 9 and 10, for all thresholds.

    counts: [M, S] samples by distance to S and within S', in bins. Element [i, j] is for delta_m at the lower edge of
    bin i (the upper edge of the last bin for i = M) and delta_s at that of bin j.
    """
    below = np.zeros(np.add(counts.shape, 1))
    below[1:, 1:] = counts.cumsum(0).cumsum(1) / counts.sum()
    return below[:, -1], below[-1] - below


def scaled_spurious(arrays: dict[str, np.ndarray], limits: pd.DataFrame, scale: float) -> np.ndarray:
    """Return the spurious fraction at each K where both thresholds are multiplied by `scale`: [sizes].

    The thresholds are moved to edges of bins. arrays has `log10_edges` [M + 1] and `counts` [sizes, M, M], as
    `classify` writes them. limits: the table of thresholds, one row for each of the sizes.
    """
    edges, shares = arrays["log10_edges"], []
    for counts, row in zip(arrays["counts"], limits.itertuples(), strict=True):
        m, s = (np.abs(edges - np.log10(scale * delta)).argmin() for delta in (row.delta_m, row.delta_s))
        shares.append(fractions_below(counts)[1][m, s])
    return np.array(shares)


def wide(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return one row for each K, with a column TYPE_COLUMN for each type and each of `columns`, for `dvc plots`."""
    parts = [
        part.set_index("K")[list(columns)].add_prefix(f"{name}_")
        for name in ORDER
        if len(part := table[table.type == name])
    ]
    return pd.concat(parts, axis=1).sort_index().reset_index()
