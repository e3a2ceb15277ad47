"""Tables in which every row stays on one line, whatever its cells hold."""

from tenfold.core.tables import text_table


def test_tables_keep_every_cell_on_its_line() -> None:
    rows = [["a [bold]", "1.2", ""], ["c" * 300, "10.25", ""]]
    assert text_table(["model", "loss", "note"], rows) == [
        f"{'model':300}   loss  note",
        f"{'a [bold]':300}    1.2",
        f"{'c' * 300}  10.25",
    ]
    assert text_table(["model", "loss", "note"], [["a", "1", ""]], "rl", drop_empty=True) == ["model  loss", "    a  1"]
    assert text_table(["model"], []) == ["model"]
