"""What a build read, kept and lost, in one line; warnings where much was lost, with what to set."""

from collections.abc import Iterator, Mapping
from typing import Any

from tenfold.core import byte_size, count, percent

ADVICE = {
    "too-short": "data.clean.min_bytes = {min_bytes} decides; records of few words can be joined into one",
    "empty": "there is nothing but white space in them",
    "too-long": "data.clean.max_bytes and data.clean.split_bytes decide",
    "too-large": "data.read.max_record_bytes decides",
    "expands-too-far": "data.read.max_expansion decides",
    "invalid-utf8": "set `encoding` of the source if you know it, or data.read.max_replaced for damaged text",
    "wrong-encoding": "set `encoding` of the source, or data.read.max_replaced for damaged text",
    "binary": "these are no text; convert them, or take them out of `paths`",
    "archive": "unpack them",
    "compressed": "decompress them",
    "missing-key": "set text_key, or give files with another key a source of their own",
    "not-text": "set text_key to a key or column that holds text",
    "not-an-object": 'kind "jsonl" takes objects with the text under text_key',
    "invalid-json": "repair these lines",
    "not-taken": "add a source of their kind, with its text_key",
    "truncated-stream": "fetch these files again",
    "unreadable": "see whether these files are whole and may be read",
}
"""What to do about each reason of a reject."""
ALWAYS_SAID = {
    "expands-too-far": ", and an unknown rest of these files",
    "truncated-stream": ", and an unknown rest of these files",
}
"""Reasons that are warned of whatever their share is: what was lost was not seen."""
NEAR_DUPLICATES = 0.5
"""Share of near-duplicates above which they are warned of: less is usual."""
REASONS_NAMED = 4
HARMLESS = {"empty", "exact-duplicate"}
"""Reasons for which a record of an evaluation set is left out and nothing of it is lost."""


def funnel_line(funnel: Mapping[str, Any]) -> str:
    """`read 1,234 documents, 5.4 MiB; kept 1,000, 4.9 MiB (91%); held out 20; lost 214: 200 too-short, …`."""
    read, kept = funnel["documents_in"], funnel["documents_kept"]
    line = f"read {count(read, 'document')}, {byte_size(funnel['bytes_in'])}; kept {kept:,}, "
    line += byte_size(funnel["bytes_kept"])
    if funnel["bytes_in"]:
        line += f" ({percent(funnel['bytes_kept'] / funnel['bytes_in'])})"
    line += f"; held out {funnel['held_out']:,}, {byte_size(funnel['held_out_bytes'])}" if funnel["held_out"] else ""
    lost = sorted(_lost(funnel).items(), key=lambda item: (-item[1][1], -item[1][0]))
    gone = sum(documents for _, (documents, _) in lost)
    said = [_said(reason, *numbers) for reason, numbers in lost[:REASONS_NAMED]]
    if len(lost) > REASONS_NAMED:
        said.append(f"{sum(documents for _, (documents, _) in lost[REASONS_NAMED:]):,} for other reasons")
    line += f"; lost {gone:,}: {', '.join(said)}" if lost else "; lost none"
    if funnel["contaminated_bytes"]:
        line += f"; cut out {byte_size(funnel['contaminated_bytes'])} shared with holdouts"
    return line + _mended(funnel)


def _said(reason: str, documents: int, size: int) -> str:
    return f"{documents:,} {reason} ({byte_size(size)})" if size else f"{documents:,} {reason}"


def _lost(funnel: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Documents and bytes by reason."""
    sizes = funnel["rejected_bytes"]
    lost = {reason: (number, sizes.get(reason, 0)) for reason, number in funnel["rejected"].items()}
    for name in ("exact_duplicates", "near_duplicates"):
        lost[name.replace("_", " ")] = (funnel[name], funnel[f"{name}_bytes"])
    lost["shared with holdouts"] = (funnel["dropped_after_decontamination"], 0)
    return {reason: numbers for reason, numbers in lost.items() if numbers[0]}


def _mended(funnel: Mapping[str, Any]) -> str:
    """Corpora built before there was anything to mend do not say."""
    parts = []
    if replaced := sum(funnel.get("replaced", {}).values()):
        parts.append(f"{count(replaced, 'bad byte')} replaced by U+FFFD")
    for encoding, number in sorted(funnel.get("mended", {}).items()):
        guess = " (a guess; `encoding` of the source sets it)" if encoding.endswith("?") else ""
        parts.append(f"{count(number, 'text')} read as {encoding.removesuffix('?')}{guess}")
    return f"; {'; '.join(parts)}" if parts else ""


def loss_warnings(funnel: Mapping[str, Any], warn_lost: float, min_bytes: int) -> Iterator[str]:
    """A line for each source and reason that took more than `warn_lost` of its documents or of its bytes."""
    for source, counts in sorted(funnel.get("by_source", {}).items()):
        for reason in sorted({name.split(" ", 1)[1] for name in counts if " " in name}):
            shares = [counts[f"{what} {reason}"] / max(counts[what], 1) for what in ("documents", "bytes")]
            if max(shares) > warn_lost or reason in ALWAYS_SAID:
                advice = ADVICE.get(reason, "see rejects.jsonl").format(min_bytes=min_bytes)
                yield (
                    f"source {source!r}: {percent(shares[0])} of its documents, {percent(shares[1])} of its bytes lost "
                    f"as {reason}{ALWAYS_SAID.get(reason, '')}; {advice} (each is named in data/rejects.jsonl)"
                )
    if set(unused := funnel.get("holdout_rejected", {})) - HARMLESS:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(unused.items()))
        yield (
            f"evaluation sets of [data.holdouts]: {count(sum(unused.values()), 'record')} neither scored nor kept out "
            f"of training: {reasons} (each is named in data/rejects.jsonl)"
        )
    copies = funnel["near_duplicates_bytes"] / max(funnel["bytes_in"], 1)
    if copies > NEAR_DUPLICATES:
        yield f"{percent(copies)} of the bytes are near-duplicates; data.isolation.near_duplicate decides"
