"""Names of sources, and what to say of one that gave nothing."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count

from tenfold.config import Source
from tenfold.core import Progress
from tenfold.data.losses import ADVICE

Report = Callable[[Progress], None]


def name_sources(sources: Sequence[Source]) -> list[tuple[str, Source]]:
    """Every source with its name; equal names are numbered, past names that are taken."""
    wanted = [source.name or source.kind for source in sources]
    taken = {name for name in wanted if wanted.count(name) == 1}
    named = []
    for name, source in zip(wanted, sources, strict=True):
        numbered = (f"{name}-{number}" for number in count(1))
        own = name if wanted.count(name) == 1 else next(other for other in numbered if other not in taken)
        taken.add(own)
        named.append((own, source))
    return named


def why(reasons: Counter[str]) -> str:
    """What was wrong with the records and what to do about the most common of it, for one line."""
    if not reasons:
        return "it has no records; take it out"
    (most, _), *others = reasons.most_common()
    advice = f"; {f'{most}: ' if others else ''}{ADVICE[most]}" if most in ADVICE and "{" not in ADVICE[most] else ""
    return ", ".join(f"{number} {reason}" for reason, number in reasons.most_common()) + advice
