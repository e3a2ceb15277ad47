"""Messages come over the wire as they were, or are refused with the field that is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.learners.messages import (
    LOSSES_AT_A_TIME,
    Contribution,
    Heartbeat,
    Merged,
    Refused,
    Request,
    StepLoss,
    parse,
)

header = Contribution(
    incarnation=1,
    fragment=0,
    sequence=0,
    base_version=3,
    joined_version=2,
    step=8,
    tokens=64,
    history=(Merged(4, 0, 3),),
    precision="int4",
).to_json()


def test_a_contribution_survives_its_header() -> None:
    assert parse(Contribution, header, "contribution").to_json() == header


@given(
    key=st.sampled_from(sorted(header)),
    value=st.one_of(
        st.none(), st.text(max_size=5), st.integers(max_value=-1), st.floats(), st.lists(st.text(), min_size=1)
    ),
)
def test_a_malformed_header_is_refused_and_its_field_named(key: str, value: object) -> None:
    if key == "precision" and isinstance(value, str):
        return
    with pytest.raises(Refused, match=f"contribution: malformed message .*{key}"):
        parse(Contribution, header | {key: value}, "contribution")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
REQUESTS = sorted((each for each in Request.__subclasses__()), key=lambda each: each.method)


@given(kind=st.sampled_from(REQUESTS), data=st.data())
def test_whatever_is_sent_is_a_message_or_refused_in_one_line(kind: type[Request], data: st.DataObject) -> None:
    known = st.sampled_from(sorted(kind.model_fields) or ["nothing"])
    value = data.draw(st.dictionaries(known | st.text(max_size=5), JSON, max_size=6) | JSON)
    try:
        message = parse(kind, value, kind.method)
    except Refused as error:
        assert len(str(error)) < 400 and len(str(error).splitlines()) == 1
    else:
        assert parse(kind, message.to_json(), kind.method) == message


def test_a_heartbeat_of_too_many_losses_is_refused() -> None:
    losses = (StepLoss(0, 1.0, 1, 1.0),) * (LOSSES_AT_A_TIME + 1)
    heartbeat = Heartbeat(incarnation=1, step=1).to_json()
    with pytest.raises(Refused, match=r"losses: .* at most 4096"):
        parse(Heartbeat, heartbeat | {"losses": [list(each) for each in losses]}, "heartbeat")
