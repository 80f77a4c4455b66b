"""Run `dvc repro` with independent stages side by side, on this machine or, with --address, on a Ray cluster.

The package `scheduling` does it; this command knows what it needs of this project.
"""

import contextlib
from typing import Any

from attractors.cli.checkout import check_checkout
from attractors.cli.settings import ROOT, read_runs
from attractors.cli.stage import Stage
from scheduling.__main__ import main as scheduling

PROJECT = {
    "first": ("inputs",),
    "preload": ("click", "numpy", "pandas", "pydantic", "ruamel.yaml", "safetensors.numpy", "torch", "tqdm"),
    "forward": ("ATTRACTORS_CHECKPOINT_SECONDS",),
}


def fan_out(**options: Any) -> None:
    """Bring stages of this checkout up to date; options: those of `scheduling`."""
    check_checkout(ROOT)
    read_runs(ROOT / "runs.yaml")  # its words reach a shell
    assert scheduling.callback is not None
    with contextlib.chdir(ROOT):
        scheduling.callback(**options, **PROJECT)


main = Stage(
    "fan_out", callback=fan_out, help=scheduling.help, context_settings=scheduling.context_settings,
    params=[option for option in scheduling.params if option.name not in PROJECT],
)

if __name__ == "__main__":
    main()
