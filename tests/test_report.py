"""The page says what the tables say, and its explorer counts as classify does."""

import base64
import gzip
import html
import json
import re
import shutil
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image
from report_run import make_measurements, make_run, write_report
from ruamel.yaml import YAML

from attractors.arrays import read_arrays, write_arrays
from attractors.data.images import read_images
from attractors.distances.detection import TYPES, classify
from attractors.distances.detection import fractions as shares_of
from attractors.distances.thresholds import given_thresholds
from attractors.figures import basin, energy, samples, stable_diffusion
from attractors.figures.registry import figures
from attractors.report import explorer
from attractors.report.explorer import GRID, STEPS, Sprite, cells, fractions, pictures, position, spread
from attractors.report.words import percent
from attractors.results.classification import BINS
from attractors.results.measured import measured
from attractors.results.run import Run
from attractors.tables import write_csv, write_json

SIZES = [2, 16, 64]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_run(folder, SIZES, 400)
    Image.new("RGB", (20, 10)).save(folder / "plots" / "transition.png")
    write_report(folder, folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text()


def text(page):
    return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)))


@pytest.mark.parametrize(("chart", "colours"), [(False, 256), (True, 60)])
def test_pictures_of_figures_lose_nothing_and_charts_nothing_of_their_first_colours(tmp_path, chart, colours):
    from attractors.stages.report import picture

    palette = np.random.default_rng(0).integers(0, 256, (colours, 3 if chart else 4), dtype=np.uint8)
    pixels = palette[np.arange(900) % colours].reshape(30, 30, -1)
    (tmp_path / "plots").mkdir()
    Image.fromarray(pixels).save(tmp_path / "plots/x.png")
    found = picture(tmp_path / "plots/x.png", tmp_path / "plots", "a title", chart)
    shown = Image.open(BytesIO(base64.b64decode(found["uri"].partition(",")[2])))
    np.testing.assert_array_equal(np.asarray(shown), pixels)
    assert (found["width"], found["height"], found["path"]) == (30, 30, "plots/x.png")


def test_the_answer_stands_first(folder, page, tmp_path):
    """The claims and Fig. 4A come before all else; a run without claims begins with its figure."""
    assert 'class="answer"' not in page
    row = {"claim": "spurious < memorized & generalized", "source": "4B", "measure": "difference", "effect": 1.25,
           "low": 0.5, "high": 2, "p": 0.01, "degrees": 8, "p_corrected": 0.04, "verdict": "holds"}
    margin = row | {"claim": "alike", "p": np.nan, "p_corrected": np.nan, "verdict": "cannot be told"}
    shutil.copytree(folder, tmp_path / "run")
    write_csv(tmp_path / "run/metrics/claims/fake.csv", pd.DataFrame([row, margin]))
    write_report(tmp_path / "run", tmp_path / "report.html")
    found = (tmp_path / "report.html").read_text()
    answer = found[found.index('class="answer"') : found.index('id="figure-1"')]
    assert answer.count("<tr>") == 3 and answer.count("<img") == 1
    words = " ".join(text(answer).split())
    assert "spurious < memorized & generalized 4B difference 1.25 (0.5 to 2) 0.04 ✓ holds" in words
    assert found.count("<img") == page.count("<img"), "Fig. 4A is there once"


@pytest.mark.parametrize(("row", "column"), [(3, 120), (80, 80), (99, 110), (130, 71), (200, 200)])
def test_fractions_at_any_edges_equal_those_of_classify(row, column):
    random = np.random.default_rng(row)
    to_training, within = (10 ** random.uniform(-3.2, 2.2, 5000).astype(np.float32) for _ in range(2))
    to_training[::7], within[::5] = GRID[row], GRID[column]  # ties, rounded to float32
    counts = cells(to_training, within, 0.3333, 7.5)
    found = fractions(counts, position(row, 0.3333), position(column, 7.5))
    np.testing.assert_array_equal(found,
                                  shares_of(classify(to_training, within, float(GRID[row]), float(GRID[column]))))


def test_automatic_thresholds_are_edges_too():
    random = np.random.default_rng(1)
    to_training, within = (random.lognormal(0, 1, 3000).astype(np.float32) for _ in range(2))
    to_training[:9] = 0.3333
    counts = cells(to_training, within, 0.3333, 2.71828)
    at = [np.searchsorted(GRID, delta) for delta in (0.3333, 2.71828)]
    np.testing.assert_array_equal(fractions(counts, *at), shares_of(classify(to_training, within, 0.3333, 2.71828)))
    np.testing.assert_allclose(np.log10(GRID), BINS, atol=1e-5)  # the grid is that of the stored counts
    assert len(STEPS) == len(GRID)


def test_counts_in_the_page_are_the_cells(folder, page):
    data = json.loads(gzip.decompress(base64.b64decode(re.search(r'id="data">(.*?)</script>', page)[1])))
    for run in data["sweeps"][0]["runs"]:
        arrays, _ = read_arrays(folder / f"data/neighbours/fake/{run['K']}.safetensors")
        expected = cells(arrays["training_distances"][:, 0], arrays["synthetic_distances"][:, 0], 0.9, 0.35)
        found = np.zeros(expected.size, int)
        found[np.frombuffer(base64.b64decode(run["cells"]), "<u2")] = np.frombuffer(
            base64.b64decode(run["counts"]), "<u4"
        )
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_spread_holds_the_samples_nearest_to_the_threshold_on_both_sides():
    distances = np.random.default_rng(0).lognormal(0, 1, 500)
    chosen = spread(distances, 1.1, 16)
    ranked = np.sort(distances)
    for side in (ranked[ranked <= 1.1][-4:], ranked[ranked > 1.1][:4]):
        assert set(side) <= set(distances[chosen])
    assert {ranked[0], ranked[-1]} <= set(distances[chosen])
    assert len(chosen) <= 16
    assert (np.diff(distances[chosen]) >= 0).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 4)])
def test_pictures_are_the_images_that_read_images_reads(tmp_path, shape):
    images = np.random.default_rng(0).uniform(-1, 1, (5, *shape)).astype(np.float32)
    write_arrays(tmp_path / "x.safetensors", {"images": images})
    found = pictures(tmp_path / "x.safetensors", [4, 1, 4], 32)
    assert sorted(found) == [1, 4]
    expected = 127.5 * (read_images(tmp_path / "x.safetensors")[4].transpose(1, 2, 0).squeeze() + 1)
    expected = 255 - expected if shape[0] == 1 else expected
    np.testing.assert_allclose(found[4], expected, atol=0.51)


def test_sprite_keeps_equal_pictures_once_and_each_where_it_says():
    tiles = np.random.default_rng(0).integers(0, 256, (70, 4, 4), dtype=np.uint8)
    sprite = Sprite()
    numbers = [sprite.add(tile) for tile in tiles]
    assert sprite.add(tiles[3].copy()) == numbers[3]
    made = sprite.file()
    sheet = np.asarray(Image.open(BytesIO(base64.b64decode(made["uri"].split(",")[1]))))
    y, x = divmod(numbers[69], made["columns"])
    np.testing.assert_array_equal(sheet[4 * y : 4 * y + 4, 4 * x : 4 * x + 4], tiles[69])


def test_what_is_known_of_a_sample_is_what_the_stages_wrote(tmp_path):
    distances = {f"{source}_distances": np.ones((10, 1), np.float32) for source in ("training", "synthetic")}
    write_arrays(tmp_path / "neighbours/a/2.safetensors", distances)
    drawn = {"weight": np.ones(2), "uniform": np.ones(2, bool), "training_numbers": np.arange(2)}
    write_arrays(tmp_path / "basin/a/2.safetensors",
        {"numbers": np.array([7, 9]), "t_c": np.array([[10, 20], [0, 0]]), "log_volume": np.array([1.5, np.nan]),
         **drawn}, size=2)
    write_arrays(tmp_path / "energy/a/2.safetensors",
        {"numbers": np.array([7, 8]), "energy": np.array([[3.0, 9.0], [1.0, 0]]), **drawn,
         "training_energy": np.array([[1.0, 0], [2.0, 0]])}, size=2)
    run = Run(tmp_path, data=tmp_path)
    expected = {7: {"t_c": 15, "log_volume": 1.5, "energy": 1.5}, 9: {"t_c": 0}, 8: {"energy": -0.5}}
    assert explorer.known(run, "a", 2, measured(run, "a", 2)) == expected
    write_arrays(tmp_path / "energy/a/2.safetensors",
        {"numbers": np.array([7, 10]), "energy": np.ones((2, 1)), "training_energy": np.ones((2, 1)), **drawn},
        size=2)
    with pytest.raises(ValueError, match="measurements of sample 10; a has 10 at K = 2"):
        measured(run, "a", 2)


def test_downloads_are_the_tables_to_the_byte(folder, page):
    files = dict(re.findall(r'<a href="data:text/csv;base64,([^"]*)" download="([^"]*)"', page))
    for kind in ("fractions", "thresholds"):
        stored = (folder / "metrics" / kind / "fake.csv").read_bytes()
        assert files[base64.b64encode(stored).decode()] == f"{kind}-fake.csv"


def test_the_peak_in_words_is_that_of_the_table(folder, page):
    table = pd.read_csv(folder / "metrics" / "fractions" / "fake.csv")
    peak = table.loc[table.spurious.idxmax()]
    words = re.search(r"most frequent at K = (\d+), ([\d.]+)%", text(page))
    assert int(words[1]) == peak.K
    assert float(words[2]) == pytest.approx(100 * peak.spurious, abs=0.05)


def test_every_figure_of_the_paper_is_listed_in_its_order(page):
    listed = re.findall(r'class="number">Figs?\. ([^<]*)<', page)
    ordered = [figure.number for part in (False, True) for figure in figures()
               if figure.number[0].isdigit() and figure.supplement == part]
    assert listed[0] == "4A, 9"
    assert listed[1:] == [number for number in ordered if number != listed[0]]
    numbers = [n for label in listed for first, last in re.findall(r"(\d+)[A-Z]?(?:-(\d+))?", label)
               for n in range(int(first), int(last or first) + 1)]
    assert set(numbers) == set(range(1, 31))


def test_at_most_12_figures_are_open_and_the_others_in_the_supplement(page):
    shown, folded = page.split('<details id="supplement">')
    assert shown.count('class="figure"') == sum(not figure.supplement for figure in figures()) <= 12
    assert folded.count('class="figure"') == sum(figure.supplement for figure in figures())
    assert all(figure.title.endswith("?") for figure in figures())


@pytest.mark.parametrize("sources", [("valley", "spacing", "valley"), ("given",) * 3, ("given", "valley", "given"),
                                     ("ratio",) * 3, ("ratio", "given", "ratio")])
def test_the_setting_of_a_run_gives_its_thresholds_again(sources):
    from attractors.stages.report import setting

    limits = pd.DataFrame({"K": SIZES, "delta_m": [0.1, 0.2, 0.123456789], "delta_m_source": sources})
    again = given_thresholds(YAML(typ="safe").load(setting("fake", limits, "delta_m")), "delta_m", "fake", SIZES)
    expected = [{"given": value, "ratio": "ratio"}.get(source)
                for value, source in zip(limits.delta_m, sources, strict=True)]
    assert again == expected
    same = limits.assign(delta_m=0.5, delta_m_source="given")
    assert setting("fake", same, "delta_m") == "0.5"


def test_nothing_on_the_page_comes_from_elsewhere(page):
    for address in re.findall(r'(?:src|href)="([^"]*)"', re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)):
        assert address.startswith(("data:", "#")), address[:80]
    assert "@import" not in page
    assert "<noscript>" in page


def test_the_page_of_a_default_run_is_at_most_3_mb(tmp_path):
    """The committed pictures and tables, and an explorer of as many sizes, samples and measurements."""
    found = make_run(tmp_path, [2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 512, 1797], 7188, name="digits")
    make_measurements(tmp_path, found, name="digits", kept=480)
    for kind in ("plots", "metrics"):
        for path in (ROOT / kind).rglob("*.png" if kind == "plots" else "*.csv"):
            copy = tmp_path / kind / path.relative_to(ROOT / kind)
            if not copy.exists() and copy.parent.name != "replicates" and "replicates" not in copy.parts:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
    write_report(tmp_path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") >= 16 and 'id="vega"' in page
    assert len(page.encode()) <= 3e6


def test_the_same_run_gives_the_same_bytes(folder, tmp_path):
    write_report(folder, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (folder / "report.html").read_bytes()


def test_tables_of_another_run_are_refused(tmp_path):
    make_run(tmp_path, SIZES, 400)
    table = pd.read_csv(tmp_path / "metrics/fractions/fake.csv").assign(memorized=0.5)
    write_csv(tmp_path / "metrics/fractions/fake.csv", table)
    with pytest.raises(ValueError, match=r"fractions/fake.csv: not of .*neighbours/fake at K=2"):
        from attractors.stages.report import explored

        explored("fake", "noise", Run(tmp_path / "metrics", ("fake",), data=tmp_path / "data"), 8)
    assert not (tmp_path / "report.html").exists()


def test_without_neighbours_the_page_is_written_without_an_explorer(tmp_path):
    make_run(tmp_path, SIZES, 400)
    (tmp_path / "data").rename(tmp_path / "away")
    write_report(tmp_path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "No sweep of this run" in page
    assert "vegaEmbed" not in page


def test_findings_say_what_a_table_made_by_hand_says(tmp_path):
    make_run(tmp_path, SIZES, 400)
    run = Run(tmp_path / "metrics", ("fake",))
    rows = [{"K": size, "type": kind, "log_volume": value, "log_volume_se": 1, "t_c": 10 * value, "t_c_se": 2}
            for size, values in ((2, (9, 5, 1)), (16, (9, 8, 7)), (64, (1, 2, 3)))
            for kind, value in zip(TYPES, values, strict=True)]
    write_csv(tmp_path / "metrics/basin/fake.csv", pd.DataFrame(rows))
    said, table = basin.findings(run)
    assert "memorized > spurious > generalized at 2 of the 3 sizes" in said
    assert "two standard errors a step at 1." in said
    assert table.rows[1] == ["fake", "16", "critical time, steps", "90 ± 2", "80 ± 2", "70 ± 2", ""]
    write_json(tmp_path / "metrics/clusters/fake.json", {"K": 16, "spurious": 50, "clusters": 4,
        "samples_in_clusters": 20, "clusters_farther_from_training_than_wide": 3})
    [table] = samples.findings(run)
    assert table.rows == [["fake", "16", "50", "20", "4", "3"]]


def test_energies_count_the_pairs_where_spurious_samples_are_lowest(tmp_path):
    make_run(tmp_path, SIZES, 400)
    gaps = {(2, 1): (3, 1, 2), (2, 2): (3, 2.9, 4), (16, 1): (1, 2, 3), (64, 1): (None, 1, 3)}  # as TYPES
    rows = [{"K": size, "reference": reference, "type": kind, "gap": gap, "gap_se": 0.1}
            for (size, reference), values in gaps.items() for kind, gap in zip(TYPES, values, strict=True)]
    write_csv(tmp_path / "metrics/energy/fake.csv", pd.DataFrame(rows))
    said = next(iter(energy.findings(Run(tmp_path / "metrics", ("fake",)))))
    assert "of the 3 pairs of a size and a reference image" in said
    assert "lowest in 2, by more than two standard errors in 1" in said


def test_a_study_of_prompts_is_told_from_its_tables(tmp_path):
    assert "python src/main.py scale stable_diffusion" in next(stable_diffusion.findings(Run(tmp_path, ())))
    write_csv(tmp_path / "latent_stability/s.csv",
              pd.DataFrame({"prompt": ["b", "a"], "type": TYPES[1::-1], "lpips_repetition": [0.4, 0.9]}))
    for name, kind, value in (("a", TYPES[0], 1), ("b", TYPES[1], 7)):
        write_csv(tmp_path / f"latent_curvature/s/{name}.csv", pd.DataFrame({"prompt": [name] * 2, "type": kind,
            "kind": "guided", "method": ["one_sided", "lanczos"], "median": [value, 100]}))
    table, _ = stable_diffusion.findings(Run(tmp_path, (), (), ("s",)))
    assert table.columns[2:] == ("repetition", "median, guided score")
    assert table.rows == [["a", "memorized", "0.9", "1"], ["b", "spurious", "0.4", "7"]]


def test_files_are_found_by_name_or_in_a_folder_and_those_of_sizes_in_their_order(tmp_path):
    from attractors.stages.report import found

    for name in ("one.csv", "basin/a/16.csv", "basin/a/2.csv", "words/b/x.csv", "words/a/yy.csv", "words/a/z.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = [[str(path.relative_to(tmp_path)) for path in paths]
              for paths in found(tmp_path, ("one", "basin/{}", "words"), ("a",), ".csv")]
    assert listed == [
        ["one.csv"], ["basin/a/2.csv", "basin/a/16.csv"], ["words/a/z.csv", "words/a/yy.csv"], ["words/b/x.csv"],
    ]


def test_tables_of_many_sizes_are_one_download_with_every_row_and_evenly_spaced_ranks_of_long_spectra(tmp_path):
    from attractors.stages.report import RANKS, table

    paths = [tmp_path / f"metrics/spectra/a/{size}.csv" for size in (2, 16)]
    frames = [pd.DataFrame({"K": size, "rank": np.arange(1, 3073), "mean": 1 / np.arange(1, 3073)}) for size in (2, 16)]
    for frame, path in zip(frames, paths, strict=True):
        write_csv(path, frame)
    made = table(paths, tmp_path / "metrics")
    content = base64.b64decode(made["uri"].partition(",")[2])
    read = pd.read_csv(BytesIO(content))
    assert made["file"] == "spectra-a.csv"
    assert f"{RANKS} of 3,072 ranks; 2 files joined" == made["words"]
    assert list(read.K.value_counts()) == [RANKS, RANKS]
    assert {1, 3072} <= set(read["rank"])
    np.testing.assert_allclose(read["mean"] * read["rank"], 1, rtol=1e-5)
    for path in paths:
        write_csv(path, pd.read_csv(path)[:500])
    made = table(paths, tmp_path / "metrics")
    assert made["rows"] == 1000
    assert gzip.decompress(base64.b64decode(made["uri"].partition(",")[2])).count(b"\n") == 1001
    write_csv(paths[1], pd.DataFrame({"K": 16, "value": np.random.default_rng(0).random(100_000)}))
    made = table(paths[1:], tmp_path / "metrics")
    assert made["file"] == "spectra-a-16.csv.gz"
    assert gzip.decompress(base64.b64decode(made["uri"].partition(",")[2])) == paths[1].read_bytes()


@pytest.mark.parametrize(("share", "words"), [
    (0, "0%"), (8.7e-19, "0%"), (5e-5, "less than 0.01%"), (0.00123, "0.12%"), (0.0143, "1.4%"), (0.05, "5%"),
    (0.2168, "21.7%"), (0.38086, "38.1%"), (0.9, "90.0%"), (1, "100%"),
])
def test_shares_in_words_have_digits_that_mean_something(share, words):
    assert percent(share) == words
