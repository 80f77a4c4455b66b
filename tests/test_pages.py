"""The examples with which pages begin run as they stand, in at most twelve lines and a minute of the processor each."""

import re
import subprocess
import time

import numpy as np
import pytest
from conftest import ROOT

PAGES = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in sorted((ROOT / "docs").rglob("*.md"))}
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
EXAMPLES = {page: match[1] for page, text in PAGES.items() if (match := CODE.search(text))}
WITHOUT = {"docs/index.md", "docs/tutorial.md", "docs/commands.md"}  # lists of links and commands


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with training.npz and samples.npz, of which 3 in 8 are copies, and the committed results."""
    random = np.random.default_rng(0)
    training = random.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    samples = np.concatenate([training[:3], random.integers(0, 256, (5, 8, 8, 3), np.uint8)])
    for name, images in {"training": training, "samples": samples}.items():
        np.savez(tmp_path / f"{name}.npz", images=images)
    for name in ("metrics", "dvc.yaml", "models", "params.yaml", "runs.yaml", "results", "sweeps", "docs", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", EXAMPLES)
def test_the_example_of_a_page_runs(page, folder, capsys):
    code = EXAMPLES[page]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    begin = time.process_time()  # of the processor: other work on the machine does not count
    exec(compile(code, page, "exec"), {})
    assert time.process_time() - begin < 60
    output = capsys.readouterr().out
    assert output.strip()
    if page == "docs/own_samples.md":
        assert re.search(r"'memorized'\)?: (np.float64\()?0.375", output)


def test_every_page_begins_with_an_example():
    console = {page for page, text in PAGES.items() if re.search(r"```console", text[:1200])}
    assert set(PAGES) - set(EXAMPLES) - console - WITHOUT <= {"docs/desk/README.md"}


def test_links_between_pages_lead_to_files_and_headings():
    texts = PAGES | {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md")}
    for page, text in texts.items():
        for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if "://" in target or target.startswith(("reference/", "commands.md")):  # generated
                continue
            path, _, heading = target.partition("#")
            file = (ROOT / page).parent / path if path else ROOT / page
            assert file.exists(), f"{page}: {target}"
            if heading:
                headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
                assert heading in slugs, f"{page}: {target}"


@pytest.mark.parametrize(("recipe", "files", "lines"), [
    (name, int(files), int(lines)) for files, lines, name in re.findall(
        r": (\d+) files, (\d+) lines\*\*\s+\(\[(\w+)\.patch\]", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))])
def test_a_recipe_applies_and_touches_as_much_as_it_says(recipe, files, lines):
    patch = ROOT / f"docs/recipes/{recipe}.patch"
    command = ["git", "apply", "--check", "-C1", patch]
    check = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr
    text = patch.read_text("utf-8")
    assert (len(re.findall("^diff --git", text, re.MULTILINE)),
            len(re.findall(r"^(?:\+(?!\+\+)|-(?!--))", text, re.MULTILINE))) == (files, lines)
