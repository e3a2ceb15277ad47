"""The part of the report that says how several learners trained together, and what failures cost."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tenfold.core import MISSING, clock, count, duration, percent, short, times
from tenfold.pages.learners_charts import (
    participation_picture,
    rate_picture,
    timeline_picture,
)

Record = Mapping[str, Any]
MOST_ROWS = 24  # of the timeline and the table; a run may have thousands of learners
MOST_TOLD = 3  # outages told one by one
SAID = {
    # kind: (of one, of several)
    "kill": ("was killed", "killed"),
    "stop": ("was frozen", "frozen"),
    "hang": ("hung", "hung"),
    "nan": ("came upon a NaN", "NaN"),
    "died": ("died", "died"),
}
OTHERWISE = "given up"


@dataclass(frozen=True)
class LearnerRow:
    """One learner in the table; `share` of the tokens of the learner with most, in percent."""

    name: str
    incarnations: int
    steps: str
    tokens: str
    share: float
    rate: str
    again: str
    merges: str
    sent: str
    gap: str


@dataclass(frozen=True)
class IncarnationRow:
    """One incarnation of a learner."""

    name: str
    number: int
    when: str
    steps: str
    end: str


@dataclass(frozen=True)
class LearnersPage:
    """What the template shows."""

    lead: str
    verdict: str
    sound: bool
    timeline: Markup
    participation: Markup
    merged: str
    totals: tuple[tuple[str, str], ...]
    rows: tuple[LearnerRow, ...]
    notes: tuple[str, ...]
    quarantines: tuple[tuple[str, str], ...]
    incarnations: tuple[IncarnationRow, ...]
    rates: Markup
    rate: str


def learners_page(report: Record) -> LearnersPage | None:
    """From the key learners of report.json; None for a run without."""
    record: Record | None = report.get("learners")
    if record is None:
        return None
    shown = shown_rows(record["rows"])
    names = {row["name"] for row in shown}
    verdict, sound = verdict_of(record)
    return LearnersPage(
        lead=lead_of(record),
        verdict=verdict,
        sound=sound,
        timeline=timeline_picture(shown, record["seconds"], record["pauses"]),
        participation=participation_picture(record["participation"]["over_time"], record["seconds"]),
        merged=_merged(record["participation"]),
        totals=tuple(_totals(record)),
        rows=tuple(_row(each, record) for each in record["learners"] if each["name"] in names),
        notes=tuple(_notes(record, len(record["rows"]) - len(shown))),
        quarantines=tuple((each["name"], reason) for each in record["learners"] for reason in each["quarantines"]),
        incarnations=tuple(_incarnation(each) for each in record["lives"]),
        rates=rate_picture(record["rates"], record["seconds"]),
        rate=short(record["tokens_per_second"]),
    )


def trained_by(report: Record) -> str:
    """Who trained, where there were several learners; empty for a plain run.

    Learners elsewhere run on machines this one knows nothing of.
    """
    settings: Record = report["config"].get("learners", {})
    if not settings.get("count"):
        return ""
    record: Record | None = report.get("learners")
    learners = count(len(record["learners"]) if record else settings["count"], "learner")
    if settings["launch"] != "local":
        return f"by {learners}"
    threads = count(report["throughput"]["threads"], "thread")
    machine = ", ".join([report["environment"]["cpu"], *report["environment"]["gpus"]])
    return f"by {learners} of {threads} each on {machine}"


def shown_rows(rows: Sequence[Record]) -> list[Record]:
    """At most MOST_ROWS, in their order: the syncer and, before others, those to whom something happened."""
    eventful = [row["name"] for row in rows if row["marks"] or row["disturbances"] or len(row["spans"]) > 2]
    names = [rows[-1]["name"], *eventful, *(row["name"] for row in rows)]
    chosen = set(list(dict.fromkeys(names))[:MOST_ROWS])
    return [row for row in rows if row["name"] in chosen]


# In plain words


def lead_of(record: Record) -> str:
    """One sentence on what happened to the learners."""
    learners, samples = len(record["learners"]), record["samples"]["total"]
    told = [f"{count(learners, 'learner')} trained {samples:,} samples in {duration(record['seconds'], precise=True)}."]
    outages: Sequence[Record] = record["outages"]
    if not outages:
        told.append("None of them was ever out.")
    elif len(outages) <= MOST_TOLD:
        told += [_told(outage) for outage in outages]
    else:
        told.append(_told_together(outages))
    restarts = record["syncer"]["restarts"]
    told += [f"The syncer was restarted {times(restarts)}."] if restarts else []
    told += [_told_pauses(record["pauses"])] if record["pauses"] else []
    return " ".join(told)


def _told(outage: Record) -> str:
    said = SAID[outage["kind"]][0] if outage["kind"] in SAID else f"was given up ({outage['kind']})"
    begin = f"{outage['name']} {said} at {clock(outage['begin'])}"
    if outage["end"] is None:
        return f"{begin} and did not train again."
    return f"{begin} and trained again {duration(outage['end'] - outage['begin'], precise=True)} later."


def _told_together(outages: Sequence[Record]) -> str:
    kinds = Counter(SAID[o["kind"]][1] if o["kind"] in SAID else OTHERWISE for o in outages)
    causes = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    lengths = [o["end"] - o["begin"] for o in outages if o["end"] is not None]
    told = f"Learners were out {times(len(outages))}: {causes}."
    if lengths:
        told += f" They trained again {duration(statistics.median(lengths), precise=True)} later in the median, "
        told += f"{duration(max(lengths), precise=True)} at most"
        gone = len(outages) - len(lengths)
        told += f"; {times(gone)} not before the end." if gone else "."
    return told


def _told_pauses(pauses: Sequence[Record]) -> str:
    lost = duration(sum(pause["seconds"] for pause in pauses), precise=True)
    return f"The run was interrupted {times(len(pauses))} and taken up again; these {lost} are left out."


def verdict_of(record: Record) -> tuple[str, bool]:
    """Whether anything was lost, in words, and whether all is well."""
    samples, lost = record["samples"], record["contributions_lost"]
    sent = f"{lost:,} contributions were taken but never merged" if lost else "Nothing that was sent is lost"
    if samples["missing"] or samples["twice"]:
        return f"{sent}; {samples['missing']:,} samples are missing, {samples['twice']:,} count more than once.", False
    return f"{sent}; every sample counts once.", not lost


# Tables


def _row(learner: Record, record: Record) -> LearnerRow:
    rate, sent, gap = learner["tokens_per_second"], learner["bytes_per_token"], learner["longest_gap"]
    most = max(each["tokens"] for each in record["learners"])
    return LearnerRow(
        name=learner["name"],
        incarnations=learner["lives"],
        steps=f"{learner['steps']:,}",
        tokens=short(learner["tokens"]),
        share=100 * learner["tokens"] / max(1, most),
        rate=MISSING if rate is None else short(rate),
        again=f"{learner['steps_again']:,}",
        merges=f"{learner['merges']:,} of {record['participation']['merges']:,}",
        sent=MISSING if sent is None else short(sent),
        gap=MISSING if gap is None else duration(gap, precise=True),
    )


def _merged(participation: Record) -> str:
    if not participation["merges"]:
        return "Nothing was merged."
    return (
        f"A merge had contributions of {percent(participation['mean'])} of the learners at work on average; "
        f"{participation['full']:,} of {participation['merges']:,} had those of all."
    )


def _totals(record: Record) -> list[tuple[str, str]]:
    """(what, figure) over all learners."""
    learners, syncer = record["learners"], record["syncer"]
    steps, again = (sum(each[key] for each in learners) for key in ("steps", "steps_again"))
    gaps = [each["longest_gap"] for each in learners if each["longest_gap"] is not None]
    return [
        ("incarnations of learners", f"{len(record['lives']):,}"),
        ("steps that count", f"{steps:,}"),
        ("steps trained again", f"{again:,} ({percent(again / max(1, steps + again))})"),
        ("longest step, with what it waited for", duration(max(gaps), precise=True) if gaps else MISSING),
        *_traffic(record),
        ("restarts of the syncer", f"{syncer['restarts']:,}"),
        ("requests the syncer refused", f"{syncer['refused']:,}"),
    ]


def _traffic(record: Record) -> list[tuple[str, str]]:
    """What a learner sent for each token, beside what averaging gradients would send."""
    learners = record["learners"]
    sent = sum(each["bytes_sent"] for each in learners) / max(1, sum(each["tokens"] for each in learners))
    rows = [("bytes a learner sent for each token", short(sent))]
    other = record["data_parallel_bytes_per_token"]
    if other and sent:
        figure = f"{short(other)} ({short(other / sent)}×)"
        rows.append(("with a float32 all-reduce at every step", figure))
    return rows


def _notes(record: Record, hidden: int) -> list[str]:
    """Remarks that stand below the table."""
    part = record["steps_in_part"]
    notes = [f"{count(hidden, 'more learner')} without a fault, not shown."] if hidden else []
    if record["outages"]:
        notes.append(
            "Trained again: steps that a learner had told of, as it does four times a second, and that do not count."
        )
    if part:
        verb = "counts" if part == 1 else "count"
        notes.append(
            f"{count(part, 'step')} at the end of incarnations {verb} in some fragments only: "
            "the others were not sent yet."
        )
    return notes


def _incarnation(record: Record) -> IncarnationRow:
    end = clock(record["end"]) if record["end"] is not None else ""
    return IncarnationRow(
        name=record["name"],
        number=record["number"],
        when=f"{clock(record['begin'])} to {end}",
        steps=MISSING if record["steps"] is None else f"{record['steps']:,}",
        end=record["reason"] or "",
    )
