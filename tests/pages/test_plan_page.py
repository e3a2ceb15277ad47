"""The plan's page, its section in the report and its files, as a person gets them."""

import html
import json
import re
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenfold.campaign.plan.build import planned
from tenfold.core.errors import InputError
from tenfold.core.text import short
from tenfold.pages.plan import FleetLine, Front, Lever, Plan, Planned, Sensitivity
from tenfold.pages.plan_files import standalone, write_pictures
from tenfold.pages.plan_page import plan_figures, plan_page, plan_table
from tenfold.pages.report import render
from tenfold.planner.cost.layout import Layout, Shape
from tenfold.planner.hardware.cluster import default_cluster
from tests.campaign.browser import open_browser
from tests.campaign.plan.example import found, larger, llama_layouts, llama_plan
from tests.pages.sample import Page, base
from tests.pages.svg import parsed

EVIL = '<script>alert("x")</script>'
PLAN = llama_plan()
ALL = ("step-time", "memory", "front", "fleet", "sensitivity")

# What it says


def test_question_table_and_pictures_are_on_the_page() -> None:
    text = Page(plan_page(PLAN)).text
    assert "How should Llama-3.1-405B (406 billion parameters, context 8,192)" in text
    assert "16,384 × H100-SXM (80 GB each) with 2,048 sequences (16.8 million tokens) in a step, in bf16?" in text
    best = PLAN.layouts[0]
    assert f"1 {best.tensor} {best.context} {best.pipeline} {best.data} {best.expert} zero bubble" in text
    assert f"{best.tokens_per_second:,.0f}" in text
    assert PLAN.notes[0] in text
    for heading in ("Where a step's time goes", "Where memory goes", "Final loss against days"):
        assert heading in text
    assert plan_page(PLAN).count("<svg") == len(ALL)


@pytest.mark.parametrize(
    ("other", "gone"),
    [
        ({"front": None}, "front"),
        ({"front": Front("x", "y", ())}, "front"),
        ({"fleet": ()}, "fleet"),
        ({"fleet": (FleetLine("elastic", ()),)}, "fleet"),
        ({"sensitivity": None}, "sensitivity"),
        ({"sensitivity": Sensitivity("days", ())}, "sensitivity"),
    ],
)
def test_pictures_without_data_are_left_out(other: dict[str, Any], gone: str) -> None:
    assert [figure.name for figure in plan_figures(replace(PLAN, **other))] == [name for name in ALL if name != gone]
    assert "nothing recorded" not in plan_page(replace(PLAN, **other))


def test_extrapolation_is_said_where_it_is_one() -> None:
    assert "extrapolation</td>" not in plan_page(PLAN)
    assert plan_page(larger(PLAN)).count("extrapolation</td>") == len(PLAN.layouts)


def test_whatever_the_words_they_are_escaped() -> None:
    evil = replace(
        PLAN,
        asked=replace(PLAN.asked, cluster=EVIL, model=EVIL, accelerator=EVIL, precision=EVIL),
        sensitivity=Sensitivity(EVIL, (Lever(EVIL, EVIL, 0.1, EVIL, -0.1),)),
        notes=(EVIL,),
    )
    page = plan_page(evil)
    assert "<script" not in page and "&lt;script&gt;" in page and Page(page)


def test_a_page_reads_nothing_from_elsewhere_and_is_the_same_each_time() -> None:
    page = plan_page(PLAN)
    assert page == plan_page(PLAN)
    assert not re.search(r"https?:|<script|src=|@import|url\(", page)


# In the report


def test_the_report_shows_the_plan_it_has() -> None:
    report = {**base(), "layout_plan": json.loads(json.dumps(PLAN.to_dict()))}
    text = Page(render(report)).text
    assert "Plan How should Llama-3.1-405B" in text and "Goodput against the size of the fleet" in text
    assert "How should" not in render(base()) and render({**base(), "layout_plan": None}) == render(base())


# As files


def test_page_and_pictures_are_written(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="the extra [pictures] is not installed")
    written = write_pictures(PLAN, tmp_path / "new" / "plan")
    assert [path.name for path in written] == [
        "plan.html",
        *(f"{name}.svg" for name in ALL),
        *(f"{name}.png" for name in ALL),
    ]
    assert sorted(path.name for path in (tmp_path / "new" / "plan").iterdir()) == sorted(path.name for path in written)
    assert written[0].read_text() == plan_page(PLAN)
    for name in ALL:
        svg = parsed((tmp_path / "new" / "plan" / f"{name}.svg").read_text())
        image = (tmp_path / "new" / "plan" / f"{name}.png").read_bytes()
        assert image[:8] == b"\x89PNG\r\n\x1a\n"
        size = struct.unpack(">II", image[16:24])
        assert size == (2 * float(svg.attrib["width"]), 2 * float(svg.attrib["height"]))
        assert len(image) > 5_000


def test_a_picture_on_its_own_needs_no_page(tmp_path: Path) -> None:
    for figure in plan_figures(PLAN):
        alone = standalone(figure.svg)
        assert "var(" not in alone and "color-mix" not in alone
        assert (
            parsed(alone).attrib["viewBox"] == f"0 0 {parsed(alone).attrib['width']} {parsed(alone).attrib['height']}"
        )


def test_without_the_renderer_the_remedy_is_said_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(InputError, match=r"^PNG pictures need resvg-py: pip install 'tenfold\[pictures\]'$"):
        write_pictures(PLAN, tmp_path / "plan")
    assert not (tmp_path / "plan").exists()
    written = write_pictures(PLAN, tmp_path / "plan", png=False)
    assert [path.suffix for path in written] == [".html"] + [".svg"] * len(ALL)


def test_pictures_without_letters_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resvg = pytest.importorskip("resvg_py", reason="the extra [pictures] is not installed")
    whole = resvg.svg_to_bytes
    monkeypatch.setattr(resvg, "svg_to_bytes", lambda **given: whole(**given, skip_system_fonts=True))
    with pytest.raises(InputError, match="need a font"):
        write_pictures(PLAN, tmp_path / "plan")


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        write_pictures(PLAN, tmp_path / "file", png=False)


# In a terminal

LAYOUTS = llama_layouts()
HEADINGS = "# TP CP PP DP EP chunks micro recompute sharding step 90% interval tokens/s MFU GB fits"


def one_node() -> Planned:
    """A model of a billion parameters on eight devices."""
    shape = Shape(16, 2048, 32, 8, 64, 8192, 3, 128256, 4096)
    return planned(found(Layout(1, 1, 8, 4, 4, sharding=3), default_cluster("H100-SXM", 8), shape))


def test_every_figure_is_there_in_order_of_rank() -> None:
    head, *rows = plan_table(LAYOUTS)[: len(LAYOUTS) + 1]
    assert head.split() == HEADINGS.split()
    for rank, (row, layout) in enumerate(zip(rows, LAYOUTS, strict=True), 1):
        cells = row.split()
        assert cells[0] == str(rank)
        assert [int(cell) for cell in cells[1:6]] == [
            layout.tensor,
            layout.context,
            layout.pipeline,
            layout.data,
            layout.expert,
        ]
        assert cells[6] == f"{layout.interleaving}{'z' if layout.zero_bubble else ''}"
        assert cells[7:9] == [str(layout.micro_batch), layout.recomputation]
        assert abs(float(cells[10]) / layout.seconds - 1) < 0.005
        assert abs(float(cells[11]) / layout.low - 1) < 0.005 and abs(float(cells[13]) / layout.high - 1) < 0.005
        assert cells[14] == short(layout.tokens_per_second)
        assert cells[15] == f"{100 * layout.mfu:.1f}%"
        assert cells[16:] == [f"{layout.memory_bytes / 1e9:.1f}", f"{layout.chance_to_fit:.0%}"]


def test_columns_stand_under_their_headings_whatever_the_plan() -> None:
    tables = [plan_table(LAYOUTS), plan_table(LAYOUTS[:1]), plan_table([one_node()])]
    assert len({table[0] for table in tables}) == 1
    assert len({len(line) for table in tables for line in table[: table.index("")]}) == 1


def test_a_number_of_unusual_length_moves_its_column_and_no_other() -> None:
    wide = replace(LAYOUTS[0], data=123_456_789_012)
    head, first, second, *_ = plan_table([wide, LAYOUTS[1]])
    assert len(head) == len(first) == len(second)
    assert "123456789012" in first


def test_extrapolation_is_marked_where_it_is_one() -> None:
    assert not any("*" in line for line in plan_table(LAYOUTS))
    table = plan_table(larger(llama_plan()).layouts)
    assert sum(line.endswith(" *") for line in table) == len(LAYOUTS)
    assert table[-1].startswith("* extrapolation") and max(map(len, table)) <= 120


def test_abbreviations_are_explained_below() -> None:
    table = plan_table(LAYOUTS)
    told = " ".join(table[table.index("") :])
    assert all(
        word in told for word in ("TP tensor", "CP context", "PP pipeline", "DP data", "EP expert", "90% interval")
    )
    assert max(map(len, table)) <= 120


# In a browser

MEASURE = """
<iframe id="f" style="width: WIDTHpx; height: 900px; border: 0" srcdoc="PAGE"></iframe><pre id="out"></pre>
<script>
document.getElementById("f").onload = function () {
  const page = this.contentDocument, found = {overflow: 0, outside: [], crossing: [], letters: []};
  found.overflow = page.documentElement.scrollWidth - page.documentElement.clientWidth;
  found.hidden = [...page.querySelectorAll(".card")].map(card => card.scrollWidth - card.clientWidth);
  for (const svg of page.querySelectorAll("svg")) {
    const view = svg.viewBox.baseVal, texts = [...svg.querySelectorAll("text")].filter(t => t.textContent);
    const boxes = texts.map(t => t.getBBox());
    found.letters.push(12 * svg.getBoundingClientRect().width / view.width);
    boxes.forEach((a, i) => {
      if (a.x < 0 || a.x + a.width > view.width || a.y < 0 || a.y + a.height > view.height)
        found.outside.push(texts[i].textContent);
      for (let j = 0; j < i; j++) { const b = boxes[j];
        if (Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x) > 1 &&
            Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y) > 3)
          found.crossing.push(texts[j].textContent + " | " + texts[i].textContent); }
    });
  }
  document.getElementById("out").textContent = JSON.stringify(found);
};
</script>
"""


def extremes() -> Plan:
    """The longest words and numbers that there may be."""
    longest = [
        replace(
            layout,
            tensor=64,
            context=32,
            pipeline=128,
            data=16384,
            expert=256,
            interleaving=12,
            zero_bubble=True,
            micro_batch=16,
            recomputation="selective",
        )
        for layout in PLAN.layouts
    ]
    levers = (
        Lever("bandwidth between sites, of all of them together", "20% less", 0.171, "20% more", 0.118),
        Lever("memory", "−17%", None, "+20%", -0.01),
        Lever("price", "twice", 1.0, "half", -0.5),
    )
    return replace(PLAN, layouts=tuple(longest), sensitivity=Sensitivity("dollars", levers))


@pytest.mark.parametrize("plan", [PLAN, extremes()], ids=["usual", "longest"])
@pytest.mark.parametrize("width", [1200, 640, 400])
def test_in_a_browser_everything_fits_and_no_words_cross(plan: Plan, width: int, tmp_path: Path) -> None:
    browser = open_browser(tmp_path / "profile")
    page = tmp_path / "measure.html"
    page.write_text(MEASURE.replace("WIDTH", str(width)).replace("PAGE", html.escape(plan_page(plan))))
    shown = re.search(r'<pre id="out">(.*?)</pre>', browser.content(page), re.DOTALL)
    assert shown
    found = json.loads(html.unescape(shown[1]))
    assert found["overflow"] == 0 and max(found["hidden"]) <= 0
    assert (found["outside"], found["crossing"]) == ([], [])
    assert min(found["letters"]) > (10 if width >= 640 else 7.5)


def test_a_browser_has_nothing_to_complain_of(tmp_path: Path) -> None:
    browser, page = open_browser(tmp_path / "profile"), tmp_path / "plan.html"
    page.write_text(plan_page(PLAN))
    assert browser.complaints(page) == []
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(plan_page(PLAN).replace("</body>", "<script>console.error('seen')</script></body>"))
    assert len(browser.complaints(spoiled)) == 1  # or the line above would always hold
    shot = tmp_path / "plan.png"
    browser.screenshot(page, shot)
    assert shot.stat().st_size > 60_000
