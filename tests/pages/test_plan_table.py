"""The table in a terminal: every figure, columns in place, the same for every plan."""

from dataclasses import replace

from tenfold.campaign.plan.build import planned
from tenfold.pages.plan import Planned
from tenfold.pages.plan_page import plan_table
from tenfold.planner.cost.layout import Layout, Shape
from tenfold.planner.hardware.cluster import default_cluster
from tests.campaign.plan.example import found, larger, llama_layouts, llama_plan

LAYOUTS = llama_layouts()
HEADINGS = "# TP CP PP DP EP chunks micro recompute sharding step 90% interval tokens/s MFU memory fits"


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
        assert int(cells[14].replace(",", "")) == round(layout.tokens_per_second)
        assert cells[15] == f"{100 * layout.mfu:.1f}%"
        assert cells[16:] == [f"{layout.memory_bytes / 1e9:.1f}", "GB", f"{layout.chance_to_fit:.0%}"]


def test_columns_stand_under_their_headings_whatever_the_plan() -> None:
    tables = [plan_table(LAYOUTS), plan_table(LAYOUTS[:1]), plan_table([one_node()])]
    assert len({table[0] for table in tables}) == 1
    assert len({len(line) for table in tables for line in table[: table.index("")]}) == 1


def test_a_number_of_unusual_length_moves_its_column_and_no_other() -> None:
    wide = replace(LAYOUTS[0], tokens_per_second=123_456_789_012.0)
    head, first, second, *_ = plan_table([wide, LAYOUTS[1]])
    assert len(head) == len(first) == len(second)
    assert "123,456,789,012" in first


def test_extrapolation_is_marked_where_it_is_one() -> None:
    assert not any(line.endswith("extrapolation") for line in plan_table(LAYOUTS))
    marked = [line for line in plan_table(larger(llama_plan()).layouts) if line.endswith("  extrapolation")]
    assert len(marked) == len(LAYOUTS)


def test_abbreviations_are_explained_below() -> None:
    table = plan_table(LAYOUTS)
    told = " ".join(table[table.index("") :])
    assert all(
        word in told for word in ("TP tensor", "CP context", "PP pipeline", "DP data", "EP expert", "90% interval")
    )
    assert max(map(len, table)) <= 130
