"""The report in Chromium, with the network off: what a hand does to it, and what it then shows."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image
from report_run import make_measurements, make_run, write_report

from attractors.arrays import write_arrays
from attractors.distances.detection import TYPES, classify
from attractors.measurements.basin import basin_table
from attractors.measurements.energy import energy_table
from attractors.report.explorer import GRID
from attractors.results.joined import kinds
from attractors.results.replicates import dispersions, fraction_interval
from attractors.results.run import Run
from attractors.tables import write_csv

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update"]
SIZES = [2, 16, 64, 256]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    found = make_run(folder, SIZES, 1000)
    make_measurements(folder, found)
    Image.new("RGB", (20, 10)).save(folder / "plots" / "transition.png")
    write_report(folder, folder / "report.html")
    return folder, found


@pytest.fixture
def opened(browser):
    """A function: a page to what the browser shows of it, with the network off and nothing to complain of."""
    contexts, complaints = [], []

    def open_page(path, **options):
        contexts.append(browser.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto(path if isinstance(path, str) else path.as_uri())
        page.wait_for_selector("#table td", state="attached")
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(opened, run):
    return opened(run[0] / "report.html", viewport={"width": 1200, "height": 900})


def settled(page):
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def drag(page, axis, distance):
    """Pull the line of a threshold by so many pixels."""
    handle = page.locator(f'[aria-label="drag to move δ_{axis}"]')
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for part in range(1, 9):
        page.mouse.move(x + distance * part / 8, y)
    page.mouse.up()
    settled(page)


def shown(page):
    """The counts of each type at each K in the page's table: [K, 3]."""
    cells = page.locator("#table td[data-type]").all_text_contents()
    return np.array(list(map(int, cells))).reshape(-1, 3)


def counted(found, delta_m, delta_s):
    return np.array([np.bincount(classify(*pair, delta_m, delta_s), minlength=3) for pair in found.values()])


def test_opens_from_disk_with_the_network_off_and_all_pictures_drawn(page):
    assert page.evaluate("[...document.images].length") == 1
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator("#histograms svg").count() == page.locator("#fractions svg").count() == 1


def test_fractions_at_first_are_those_of_the_run(page, run):
    np.testing.assert_array_equal(shown(page), counted(run[1], 0.9, 0.35))
    table = pd.read_csv(run[0] / "metrics/fractions/fake.csv")[list(TYPES)].to_numpy()
    np.testing.assert_allclose(shown(page) / 1000, table, atol=1e-6)


def test_bars_are_as_high_as_their_share_of_the_distances(page, run):
    size = int(page.locator("#size option:checked").text_content())
    heights = page.evaluate("""[...document.querySelectorAll("#histograms svg .mark-rect")]
        .map(group => [...group.querySelectorAll("path")].map(path => path.getBBox().height))
        .filter(heights => heights.length > 1)""")
    drawn = np.array(heights)
    counts = np.array([np.bincount(np.searchsorted(GRID.astype(np.float32), d), minlength=201) for d in run[1][size]])
    counts = counts[:, counts.any(0)]
    np.testing.assert_allclose(drawn / drawn.sum(1, keepdims=True), counts / 1000, atol=1e-4)


@pytest.mark.parametrize("distance", [-120, -20, 60])
def test_fractions_after_a_drag_of_delta_m_are_those_of_classify_for_the_value_in_the_command(page, run, distance):
    drag(page, "m", distance)
    given = re.fullmatch(r"dvc exp run --allow-missing -S delta_m=(\S+) -S delta_s=auto", page.input_value("#command"))
    delta_m = float(given[1])
    assert delta_m in GRID
    assert (delta_m < 0.9) == (distance < 0)
    expected = counted(run[1], delta_m, 0.35)
    np.testing.assert_array_equal(shown(page), expected)
    size = int(page.locator("#size option:checked").text_content())
    share = expected[SIZES.index(size), 0] / 1000
    assert f"memorized {100 * share:.1f}%" in page.text_content("#readout")


def test_the_command_run_by_classify_gives_the_table_on_screen(page, run, tmp_path):
    from attractors.stages.classify import main

    drag(page, "m", -60)
    drag(page, "s", 40)
    settings = re.findall(r"-S (delta_[ms])=(\S+)", page.input_value("#command"))
    options = [word for name, value in settings for word in (f"--{name.replace('_', '-')}", value)]
    main([str(run[0] / "data/neighbours/fake"), "--name", "fake", *options,
          "--out", str(tmp_path)], standalone_mode=False)
    table = pd.read_csv(tmp_path / "fractions/fake.csv")[list(TYPES)].to_numpy()
    np.testing.assert_allclose(shown(page) / 1000, table, atol=1e-6)


def test_the_landscape_by_type_at_ten_places_is_that_of_classify_and_join(page, run):
    drags = [("m", -120), ("s", 60), ("m", -60), ("s", -90), ("m", 50), ("s", 30), ("m", 80), ("s", -40), ("m", 30),
             ("s", 80)]
    places, size = set(), int(page.locator("#size option:checked").text_content())
    to_training, within = run[1][size]
    results = Run(run[0] / "metrics", data=run[0] / "data")
    files = {folder: results.measurements(folder, "fake", size) for folder in ("basin", "energy")}
    for axis, distance in drags:
        drag(page, axis, distance)
        words = dict(re.findall(r"-S delta_([ms])=(\S+)", page.input_value("#command")))
        limits = {axis: {"m": 0.9, "s": 0.35}[axis] if word == "auto" else float(word) for axis, word in words.items()}
        codes = classify(to_training, within, limits["m"], limits["s"])
        places.add((limits["m"], limits["s"]))
        expected = {}
        for folder, make in (("basin", basin_table), ("energy", energy_table)):
            arrays, record = files[folder]
            table = make(size, arrays, record, kinds(codes, to_training, within, arrays, size))
            for row in table[(table.type != "training") & (table.get("reference", 1) == 1)].to_dict("records"):
                for quantity, column in {"basin": {"t_c": "t_c", "log_volume": "log_volume"},
                                         "energy": {"energy": "gap"}}[folder].items():
                    if np.isfinite(row[column]):
                        expected[quantity, row["type"]] = row[column], row[f"{column}_se"]
        rows = page.evaluate(
            "[...document.querySelectorAll('#landscape-table tbody tr')].map(row => ({...row.dataset}))"
        )
        shown_rows = {(row["quantity"], row["type"]): (float(row["mean"]), float(row["error"])) for row in rows}
        assert shown_rows.keys() == expected.keys()
        for key, values in expected.items():
            np.testing.assert_allclose(shown_rows[key], values, rtol=2e-5, atol=1e-5)
    assert len(places) == 10


def test_keys_move_a_threshold_by_one_step_and_the_box_undoes_it(page, run):
    page.focus("#range-s")
    page.keyboard.press("ArrowRight")
    settled(page)
    delta_s = float(re.search(r"delta_s=(\S+)", page.input_value("#command"))[1])
    assert delta_s == GRID[np.abs(np.log(GRID / 0.35)).argmin() + 1]
    np.testing.assert_array_equal(shown(page), counted(run[1], 0.9, delta_s))
    page.check("#run-s")
    settled(page)
    assert "delta_s=auto" in page.input_value("#command")
    np.testing.assert_array_equal(shown(page), counted(run[1], 0.9, 0.35))


def test_a_typed_distance_goes_to_the_nearest_step_and_the_field_says_which(page, run):
    page.fill("#value-m", "0.5")
    page.press("#value-m", "Tab")
    settled(page)
    assert float(page.input_value("#value-m")) == GRID[np.abs(np.log(GRID / 0.5)).argmin()]


def test_a_typed_distance_that_is_no_step_is_said_to_be_moved(page):
    page.fill("#value-m", "0.5")
    page.press("#value-m", "Tab")
    settled(page)
    assert page.text_content("#rounded") == "δ_m = 0.501187 is the nearest step to 0.5."


def test_a_link_with_a_choice_shows_that_choice_in_a_fresh_browser(opened, run):
    page = opened(run[0] / "report.html")
    for size, slide in ((16, 1), (64, 2)):
        page.locator("#slide").fill(str(slide))
        page.fill("#value-m", "0.5")
        page.press("#value-m", "Tab")
        settled(page)
        page.click("#link")
        address, rows = page.url, shown(page)
        assert address.endswith(f"#sweep=fake&K={size}&dm=0.501187")
        fresh = opened(address)
        settled(fresh)
        assert fresh.text_content("#readout").startswith(f"K = {size}:")
        assert fresh.is_checked("#run-s") and not fresh.is_checked("#run-m")
        np.testing.assert_array_equal(shown(fresh), rows)
        np.testing.assert_array_equal(rows, counted(run[1], 0.501187, 0.35))


def test_a_pinned_choice_stays_beside_another_and_a_link_has_both(opened, page, run):
    drag(page, "m", -60)
    page.click("#pin")
    pinned, before = float(page.input_value("#value-m")), shown(page)
    drag(page, "m", -60)
    chosen = float(page.input_value("#value-m"))
    assert chosen < pinned
    page.click("#link")
    for shows in (page, opened(page.url)):
        settled(shows)
        cells = shows.locator("#table td").all_text_contents()
        rows = np.array(list(map(float, cells))).reshape(len(SIZES), 3, 3)  # of each type: number, share, pinned share
        np.testing.assert_array_equal(rows[..., 0], counted(run[1], chosen, 0.35))
        np.testing.assert_allclose(rows[..., 2], before / 1000, atol=6e-5)
        assert f"δ_m = {pinned:g} and" in shows.text_content("#pinned")
        assert shows.text_content("#dotted") == "dotted: pinned"
    page.click("#pin")
    settled(page)
    assert page.text_content("#pinned") == "" and page.locator("#table td").count() == 6 * len(SIZES)


def test_a_picture_is_enlarged_by_its_link(opened, run):
    page = opened(run[0] / "report.html", viewport={"width": 390, "height": 800})
    link = page.locator("a.zoom").first
    narrow = link.locator("img").bounding_box()["width"]
    link.click()
    assert link.locator("img").bounding_box()["width"] > 2 * narrow
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_three_samples_are_of_the_types_that_stand_beside_them(page, run):
    cards = page.locator("#three .sample").all_text_contents()
    assert len(cards) == 3
    for card, kind in zip(cards, TYPES, strict=True):
        number, size = (int(re.search(pattern, card)[1]) for pattern in (r"sample (\d+)", r"K = (\d+)"))
        assert kind in card
        to_training, within = run[1][size]
        assert TYPES[classify(to_training, within, 0.9, 0.35)[number]] == kind


def test_bands_are_the_intervals_over_replicates_of_the_table(opened, run, tmp_path):
    """The heights of the bands drawn are those of fraction_interval, with replicates that differ."""
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    counts = {size: counted({size: pair}, 0.9, 0.35)[0] for size, pair in run[1].items()}
    single = {size: np.array([part // 2 + [9, -9, 0], part - part // 2 - [9, -9, 0]]).clip(0)
              for size, part in counts.items()}
    write_csv(folder / "metrics/replicates/fractions/fake.csv", pd.DataFrame([
        {"K": size, "replicate": number, "count": row.sum(), **dict(zip(TYPES, row / row.sum(), strict=True))}
        for size, rows in single.items() for number, row in enumerate(rows)]))
    phis = dispersions(list(single.values()))
    assert all(phi.value > 1 and phi.degrees for phi in phis)
    write_report(folder, folder / "report.html")
    page = opened(folder / "report.html", viewport={"width": 1200, "height": 900})
    boxes = page.evaluate("""[...document.querySelectorAll("#fractions svg .mark-area path")]
        .map(path => path.getAttribute("d").match(/-?[\\d.]+/g).map(Number))""")
    for kind, numbers in enumerate(boxes):
        points = np.array(numbers).reshape(-1, 2)
        shares = 1 - points[:, 1] / 300  # the chart is 300 pixels high
        expected = [fraction_interval(part[None], phi)[1:3] for part, phi in zip(counts.values(), phis, strict=True)]
        low, high = (np.array([ends[side][kind] for ends in expected]) for side in (0, 1))
        np.testing.assert_allclose(np.sort(shares), np.sort(np.concatenate([low, high])), atol=2e-3)
    assert len(boxes) == 3


def test_samples_beside_the_threshold_are_on_the_side_that_they_are_shown_on(page, run):
    drag(page, "m", 50)
    delta_m = float(page.input_value("#value-m"))
    size = int(page.locator("#size option:checked").text_content())
    for heading, within in (("within", True), ("beyond", False)):
        cards = page.locator(f'#samples-m h3:has-text("{heading}") + ol .sample')
        assert cards.count() == 3
        for card in cards.all_text_contents():
            number = int(re.search(r"sample (\d+)", card)[1])
            assert (run[1][size][0][number] <= np.float32(delta_m)) == within


def test_what_is_known_of_the_sample_pointed_at_is_told_and_drawn(opened, run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    size = pd.read_csv(folder / "metrics/fractions/fake.csv").set_index("K").spurious.idxmax()
    codes, numbers = classify(*run[1][size], 0.9, 0.35), np.arange(1000)
    drawn = {"numbers": numbers, "weight": np.ones(1000), "uniform": np.ones(1000, bool)}
    drawn["training_numbers"] = np.arange(2)
    for stage, quantity, width in (("basin", "t_c", 4), ("curvature", "central", 64)):
        arrays = {quantity: numbers[:, None] + np.arange(width, 0, -1.0), "log_volume": numbers / 7, **drawn}
        write_arrays(folder / f"data/{stage}/fake/{size}.safetensors", arrays, size=int(size))
    write_report(folder, folder / "report.html")
    page = opened(folder / "report.html", viewport={"width": 1200, "height": 900})
    assert page.text_content("#pointed").startswith("Point at a sample")
    cut = page.evaluate("""() => {
        const left = element => element.getBoundingClientRect().left, edge = left(document.getElementById("spectra"));
        return [...document.querySelectorAll("#spectra svg text")].filter(text => left(text) < edge)
            .map(text => text.textContent);
    }""")
    assert cut == []
    for act in ("hover", "focus"):
        card = page.locator(".samples .sample").nth(2 if act == "hover" else 7)
        getattr(card, act)()
        settled(page)
        number = int(re.search(r"sample (\d+)", card.text_content())[1])
        told = page.text_content("#pointed")
        assert told.startswith(f"Sample {number}, {TYPES[codes[number]]}: nearest training image at")
        assert float(re.search(r"training image at ([\d.e+-]+)", told)[1]) == pytest.approx(
            run[1][size][0][number], rel=0.01
        )
        assert float(re.search(r"critical time ([\d.e+-]+)", told)[1]) == pytest.approx(number + 2.5, rel=0.01)
        assert float(re.search(r"singular values ([\d.e+-]+) to", told)[1]) == pytest.approx(number + 64, rel=0.01)
        drawn = page.evaluate("""[...document.querySelectorAll("#spectra svg path")]
            .filter(path => path.getAttribute("stroke-width") === "4").length""")
        assert drawn == 1


def test_a_click_on_the_fractions_chooses_a_size(page):
    page.locator("#fractions svg").scroll_into_view_if_needed()
    box = page.locator("#fractions svg").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 14, box["y"] + box["height"] / 2)
    settled(page)
    assert page.text_content("#readout").startswith("K = 256:")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(opened, run, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser").Axe()
    page = opened(run[0] / "report.html", color_scheme=scheme, viewport={"width": width, "height": 800})
    found = axe.run(page).response["violations"]
    assert not [(v["impact"], v["id"], [n["html"][:120] for n in v["nodes"]][:3]) for v in found]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript_all_but_the_explorer_is_there(browser, run):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((run[0] / "report.html").as_uri())
    assert "The explorer needs JavaScript" in page.text_content("noscript")
    assert not page.is_visible("#app")
    assert page.is_visible("#figure-4 .claims")
    context.close()


def test_plots_of_dvc_open_with_the_network_off_and_show_both_revisions(browser, run, tmp_path):
    import vl_convert

    for name in ("metrics", "plots"):
        shutil.copytree(run[0] / name, tmp_path / name)
    shutil.copytree(ROOT / ".dvc" / "plots", tmp_path / ".dvc" / "plots")
    (tmp_path / ".dvc" / "config").write_text("[plots]\n    html_template = plots/page.html\n")
    table = "metrics/fractions/fake.csv"
    plot = {"template": "against_size", "x": {table: "K"}, "y": {table: ["memorized", "spurious"]}}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"plots": [{"fractions": plot}]}))
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    (tmp_path / "plots" / "vega.js").write_text(vl_convert.javascript_bundle())
    rows = pd.read_csv(tmp_path / table).assign(memorized=0.123)
    write_csv(tmp_path / table, rows.assign(spurious=rows.spurious.where(rows.K.min() < rows.K)))
    subprocess.run([sys.executable, "-m", "dvc", "plots", "diff", "HEAD", "workspace", "-q"], cwd=tmp_path, check=True)
    context = browser.new_context(offline=True)
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
    page.goto((tmp_path / "dvc_plots" / "index.html").as_uri())
    page.wait_for_selector("#fractions svg")
    labels = page.locator("#fractions svg text").all_text_contents()
    assert {"workspace", "HEAD", "memorized", "spurious"} <= set(labels)
    lines = page.locator('#fractions svg path[aria-roledescription="line mark"]')
    assert lines.count() == 4  # two types at two revisions
    points = page.locator('#fractions svg path[aria-roledescription="point"]')
    assert points.count() == 4 * len(rows) - 1  # a size without a value has no point, where it had one at 0
    assert not asked
    context.close()


@pytest.fixture
def large():
    """A folder for 1 GB, gone after the test."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_at_the_papers_scale_the_page_is_below_40_mb_and_answers_a_drag(opened, large):
    sizes = [2 + 1600 * k for k in range(38)]
    found = make_run(large, sizes, 200_000)
    kinds = pd.DataFrame([(kind, method) for kind in (*TYPES, "training") for method in ("central", "jacobian")])
    spectra = kinds.set_axis(["type", "method"], axis=1).merge(pd.DataFrame({"rank": np.arange(1, 3073)}), "cross")
    for size in sizes:  # N of CIFAR10
        values = (100 / spectra["rank"]).round(4)
        write_csv(large / f"metrics/spectra/fake/{size}.csv", spectra.assign(K=size, mean=values, std=values / 10))
    write_report(large, large / "report.html")
    assert (large / "report.html").stat().st_size < 40e6
    page = opened(large / "report.html", viewport={"width": 1200, "height": 900})
    page.evaluate("""async () => {
        const slider = document.getElementById("range-m");
        for (let k = 0; k < 20; k++) {
            slider.value = +slider.value + (k % 2 ? 3 : -2);
            slider.dispatchEvent(new Event("input"));
            await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
        }
    }""")
    delta_m = float(re.search(r"delta_m=(\S+)", page.input_value("#command"))[1])
    np.testing.assert_array_equal(shown(page), counted(found, delta_m, 0.35))
