"""Speed against what one would otherwise use: ratios of one run, a table and a JSON file. make bench

python benchmarks/run.py [--only PART]... [--quick] [--device cuda]

Both sides of a comparison run in turn (A B A B ...) with the same number of threads; a ratio is the median over
rounds. Peers: lpips, scikit-learn, faiss-cpu and diffusers (the extra bench), and the literal transcriptions of
transcriptions.py. Images are smooth noise, except for neighbours: no other speed depends on what they show.
"""

import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import click
import timing
import torch
from parts import PARTS
from threadpoolctl import threadpool_limits

from attractors.cli.devices import find_device
from attractors.cli.settings import ROOT
from attractors.tables import read_json, write_json

OUT = ROOT / "benchmarks" / "results.json"


def machine(device, threads):
    """What the numbers were measured on."""
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    versions = {}
    for package in ("torch", "numpy", "lpips", "diffusers", "scikit-learn", "faiss-cpu", "dvc"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "load_before": os.getloadavg()[0],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": versions,
    }


def _lines(path):
    return Path(path).read_text("utf-8").splitlines() if Path(path).exists() else []


def table(rows):
    """The rows as text, in columns."""
    verdict = {True: "yes", False: "no", None: "-"}
    cells = [("part", "peer", "measured", "goal", "met", "detail")]
    for row in rows:
        sign = "" if row["unit"] == "x" else "<= "
        cells.append((
            row["part"], row["peer"],
            "-" if row["value"] is None else f"{row['value']:,.3g} {row['unit']}",
            "-" if row["goal"] is None else f"{sign}{row['goal']:g} {row['unit']}",
            verdict[row["met"]], row["detail"],
        ))
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[5]]) for line in cells
    )


@click.command(context_settings={"show_default": True})
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="Only these parts; others keep their rows.")
@click.option("--quick", is_flag=True, help="Small sizes, to see that everything runs.")
@click.option("--device", default="cpu", help="cpu or cuda.")
@click.option("--threads", type=click.IntRange(1), default=os.cpu_count(), help="CPU threads of both sides.")
@click.option("--busy", is_flag=True, help="Processor time of one thread: for a machine that others use too.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Rounds of each comparison.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=OUT, help="The JSON file to write.")
def main(only, quick, device, threads, busy, rounds, out):
    """Time every part against its peers; print a table and write OUT."""
    device, threads = find_device(device), 1 if busy else threads
    timing.clock = time.process_time if busy else time.perf_counter
    torch.set_num_threads(threads)
    options = SimpleNamespace(device=device, threads=threads, quick=quick, rounds=1 if quick else rounds)
    old, host = read_json(out) if only and out.exists() else {"parts": {}}, machine(device, threads)
    kept = {name: {"machine": old["machine"], **part} for name, part in old["parts"].items()}
    result = {"machine": host, "quick": quick, "parts": kept}  # each part names the machine that it was measured on
    with threadpool_limits(threads):
        for name in only or PARTS:
            start, rows = time.perf_counter(), []
            for row in PARTS[name](options):
                rows.append({**vars(row), "met": row.met})
                click.echo(f"{name}: {row.part} against {row.peer}: {row.value} {row.unit}; {row.detail}", err=True)
            if rows:
                taken = round(time.perf_counter() - start, 1)
                clock = "processor" if busy else "wall"
                result["parts"][name] = {"machine": host, "clock": clock, "seconds": taken, "rows": rows}
                write_json(out, result)
    click.echo(table([row for part in result["parts"].values() for row in part["rows"]]))
    total = sum(part["seconds"] for part in result["parts"].values())
    click.echo(f"{out}: {total:.0f} s on {result['machine']['processor']}, {threads} threads, {device}")


if __name__ == "__main__":
    main()
