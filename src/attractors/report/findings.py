"""Each figure of the paper, in its order: what the paper says of it, and what the tables of a run say."""

from typing import NamedTuple

import pandas as pd

from attractors.arrays import read_arrays
from attractors.distances.detection import TYPES
from attractors.report.words import interval, means, order, percent
from attractors.results.run import halving, scaled_spurious
from attractors.tables import read_csv, read_json


class Figure(NamedTuple):
    """One entry of the report."""

    number: str
    title: str
    paper: str
    pictures: tuple  # under plots/, with {} for a sweep's or dataset's name
    tables: tuple  # under metrics/, likewise
    findings: callable  # (run) -> sentences


def transition(run):
    """Fig. 4A."""
    for name, peak in run.peaks.items():
        table = run.table("fractions", name)
        first, last = table.iloc[0], table.iloc[-1]
        half = halving(table)
        fall = f"; they drop below one half between K = {half[0]} and {half[1]}" if half else ""
        yield (
            f"{name}: of {first['count']:,.0f} to {table['count'].max():,.0f} samples at each size, "
            f"{interval(first, 'memorized')} are memorized at K = {first.K:.0f} and {interval(last, 'memorized')} at "
            f"K = {last.K:.0f}{fall}. Generalized ones go from {percent(first.generalized)} to "
            f"{percent(last.generalized)}."
        )
        between = 0 < peak.name < len(table) - 1
        yield (
            f"{name}: spurious samples are most frequent at K = {peak.K:.0f}, {interval(peak, 'spurious')}, where "
            f"{percent(peak.memorized)} are memorized and {percent(peak.generalized)} generalized"
            + (": a peak inside the transition." if between else ": at an end of the range, so no peak inside it.")
        )
    for name in run.controls:
        if (table := run.table("fractions", name)) is not None:
            least = table.memorized.min()
            share = "all samples" if least == 1 else f"{percent(least)} or more"
            yield (
                f"{name}, the closed-form denoiser of the training set: {share} are memorized at every K up to "
                f"{table.K.max()}."
            )


def histograms(run):
    """Figs. 3 and 10-12, and the thresholds."""
    for name, peak in run.peaks.items():
        limits = run.table("thresholds", name)
        at = limits.loc[peak.K == limits.K].iloc[0]
        for column, of in (("delta_m", "to S"), ("delta_s", "within S'")):
            source, sizes = at[f"{column}_source"], limits.K[limits[f"{column}_source"] == "valley"]
            if source == "given":
                yield f"{name}: {column} = {at[column]:.3g} was given."
                continue
            own = f"a valley of its own at K = {', '.join(map(str, sizes))}" if len(sizes) else "no valley of its own"
            words, detail = source.replace("borrowed from", "the valley of"), ""
            if source == "valley":
                words = "its own valley"
                detail = (
                    f" (95% interval {at[f'{column}_valley_low']:.3g} to {at[f'{column}_valley_high']:.3g}, depth "
                    f"{at[f'{column}_valley_depth']:.2f} of the lower peak, p = {at[f'{column}_valley_p_value']:.2g})"
                )
            yield (
                f"{name}: at K = {peak.K:.0f} {column} is {at[column]:.3g}, from {words}{detail}. The histogram of "
                f"distances {of} has {own}, of {len(limits)} sizes."
            )


def samples(run):
    """Figs. 1B and 13-15, and the groups of spurious samples."""
    for name, peak in run.peaks.items():
        path = run.metrics / "clusters" / f"{name}.json"
        if not path.is_file():
            yield f"{name}: spurious samples are shown at K = {peak.K:.0f}, where they are most frequent."
            continue
        found = read_json(path)
        apart = found["clusters_farther_from_training_than_wide"]
        yield (
            f"{name}: {found['spurious']} samples are spurious at K = {found['K']}; {found['samples_in_clusters']} of "
            f"them form {found['clusters']} groups of three or more that repeat each other, and {apart} of the groups "
            "are farther from every training image than they are wide, as states of their own are."
        )


def basin(run):
    """Figs. 4B and 16-19."""
    for name, peak in run.peaks.items():
        if (table := run.table("basin", name)) is not None:
            volumes = means(table, "log_volume", peak.K, "log_volume_se")
            yield f"{name}, K = {peak.K:.0f}: mean log-volumes {volumes} (± one standard error)."
            yield f"{name}: {order(table, 'log_volume', TYPES)}"
            yield f"{name}, K = {peak.K:.0f}: critical times in steps {means(table, 't_c', peak.K, 't_c_se')}."


SPECTRA = {  # the more directions are curved, the fewer degrees of freedom and the higher the effective rank
    "jacobian": ("degrees_of_freedom", "degrees of freedom (fewer: curved in more directions)"),
    "central": ("effective_rank", "effective rank (higher: curved in more directions)"),
}


def curvature(run):
    """Figs. 5A and 20-23."""
    for name, peak in run.peaks.items():
        table = run.table("curvature", name)
        for method, (column, words) in SPECTRA.items() if table is not None else ():
            part = table[table.method == method]
            if column in part and len(part):
                values = means(part, column, peak.K, f"{column}_se")
                yield f"{name}, K = {peak.K:.0f}: {words} by the {method} method {values}."
                own = part[part.type == "training"]
                kinds = TYPES if method == "central" else TYPES[::-1]
                yield f"{name}, {words}: {order(part, column, kinds)}"
                yield (
                    f"{name}: the median singular value at training images is {own['median'].iloc[0]:.3g} at K = "
                    f"{own.K.iloc[0]} and {own['median'].iloc[-1]:.3g} at K = {own.K.iloc[-1]} ({method})."
                )


def spectra(run):
    """Figs. 20-23, by the smallest and the median singular value of Alg. 2."""
    for name in run.peaks:
        table = run.table("curvature", name)
        part = table[table.method == "central"] if table is not None else ()
        for column in ("smallest", "median") if len(part) else ():
            yield f"{name}, {column} singular value (Alg. 2): {order(part, column, TYPES)}"


def energy(run):
    """Figs. 6 and 26-30."""
    for name, peak in run.peaks.items():
        if (table := run.table("energy", name)) is not None:
            table = table[table.type != "training"]
            wide = table.pivot(index=["K", "reference"], columns="type", values=["gap", "energy_se"]).dropna()
            if all(kind in wide["gap"] for kind in TYPES) and len(wide):
                above = wide["gap"][["memorized", "generalized"]].sub(wide["gap"]["spurious"], axis=0)
                errors = (
                    wide["energy_se"][["memorized", "generalized"]]
                    .pow(2)
                    .add(wide["energy_se"]["spurious"] ** 2, axis=0)
                )
                yield (
                    f"{name}: of the {len(wide)} pairs of a size and a reference image where all three types were "
                    f"measured, spurious samples are the lowest in {(above > 0).all(axis=1).sum()}, by more than two "
                    f"standard errors in {(above > 2 * errors**0.5).all(axis=1).sum()}."
                )
            table = table[table.reference == table.reference.min()]
            for size in sorted({int(peak.K), int(table.K.min()), int(table.K.max())}):
                if values := means(table, "gap", size, "energy_se"):
                    yield f"{name}, K = {size}: energy above training images, lower is more stable: {values}."


def toy(run):
    """Fig. 2."""
    for path in sorted((run.metrics / "toy").glob("*.json"), key=lambda path: int(path.stem)):
        found = read_json(path)
        at = next(row for row in found["minima"] if row["t"] == found["t"])
        yield (
            f"K = {found['K']}, t = {found['t']:g}: the learned energy has {at['learned']['minima']} minima, "
            f"{at['learned']['spurious']} of them no training point's own (exact: {at['exact']['minima']} and "
            f"{at['exact']['spurious']}); {percent(found['samples']['near_a_training_point'])} of its samples lie by "
            f"a training point, where chance puts {percent(found['samples']['near_by_chance'])}; their mean distance "
            f"from the centre is {found['samples']['radius']:.3f}."
        )
    table = run.table("toy_minima")
    for t, part in table.groupby("t") if table is not None else ():
        some = part.K[part.spurious > 0]
        first = f", first at K = {some.min()}" if len(some) else ""
        yield (
            f"t = {t:g}: the exact energy has minima that are no training point's own at {len(some)} of {len(part)} "
            f"sizes K{first}."
        )


def sensitivity(run):
    """The spurious peak where both thresholds are scaled together at every K."""
    for name in run.peaks:
        path, limits = run.metrics / "counts" / f"{name}.safetensors", run.table("thresholds", name)
        if not path.is_file():
            continue
        arrays, _ = read_arrays(path, "log10_edges", "counts")
        found = []
        for scale in (0.5, 0.75, 1.5, 2):
            shares = scaled_spurious(arrays, limits, scale)
            found.append(f"{percent(shares.max())} at K = {limits.K[int(shares.argmax())]} (x {scale:g})")
        yield (
            f"{name}: where both thresholds are scaled at every K, the spurious peak is {', '.join(found)}; unscaled "
            f"it is {percent(run.peaks[name].spurious)} at K = {run.peaks[name].K:.0f}."
        )


def stable_diffusion(run):
    """Figs. 5B and 24."""
    if not run.studies:
        yield "Not in this run. It needs the weights: python src/main.py scale stable_diffusion, then dvc repro."
    for name in run.studies:
        if (stability := run.table("latent_stability", name)) is not None:
            values = [f"{row.prompt} ({row.type}) {row.lpips_repetition:.2f}" for row in stability.itertuples()]
            yield (
                f"{name}: repetition, which is 1 where the noise does not matter and 0 where images of one prompt "
                f"differ as much as those of two (LPIPS): {', '.join(values)}."
            )
        parts = [read_csv(path) for path in sorted((run.metrics / "latent_curvature" / name).glob("*.csv"))]
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"method": []})
        table = table[table.method == "one_sided"]
        for kind, part in table.groupby("kind") if len(table) else ():
            ranked = part.sort_values("median", ascending=False)
            values = [f"{row.prompt} ({row.type}) {row.median:.3g}" for row in ranked.itertuples()]
            yield f"{name}: median singular values by Alg. 3, {kind} score, from the largest: {', '.join(values)}."


def nothing(_):
    """A figure without numbers."""
    return ()


FIGURES = (
    Figure("1B, 13-15", "Samples of each type and their nearest neighbours",
        "Memorized samples have copies in both the training set S and the synthetic set S'; spurious samples repeat "
        "within S' but have no copy in S; generalized ones have a copy in neither.",
        ("samples/{}",), ("clusters/{}",), samples),
    Figure("2", "Energy landscape of the toy model",
        "With 2 points the minima of the energy are the points. At 9 appear minima that are no data; at 1,000 the "
        "low energies form a continuous circle, as the exact solution for infinite K says (Eq. 15).",
        ("toy", "toy_minima"), ("toy_minima",), toy),
    Figure("3, 10-12", "Distances to S and within S', and the thresholds",
        "Both histograms have two peaks, and the thresholds delta_m and delta_s, chosen by eye for every K, lie in the "
        "valley between them.",
        ("histograms/{}",), ("histograms/{}", "thresholds/{}"), histograms),
    Figure("4A, 7-9", "From memorization to generalization",
        "As K grows memorized samples vanish and generalized ones take over; spurious samples rise and fall at the "
        "boundary between the two. The same holds for other widths (Figs. 7, 8) and for larger S' (Fig. 9).",
        ("transition",), ("fractions/{}",), transition),
    Figure("4B, 16-19", "Volumes of basins of attraction, and critical times",
        "Memorized samples have the largest basins, spurious ones follow, and those of generalized samples are much "
        "smaller.",
        ("basin/{}",), ("basin/{}",), basin),
    Figure("5A", "Curvature of the energy at the transition",
        "Around memorized and spurious samples the energy is curved in more directions (fewer singular values near "
        "zero) than around generalized ones; at training images the singular values fall as K grows.",
        ("curvature/{}",), ("curvature/{}",), curvature),
    Figure("5B, 24", "Curvature in Stable Diffusion",
        "Hand-picked candidates: singular values are largest for a memorized image, smaller for spurious ones, "
        "smallest for generalized ones.",
        ("stable_diffusion/{}",), ("latent_stability/{}", "latent_curvature/{}"), stable_diffusion),
    Figure("6, 26-30", "Energy relative to training images",
        "Memorized samples start as low as training images and rise with K; generalized ones start high and come "
        "down; in the transition spurious samples are the lowest of the three, for every reference image.",
        ("energy/{}",), ("energy/{}",), energy),
    Figure("20-23", "Spectra at every K",
        "In the intermediate regime memorized and spurious samples lie above generalized ones; in CIFAR10 the three "
        "types are hardly apart.",
        ("spectra/{}",), ("spectra/{}",), spectra),
    Figure("25", "Circular interpolation",
        "The path between a target and a reference image along which energies are compared (Eq. 45).",
        ("interpolation/{}",), (), nothing),
    Figure("Not in the paper", "Do the conclusions hang on the thresholds?",
        "The paper gives the ranges of its thresholds (Table 2) and no sensitivity.",
        ("sensitivity/{}",), (), sensitivity),
)  # fmt: skip
