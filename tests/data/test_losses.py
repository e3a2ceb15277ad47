"""The funnel in one line, and a warning for each source and reason that took much."""

from tenfold.data.clean import Document, Funnel, Mended, Reject
from tenfold.data.losses import funnel_line, loss_warnings


def funnel() -> Funnel:
    counted = Funnel()
    for number in range(90):
        counted.count(Document("web", f"a:{number}", "x" * 100))
    for number in range(10):
        counted.count(Reject("web", f"b:{number}", "too-short", bytes=5))
    counted.count(Reject("book", "c", "invalid-utf8", bytes=1_000))
    counted.count(Mended("web", "a", "cp1252", 3, is_guess=True))
    return counted


def warned(counted: Funnel, share: float) -> list[str]:
    return list(loss_warnings(counted.to_dict(), share, 64))


def test_the_line_adds_up() -> None:
    counted = funnel()
    counted.documents_kept, counted.bytes_kept = 90, 9_000
    assert funnel_line(counted.to_dict()) == (
        "read 101 documents, 9.81 KiB; kept 90, 8.79 KiB (90%); "
        "lost 11: 1 invalid-utf8 (1,000 B), 10 too-short (50 B); "
        "3 bad bytes replaced by U+FFFD; 1 text read as cp1252 (a guess; `encoding` of the source sets it)"
    )


def test_a_small_source_is_not_hidden_by_a_large_one() -> None:
    (book,) = warned(funnel(), 0.2)
    assert book.startswith(
        "source 'book': 100% of its documents, 100% of its bytes lost as invalid-utf8; set `encoding`"
    )


def test_documents_count_as_well_as_bytes() -> None:
    assert [
        line for line in warned(funnel(), 0.05) if "10% of its documents, 0.55% of its bytes lost as too-short" in line
    ]
    assert not warned(funnel(), 1.0)


def test_what_was_not_seen_is_warned_of_whatever_its_share() -> None:
    counted = funnel()
    counted.count(Reject("web", "z", "truncated-stream"))
    assert any("an unknown rest of these files" in line for line in warned(counted, 1.0))


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
    whole, parts = funnel(), funnel()
    parts.add(Funnel())
    assert parts == whole
    parts.add(funnel())
    assert parts.documents_in == 2 * whole.documents_in and parts.by_source["web"]["documents"] == 200


def test_a_funnel_of_before_there_were_mends_is_read() -> None:
    old = {name: value for name, value in funnel().to_dict().items() if name not in ("mended", "replaced", "by_source")}
    assert funnel_line(old).startswith("read 101 documents") and not list(loss_warnings(old, 0.01, 64))
