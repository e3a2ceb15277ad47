"""The shape of the package: what `benchmarks/structure.py` follows is there, and passes no more files than it may."""

import pytest
from benchmarks.structure import DEFAULT_SOURCE, FLOWS, Flow, climbs, missing_stops, passes, read_tree, repeated_classes

MODULES = read_tree(DEFAULT_SOURCE)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_a_flow_passes_few_files(flow: Flow) -> None:
    assert missing_stops(flow, MODULES) == []
    assert len(passes(flow)["files"]) <= flow.most_files
    assert flow.most_climbs is None or climbs(flow) <= flow.most_climbs


def test_no_class_name_is_used_twice() -> None:
    assert repeated_classes(MODULES) == {}
