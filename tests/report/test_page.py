"""The page and the Markdown summary of a run: whole, harmless, and of a bearable size."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from pytest_pyhf_faas.campaign.times import PARTS
from pytest_pyhf_faas.report import answer, markdown, page
from pytest_pyhf_faas.report.document import read
from pytest_pyhf_faas.report.scaling import PART_TITLES
from pytest_pyhf_faas.schemas import accepted_by_own_schema
from tests.helpers import report_documents as documents
from tests.helpers.paths import STORED

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
HOSTILE = (
    "<script>alert(1)</script>\"' onerror=alert(1) {{ 7 * 7 }} {% raw %} </pre></details></style>"
    "\n```\n</details>\n# heading | **bold** [link](http://example.org) ![i](x.png) `code`\n"
    "http://www.example.org a@example.org <img src=x onerror=alert(1)> \x00 \x1b[31m &lt;"
)
LIMIT = 3_000_000


@dataclass(frozen=True)
class FakePlot:
    name: str
    title: str = "A plot"
    alt: str = "it shows something"
    analysis: int | None = None
    svg: bytes = SVG
    png: bytes = b""


class Page(HTMLParser):
    """What a browser would find: elements, their attributes, and text."""

    VOID = frozenset({"meta", "img", "br", "wbr"})
    OPTIONAL = frozenset({"tr", "td", "th", "li", "thead", "tbody"})

    def __init__(self, source):
        super().__init__()
        self.elements = []
        self.pieces = []
        self.open = []
        self.wrong = []
        self.feed(source)
        self.close()
        self.text = "".join(self.pieces)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID | self.OPTIONAL:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.OPTIONAL and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)

    def handle_data(self, data):
        self.pieces.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def rendered(document, plots=()):
    assert accepted_by_own_schema(document, "report.schema.json")
    source = page.render(document, plots)
    found = Page(source)
    assert found.wrong == []
    assert found.open == []
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {
        tag for tag, _attributes in found.elements
    }
    for _tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:image/svg+xml;base64,").startswith("data:image/")
    assert not re.search(r"url\(|@import", source)
    return source, found


def poisoned(value, *, at=""):
    """Return a document in which every text that the schema leaves free is hostile."""
    fixed = {
        "id", "began_at", "ended_at", "outcome", "verdict", "status", "unit", "tests",
        "minimum_set", "was_at", "worker_sha256",
    }  # fmt: skip
    if isinstance(value, dict):
        free = at in ("versions", "threads", "values", "again")
        return {
            (HOSTILE if free else name): each if name in fixed else poisoned(each, at=name)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [poisoned(each, at=at) for each in value]
    numbers = ("CLs", "lowest", "nominal", "mu_hat")
    if isinstance(value, str) and not (at in numbers and value in ("nan", "inf", "-inf")):
        return HOSTILE
    return value


def everything():
    """A document that has some of all there is."""
    found = [
        documents.hypothesis("right_1"),
        documents.wrong("wrong_1", CLs=["nan", "inf", "-inf", 0.1, 0.2, 0.3], warnings=["careful"]),
        documents.broken("broken_1", message="killed\nby signal 9"),
        documents.hypothesis("no_reference_1", reference=None, verdict="no reference", within=None),
        documents.hypothesis("known_1", verdict="known issue", outcome="xfailed"),
        documents.ambiguous("two_1", ambiguous={"was_at": "lowest"}),
    ]
    return documents.document(
        [
            documents.analysis(found, wall_time=None, not_measured="1 of 6 fits broke: signal 9"),
            documents.analysis([], timeline=None),
        ],
        scaling=[documents.scaling(refused=[{"count": 8, "reason": "no more than 4 seen"}])],
        notes=["a note of the run"],
        endpoints=[
            {
                "endpoint": "local:2",
                "findings": [{"name": "round_trip", "text": "12 ms", "values": {"s": 0.012}}],
                "failures": [{"name": "clock", "text": "its clock is ahead"}],
            }
        ],
        run={
            "failures": [{"test": "test_mine", "outcome": "failed", "text": "assert 1 == 2"}],
            "fits": {"sent": 2, "again": {"worker lost": 1}, "taken_over": 0, "collected": 0},
        },
    )


# The page


def test_the_answer_comes_first_and_is_not_told_by_colour_alone():
    _source, found = rendered(documents.document([documents.analysis([documents.wrong()])]))
    body = found.text[found.text.index("✗ wrong") :]
    assert body.index("The one hypothesis of wino is wrong.") < body.index("Analyses")
    assert found.all("header") == [{"class": "wrong"}]


def test_known_issues_do_not_stand_under_right():
    known = documents.hypothesis("known_1", verdict="known issue", outcome="xfailed")
    made = documents.document([documents.analysis([documents.hypothesis(), known])])
    _source, found = rendered(made)
    assert found.all("header") == [{"class": "known"}]
    assert "≈ as known" in found.text
    assert "✓ right" not in found.text[: found.text.index("Analyses")]


def test_everything_is_on_the_page_failures_first():
    source, found = rendered(everything(), [FakePlot("wall_time"), FakePlot("plane-x", analysis=0)])
    expected = [
        "2026-11-22 15:08:23 UTC", "1 min 37 s",
        "2 fits sent to workers, 1 of them sent again (worker lost: 1)",
        "20261122T150823Z-0123abcd",
        "wall time not measured: 1 of 6 fits broke: signal 9", "a note of the run",
        "Analyses", "42.0 ± 2.8", "Failures", "its clock is ahead", "wrong_1", "✗ outside",
        "verdict: the formulae changed", "pytest --faas-pallet=wino --faas-patch=wrong_1",
        "careful", "broken_1", "by signal 9", "assert 1 == 2",
        "Without a reference", "no_reference_1",
        "Ambiguous hypotheses", "two_1", "nominal (was lowest)", "0.0684", "0.0435",
        "excluded only at the nominal", "fixed poi fit to data", "mu_W 0 (nominal: 1.02)",
        "Plots", "The run", "wino on local:2, numpy+scipy",
        "Where the time went", "start-up", "unattributed", "100.0%", "Scaling", "Serial fraction",
        "8 workers, not measured: no more than 4 seen",
        "Endpoints, before the fits", "round trip", "12 ms", "Environments", "1.17.1 ≠ 1.17.0",
        "All hypotheses", "known issue", "Run it again",
        "pytest --faas-pallet wino --funcx-endpoint local:2", "report.json",
    ]  # fmt: skip
    place = 0
    for text in expected:
        assert text in found.text[place:], text
        place = found.text.index(text, place)
    assert "default-src 'none'" in source


def test_the_table_of_a_failure_has_six_rows_and_stands_there_once():
    _source, found = rendered(documents.document([documents.analysis([documents.wrong()])]))
    for label in ("CLs_exp -2σ", "CLs_exp +2σ"):
        assert found.text.count(label) == 1
    assert found.text.count("✗ outside") == 6
    assert found.text.count("wino_300_100: CLs differs from the reference") == 1


def test_upper_limits_have_a_section_and_their_failures_a_table():
    remark = "no limit: CLs is above 0.05 up to mu = 100"
    two = {"lowest": [0.9, *[1.0] * 5], "nominal": [1.1, *[1.0] * 5]}
    made = documents.limits(
        [
            documents.wrong_limit("off"),
            documents.limited("two", limits={"values": two["lowest"], **two}),
            documents.limited("none", limits={"values": ["inf", *[1.0] * 5], "remarks": [remark]}),
            documents.broken("lost"),
        ]
    )
    document = documents.document([documents.analysis(), made])
    assert accepted_by_own_schema(document, "report.schema.json")
    source, found = rendered(document)
    card = found.text.partition("Failures")[2].partition("On the signal strength")[0]
    assert card.count("limit_obs") == 1
    assert card.count("✗ outside") == 6
    assert "tolerance 0.001 relative" in card
    section = found.text[found.text.rindex("On the signal strength") :].partition("Plots")[0]
    assert "2 of 3 are excluded at 95 % CL: limit_obs < 1" in section
    assert "0.9 at the lowest minima; 1.1 at the nominal minima" in section
    assert re.search(rf"none300, 100inf1{{5}}inf0✓ right{remark}", section)
    assert re.search(r"lost\s*300, 100\s*(–\s*)+⊘ broken", section)
    listing = source[source.index("<h2>All hypotheses") :]
    assert "upper limits" not in listing
    observed = 1.02 * documents.limits_of(300, 100)[0]
    assert f"{observed:.8g}" in card
    assert f"{observed:.4g}" in section


@pytest.mark.parametrize(
    "document",
    [
        documents.document([]),
        documents.document([documents.analysis([])]),
        documents.document([documents.analysis(wall_time=None, timeline=None, reference=None)]),
        documents.document(environments=[], endpoints=[], run={"interrupted": True}),
        documents.document(
            [
                documents.analysis(
                    [documents.broken(status=None, verdict="not run", title="", error=None)]
                )
            ]
        ),
        documents.document(
            [documents.analysis([documents.hypothesis("n" * 300, ("v" * 300, 1), CLs=None)])]
        ),
        documents.document(
            [
                documents.analysis(
                    wall_time={
                        "test": "t",
                        "trials": [
                            dict.fromkeys(documents.trial(), 0) | {"workers": 1}
                        ],
                    }
                )
            ]
        ),
    ],
    ids=["nothing", "empty", "bare", "interrupted", "not run", "long", "no time"],
)  # fmt: skip
def test_what_is_absent_breaks_nothing(document):
    _source, found = rendered(document)
    assert answer.verdict(document) in found.text
    assert answer.state(document).value in markdown.summarize(document)


def test_nothing_takes_effect():
    hostile = poisoned(everything())
    plots = [FakePlot("wall_time", title=HOSTILE, alt=HOSTILE)]
    source, found = rendered(hostile, plots)
    assert HOSTILE.partition("\n")[0] in found.text
    assert "49" not in source.partition("</style>")[2].partition("<h2>")[0]
    assert len(found.all("img")) == 1


def test_plots_are_part_of_the_page_and_have_captions():
    plots = [FakePlot("timeline-wino", "Timeline"), FakePlot("new_kind", "New", analysis=0)]
    source, found = rendered(documents.document(), plots)
    assert [base64.b64decode(img["src"].partition(",")[2]) for img in found.all("img")] == [SVG] * 2
    assert [img["alt"] for img in found.all("img")] == ["it shows something"] * 2
    assert source.count("<figcaption>") == 2
    assert "gaps are time without a task" in found.text


@pytest.mark.parametrize("stored", sorted(path.name for path in (STORED / "reports").iterdir()))
def test_a_report_of_an_earlier_version_has_a_page(stored):
    source = page.render(read(STORED / "reports" / stored), ())
    assert source.endswith("</html>")


def test_long_names_lose_their_middle_in_tables_and_are_whole_on_hover():
    name = f"C1N2_{'very_' * 25}long_700_100"
    found = [documents.ambiguous(name, (700, 100)), documents.hypothesis("short")]
    analysis = documents.analysis(found, pallet=f"pallet_{'of_' * 40}mine")
    source, found = rendered(documents.document([analysis]))
    cells = [
        re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>([^\n]*?)<(?:td|/td)", source)
    ]
    assert max(map(len, cells)) < len(name)
    whole = {attributes["title"] for attributes in found.all("span") if "title" in attributes}
    assert {name, analysis["pallet"]} <= whole
    assert "short" not in whole


def test_on_a_narrow_page_each_cell_of_a_stacked_table_names_itself():
    source, _found = rendered(everything())
    stacked = re.findall(r'<table class="stack">.*?</table>', source, re.DOTALL)
    assert len(stacked) == 3
    for table in stacked:
        header, *rows = re.findall("<tr>.*?</tr>", table, re.DOTALL)
        columns = re.findall("<th[^>]*>(.*?)</th>", header)
        for row in rows:
            assert re.findall('<td data-label="([^"]*)"', row) == columns
            assert row.count("<td") == len(columns)


def test_what_is_wrong_comes_before_what_broke_in_another_analysis():
    made = [
        documents.analysis([documents.broken("b_1")]),
        documents.analysis([documents.wrong("w_1")]),
    ]
    _source, found = rendered(documents.document(made))
    assert found.text.index("wino / w_1") < found.text.index("wino / b_1")


def test_equal_errors_are_shown_once():
    same = [documents.broken(f"p_{i}", message="the very same " * 30) for i in range(3)]
    other = documents.broken("p_3", message="another one")
    _source, found = rendered(documents.document([documents.analysis([*same, other])]))
    assert found.text.count("the whole error of the worker") == 2
    links = [attributes["href"] for attributes in found.all("a")]
    assert links == ["#failure-0"] * 2
    assert {"class": "card broken", "id": "failure-0", "open": None} in found.all("details")


def without_reference(patch, cls_obs=0.02, why="there is no wino.json in refs"):
    made = documents.hypothesis(patch, (300, 100), reference=None, within=None)
    title = f"wino / {patch}: no reference"
    own = f"CLs_obs = {cls_obs:.4g}, CLs_exp = 0.3"
    text = f"{title}\n  {own}\n  {why}\n  make it: --faas-update=new"
    return made | {
        "verdict": "no reference",
        "outcome": "failed",
        "title": title,
        "text": text,
        "CLs": [cls_obs, *made["CLs"][1:]],
    }


def test_hypotheses_without_a_reference_are_one_table_of_each_reason():
    made = [without_reference(f"p_{i}", 0.02 + 0.02 * i) for i in range(12)]
    made.append(without_reference("of_another", why="wino.json does not have this patch"))
    document = documents.document([documents.analysis(made)])
    source, found = rendered(document)
    assert "<h2>Failures</h2>" not in source
    assert found.text.count("there is no wino.json in refs") == 1
    section = found.text.partition("Without a reference")[2].partition("Plots")[0]
    assert "12 hypotheses of wino on local:2, numpy+scipy" in section
    assert "2 of 12 are excluded at 95 % CL: CLs_obs < 0.05" in section
    assert "1 hypothesis of wino" in section
    assert re.search(r"p_11\s*300, 100\s*0.24\s*0.\d+\s*no", section)
    summary = markdown.summarize(document)
    assert summary.count("<details>") == 2
    assert "p_11" in summary


def test_limits_without_a_reference_are_a_table_as_well():
    made = [
        documents.limited(
            f"p_{i}",
            limits={"values": [0.5 + i, *[1.0] * 5], "reference": None},
            verdict="no reference",
            outcome="failed",
            within=None,
            title=f"wino / p_{i}: no reference",
            text=f"wino / p_{i}: no reference\n  limit_obs = {0.5 + i}, limit_exp = 1\n  why",
        )
        for i in range(3)
    ]
    document = documents.document([documents.limits(made)])
    _source, found = rendered(document)
    section = found.text.partition("Without a reference")[2].partition("On the signal")[0]
    assert "3 hypotheses of wino on local:2, numpy+scipy, upper limits" in section
    assert "1 of 3 is excluded at 95 % CL: limit_obs < 1" in section
    assert re.search(r"p_2\s*300, 100\s*2.5\s*1\s*no", section)
    assert "limit_exp" in markdown.summarize(document)


def test_a_discovery_test_excludes_nothing():
    config = documents.analysis()["config"] | {"test_stat": "q0"}
    made = documents.analysis([without_reference("p_0")], config=config)
    _source, found = rendered(documents.document([made]))
    assert "excluded" not in found.text


def big(hypotheses):
    return documents.document([documents.analysis(hypotheses)])


def name(i):
    return f"C1N2_Wh_hbb_{150 + i}_{i % 97}"


BIG = {
    "right": lambda: [documents.hypothesis(name(i), (i, i % 97)) for i in range(10_000)],
    "half wrong": lambda: [
        (documents.wrong if i % 2 else documents.hypothesis)(name(i), (i, i % 97))
        for i in range(10_000)
    ],
    "long errors": lambda: [
        documents.broken(name(i), message=f"{i} " + "<'\"&>σ " * (140_000 if i < 3 else 200))
        for i in range(10_000)
    ],
    "no reference": lambda: [
        without_reference(name(i), why="<" * 400 + f" {i % 500}") for i in range(10_000)
    ],
    "ambiguous": lambda: [
        documents.ambiguous(
            name(i),
            (i, i % 97),
            ambiguous={
                "parameters": [{"name": "<" * 300, "lowest": 0.0, "nominal": 1.0}] * 3,
                "at_bound": ["'" * 300] * 50,
            },
        )
        for i in range(10_000)
    ],
    "long names": lambda: [
        documents.wrong("<" * 290 + str(i), ("'" * 300, i)) for i in range(10_000)
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", BIG)
def test_ten_thousand_hypotheses_make_a_page_that_opens(kind):
    document = big(BIG[kind]())
    source = page.render(document, [])
    assert len(source.encode()) <= LIMIT
    assert Page(source).wrong == []
    assert len(markdown.summarize(document).encode()) <= markdown.MOST_BYTES


def test_all_rows_of_ten_thousand_hypotheses_have_room():
    source = page.render(big(BIG["right"]()), [])
    assert f"<td>{name(9_999).replace('_', '_<wbr>')}<td>" in source


def test_what_was_not_measured_has_no_section_and_no_legend():
    empty = {"endpoint": "local", "findings": [], "failures": []}
    analysis = documents.analysis([documents.hypothesis()], wall_time=None)
    source = page.render(documents.document([analysis], endpoints=[empty]), [])
    assert "before the fits" not in source
    assert "Single worker: not measured" not in source


def test_what_has_no_room_is_said_to_be_in_the_json():
    failing = [documents.wrong(f"p_{i}") for i in range(page.MOST_FAILURES + 7)]
    _source, found = rendered(big(failing))
    assert "7 more failures" in found.text
    assert f"p_{page.MOST_FAILURES + 6}: wrong" in found.text
    long_names = [documents.hypothesis("n" * 1000 + str(i)) for i in range(2_000)]
    _source, found = rendered(big(long_names))
    assert re.search(r"The first \d+ of 2000; report.json has all of them", found.text)


def test_only_the_first_ambiguous_hypotheses_have_room():
    made = big([documents.ambiguous(name(i)) for i in range(3_000)])
    _source, found = rendered(made)
    assert re.search(r"The first \d+ of 3000; report.json has all of them", found.text)
    assert "3000 hypotheses are ambiguous" in found.text


def test_a_long_error_keeps_its_beginning_and_end_and_says_what_is_cut():
    error = {"type": "E", "message": "begin " + "x" * 2_000_000, "traceback": "ValueError: the end"}
    hypothesis = documents.broken(status="error", verdict="error", error=error)
    _source, found = rendered(big([hypothesis]))
    assert "E: begin xxx" in found.text
    assert "ValueError: the end" in found.text
    assert "characters are left out: report.json has the full text" in found.text
    assert len(found.text) > 0.9 * page.TEXT_BYTES


def test_an_error_within_the_room_is_whole_however_long_the_others_are():
    short = "y" * 50_000
    errors = [documents.broken("a", message="x" * 3_000_000), documents.broken("b", message=short)]
    _source, found = rendered(big(errors))
    assert f"broken: {short}\n" in f"{found.text}\n"


def test_the_parts_of_the_time_are_all_there():
    _source, found = rendered(documents.document())
    section = found.text.partition("Where the time went")[2].partition("Endpoints")[0]
    for part in PARTS:
        assert PART_TITLES.get(part, part) in section


# The Markdown


def parsed(text):
    parser = MarkdownIt("commonmark").enable("table")
    return parser.render(text)


def test_the_summary_shows_what_is_needed():
    text = markdown.summarize(everything())
    shown = parsed(text)
    plain = html.unescape(re.sub(r"<[^>]*>", "", shown)).replace("\u200b", "")
    for expected in (
        "❌ wrong: 1 of 6 hypotheses of wino in 2 analyses is wrong",
        (
            "Two sets of minima: 1 hypothesis is ambiguous (the exclusion depends on the minimum "
            "for 1): two_1"
        ),
        "42.0 ± 2.8",
        "a note of the run",
        "wino on local:2, numpy+scipy: wall time not measured: 1 of 6 fits broke: signal 9",
        "local:2: clock",
        "wrong: wino / wrong_1: CLs differs from the reference",
        "verdict: the formulae changed",
        "scipy 1.17.1 (reference: 1.17.0)",
        "pytest --faas-pallet wino --funcx-endpoint local:2",
    ):
        assert expected in plain
    assert shown.count("<table>") == 1


def test_nothing_takes_effect_in_the_summary():
    shown = parsed(markdown.summarize(poisoned(everything())))
    tags = set(re.findall(r"<(\w+)", shown))
    assert tags <= {
        "h2", "p", "ul", "li", "pre", "code", "table", "thead", "tbody", "tr", "th", "td",
        "details", "summary",
    }  # fmt: skip
    assert shown.count("<h2>") == 1
    # Of the failures the endpoint's and the other test's have one text, and are one.
    assert shown.count("<details>") == shown.count("</details>") == 4


@pytest.mark.parametrize(
    "text", ["1. one", "- item", "> quote", "# head", "+ plus", "    code", "---"]
)
def test_a_note_is_no_block_of_markdown(text):
    shown = parsed(markdown.summarize(documents.document(notes=[text])))
    assert shown.count("<ul>") == 2  # the notes, and what differs from the references
    assert not re.search(r"<(ol|blockquote|h1|hr)", shown)
    assert shown.count("<pre>") == 1  # the command


@pytest.mark.parametrize(
    "link", ["http://example.org", "www.example.org", "a@example.org", "@someone", "#12"]
)
def test_a_name_becomes_no_link_on_github(link):
    text = markdown.summarize(documents.document([documents.analysis(pallet=link)]))
    assert link not in text.partition("Command")[0]


def test_a_fence_is_longer_than_those_in_the_text():
    failing = documents.wrong(text="`````\n</details>\n~~~~\n```text")
    shown = parsed(markdown.summarize(big([failing])))
    assert "&lt;/details&gt;" in shown
    assert shown.count("</details>") == 1


def test_only_the_first_failures_are_shown_in_the_summary():
    text = markdown.summarize(big([documents.wrong(f"p_{i}") for i in range(25)]))
    assert text.count("<details>") == markdown.MOST_FAILURES
    assert "5 more failures" in text


def test_halves_of_surrogate_pairs_break_nothing():
    document = big([documents.wrong("a\ud800b")])
    assert "a\ud800b" in page.render(document, [])
    assert "wrong" in markdown.summarize(document)
