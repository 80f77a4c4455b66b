"""Small results on disk: JSON, and tables as CSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from attractors.files import atomic

if TYPE_CHECKING:
    import pandas as pd


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON with sorted keys. Raises ValueError for NaN and infinity."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", "utf-8", newline="\n")


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file. Raises ValueError naming the file where it is missing or malformed."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


def parse_csv(source: str | Path | IO, path: str | Path, *columns: str) -> pd.DataFrame:
    """Return the table in `source`, a path or an open text file, as a pandas frame. Errors name it as `path`.

    Raises ValueError where it is not a table, or lacks one of `columns`, which must hold numbers.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(source)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: not a table ({' '.join(str(error).split())})") from None
    if missing := [name for name in columns if name not in frame]:
        raise ValueError(f"{path}: no column {', '.join(missing)}")
    if columns and not len(frame):
        raise ValueError(f"{path}: a table without rows")
    if words := [name for name in columns if frame[name].dtype.kind not in "iuf"]:
        raise ValueError(f"{path}: column {words[0]} holds more than numbers")
    return frame


def read_csv(path: str | Path, *columns: str) -> pd.DataFrame:
    """Return the table in a CSV file as a pandas frame; see `parse_csv` for `columns` and errors."""
    return parse_csv(path, path, *columns)


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a pandas frame as CSV without its index, with numbers to six significant digits."""
    with atomic(path) as partial:
        frame.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
