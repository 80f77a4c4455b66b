"""Every number that the pages quote from a committed table is that of the table: `numbers.txt` says which.

python tests/test_numbers.py            # file, line, what stands, what should stand
python tests/test_numbers.py --fix      # writes what should stand
python tests/test_numbers.py --unheld   # decimals and percentages that no table is committed for
"""

import json
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from attractors.results.run import half_memorized, spurious_peak  # noqa: E402

SETS = {"digits": "metrics/{}/digits.csv", "cifar10": "docs/desk/cifar10_{}.csv", "mnist": "docs/desk/mnist_{}.csv",
        "fashion": "docs/desk/fashion_mnist_{}.csv"}
WHOLE = ("README.md", "docs/findings.md")  # pages on which every decimal and percentage must be held
BLOCK = re.compile(r"<!-- begin (.+?) -->\n(.*?)<!-- end -->", re.DOTALL)
CODE_OR_LINK = re.compile(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", re.DOTALL)
NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?%?"
# Statements of the README's table: its words, and a pattern that finds the row of the table of claims.
STATEMENTS = {
    "The spurious fraction peaks inside the range of K": r"spurious fraction peaks",
    "Basins shrink from memorized to spurious samples":
        r"Basins of memorized samples are larger than of spurious ones$",
    "Basins shrink from spurious to generalized samples":
        r"Basins of spurious samples are larger than of generalized ones$",
    "The energy curves in more directions around memorized samples than around generalized ones":
        r"memorized samples the energy curves in more directions.*Jacobian",
    "Spurious samples have a lower energy than generalized ones": r"spurious samples have a lower.* than generalized",
}


def csv(name):
    return pd.read_csv(ROOT / name)


def by(table, column):
    return {row[column]: SimpleNamespace(**row) for row in table.to_dict("records")}


@cache
def tables():
    """{name in numbers.txt: what the committed tables hold}."""
    fractions = {name: csv(path.format("fractions")) for name, path in SETS.items()}
    fractions |= {f"digits_{form}": csv(f"metrics/fractions/digits-{form}.csv") for form in ("exact", "linear")}
    claims = {name: by(csv(path.format("claims")), "claim") for name, path in SETS.items()}
    rows = [row for part in json.loads((ROOT / "benchmarks/results.json").read_text())["parts"].values()
            for row in part["rows"]]
    seeds = csv("docs/second_seed_claims.csv")
    dispersion = csv("metrics/dispersion/digits.csv").set_index(["table", "quantity"]).dispersion
    return {name: table.set_index("K") for name, table in fractions.items()} | {
        "models": {name: int(table.replicates.sum()) for name, table in fractions.items()},
        "half": {name: half_memorized(table) for name, table in fractions.items()},
        "peak": {name: spurious_peak(table) for name, table in fractions.items()},
        "claims": claims,
        "verdicts": {name: Counter(row.verdict for row in rows.values()) for name, rows in claims.items()},
        "thresholds": {name: csv(path.format("thresholds")).set_index("K") for name, path in SETS.items()},
        "limits": {name: csv(path.format("thresholds")).delta_m.agg(["min", "max"]) for name, path in SETS.items()},
        "summary": json.loads((ROOT / "metrics/summary/digits.json").read_text()),
        "crossings": by(csv("metrics/crossings/digits.csv"), "yardstick"),
        "dispersion": dispersion.groupby("table").agg(["min", "max"]).T,
        "seeds": by(seeds, "claim"),
        "seeds_count": {"all": len(seeds), "same": int((seeds.verdict_3407 == seeds.verdict_4211).sum())},
        "bench": {f"{row['part']}; {row['peer']}": row["value"] for row in rows},
    }


def row(*cells):
    return f"| {' | '.join(cells)} |"


def ranged(at, kind, form=".2f"):
    return f"{at[kind]:{form}} ({at[f'{kind}_low']:{form}} to {at[f'{kind}_high']:{form}})"


def effect(claim):
    """The effect of a claim with the 95% interval of this row alone, where the table has it."""
    ends = (claim.low_95, claim.high_95) if hasattr(claim, "low_95") else (claim.low, claim.high)
    effect, low, high = (f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.2g}" for value in (claim.effect, *ends))
    return f"{effect} ({low} to {high})"


def statement(claims, pattern):
    cells = [f"{effect(claim)}: {claim.verdict}" for name, claim in claims.items() if re.search(pattern, name)]
    return cells[0] if cells else "not tested"


def results():
    """The README's table: ten rows, a column for each dataset."""
    known = tables()
    cells = {
        "": ["8 x 8 digits", "CIFAR-10", "MNIST", "Fashion-MNIST"],
        "Trained networks": [str(known["models"][name]) for name in SETS],
        "K where half of the samples are memorized": [f"{known['half'][name]:.0f}" for name in SETS],
        "Largest spurious fraction (95% interval)": [ranged(known["peak"][name], "spurious") for name in SETS],
        "K of that fraction": [f"{known['peak'][name].K:.0f}" for name in SETS],
        "Generalized at the largest K": [f"{known[name].generalized.iloc[-1]:.1%}" for name in SETS],
    } | {words: [statement(known["claims"][name], pattern) for name in SETS] for words, pattern in STATEMENTS.items()}
    lines = [row(label, *values) for label, values in cells.items()]
    ruled = {name: any(hasattr(claim, "low_95") for claim in rows.values()) for name, rows in known["claims"].items()}
    earlier = "*Intervals and verdicts on MNIST and Fashion-MNIST are by an earlier rule, which makes them too narrow.*"
    return [lines[0], "|---|---|---|---|---|", *lines[1:], *(["", earlier] if len(set(ruled.values())) == 2 else [])]


def claims():
    """The table of claims of the default run."""
    lines = [row("statement", "where", "effect, 95% interval of this row", "verdict"), "|---|---|---|---|"]
    return lines + [row(claim.claim, claim.source, effect(claim), claim.verdict)
                    for claim in tables()["claims"]["digits"].values()]


def fractions(name):
    """The fractions of every type, a row for each K, with intervals where there are replicates."""
    kinds = ("memorized", "spurious", "generalized")
    lines = [row("K", "networks", *kinds), "|---|---|---|---|---|"]
    return lines + [row(str(size), f"{at.replicates:.0f}", *(f"{at[kind]:.3f}" if at.replicates == 1 else
                                                             ranged(at, kind, ".3f") for kind in kinds))
                    for size, at in tables()[name].iterrows()]


BLOCKS = {"results": results, "claims": claims} | {
    f"fractions of {name}": lambda name=name: fractions(name) for name in SETS}


class Sentence:
    """A sentence of a page in which {fields} are values from tables, as str.format writes them.

    One that begins with "= " was measured once, and no table of it is committed: its words are held as they are.
    """

    def __init__(self, page, template):
        self.page, self.template, self.once = page, template.removeprefix("= "), template.startswith("= ")

    def should(self):
        return [part.format(**tables()) for part in re.findall(r"\{[^{}]+\}", self.template)]

    def spans(self, text):
        """Where the fields of the sentence stand in the text of its page: (begin, end) of each, or None."""
        parts = re.split(r"\{[^{}]+\}", self.template)
        pattern = rf"({NUMBER}|holds|does not hold|cannot be told)".join(
            r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in parts)
        match = re.search(pattern, text)
        return match and [match.span(i + 1) for i in range(len(parts) - 1)]

    def held(self, text):
        """Where numbers of the sentence stand that it holds."""
        if not self.once:
            return self.spans(text) or []
        match = re.search(r"\s+".join(map(re.escape, self.template.split())), text)
        return [match.span()] if match else []


def sentences():
    page = ""
    for line in (ROOT / "tests/numbers.txt").read_text("utf-8").splitlines():
        if line.startswith("# ") or not line.strip():
            continue
        if line.endswith(".md"):
            page = line
        else:
            yield Sentence(page, line)


def block_spans(text):
    return {match[1]: match.span(2) for match in BLOCK.finditer(text)}


def corrections(page):
    """Yield (begin, end, what should stand there) for every number and block of a page that differs from its table."""
    text = (ROOT / page).read_text("utf-8")
    for name, (begin, end) in block_spans(text).items():
        should = "\n".join(BLOCKS[name]()) + "\n"
        if text[begin:end] != should:
            yield begin, end, should
    for sentence in sentences():
        if sentence.page == page:
            place = sentence.spans(text) if not sentence.once else [] if sentence.held(text) else None
            if place is None:
                raise ValueError(f"{page}: no such sentence, though tests/numbers.txt has it: {sentence.template}")
            for (begin, end), should in zip(place, sentence.should() if place else [], strict=True):
                if text[begin:end] != should:
                    yield begin, end, should


def differences(page):
    """What differs, for people: FILE:LINE: 'what stands' should be 'what the table has'."""
    text = (ROOT / page).read_text("utf-8")
    for begin, end, should in corrections(page):
        first = text.count("\n", 0, begin) + 1
        if "\n" not in should:
            yield f"{page}:{first}: {text[begin:end]!r} should be {should!r}"
            continue
        stands, right = text[begin:end].splitlines(), should.splitlines()
        for number in range(max(len(stands), len(right))):
            pair = [lines[number] if number < len(lines) else "" for lines in (stands, right)]
            if pair[0] != pair[1]:
                yield f"{page}:{first + number}: {pair[0]!r} should be {pair[1]!r}"


def fix(page):
    text = (ROOT / page).read_text("utf-8")
    for begin, end, should in sorted(corrections(page), reverse=True):
        text = text[:begin] + should + text[end:]
    (ROOT / page).write_text(text, "utf-8")


def unheld(page):
    """Yield FILE:LINE: NUMBER for the decimals and percentages that neither a block nor a sentence holds."""
    text = (ROOT / page).read_text("utf-8")
    held = [*block_spans(text).values(), *(match.span() for match in CODE_OR_LINK.finditer(text))]
    held += [span for sentence in sentences() if sentence.page == page for span in sentence.held(text)]
    for match in re.finditer(r"\d[\d,]*\.\d+|(?<!\d)\.\d+|\d+%", text):
        if not any(begin <= match.start() < end for begin, end in held):
            yield f"{page}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"


def pages():
    return ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", pages())
def test_numbers_on_a_page_are_those_of_its_tables(page):
    assert not list(differences(page)), "python tests/test_numbers.py --fix writes what the tables have"


@pytest.mark.parametrize("page", WHOLE)
def test_every_decimal_of_a_page_is_held(page):
    assert not list(unheld(page))


def test_a_changed_number_is_named_with_its_line_and_fixed(tmp_path, monkeypatch):
    for page in WHOLE:
        text = (ROOT / page).read_text("utf-8")
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text(text, "utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/numbers.txt").write_bytes((ROOT / "tests/numbers.txt").read_bytes())
    tables()  # of the checkout
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for page in WHOLE:
        text = (tmp_path / page).read_text("utf-8")
        spans = [span for s in sentences() if s.page == page for span in s.spans(text)]
        blocks = block_spans(text).values()
        numbers = [m for m in re.finditer(r"0\.\d+", text) if any(b <= m.start() < e for b, e in blocks)]
        for begin, end in [*spans[:1], numbers[0].span()]:
            (tmp_path / page).write_text(f"{text[:begin]}0.123456{text[end:]}", "utf-8")
            (line,) = differences(page)
            assert line.startswith(f"{page}:{text.count(chr(10), 0, begin) + 1}: ")
            assert "0.123456" in line
            fix(page)
            assert (tmp_path / page).read_text("utf-8") == text


if __name__ == "__main__":
    option = sys.argv[1] if len(sys.argv) > 1 else ""
    for name in pages():
        for line in unheld(name) if option == "--unheld" else differences(name):
            print(line)
        if option == "--fix":
            fix(name)
