"""What it means that a training text has something of a held-out one. Build and audit both keep to it.

Three rules, from exact to approximate:

1. *Runs.* A training text has no run of n words of a held-out text, n = `ngram` (13), or all the words of a held-out
   text that has fewer (Brown et al., arXiv 2005.14165, appendix C, cap n by the length of the text too). Below FEWEST
   words a run is common speech: such a text is looked for as a whole document only.
2. *Near-copied passages.* Where every twelfth word is changed no run of 13 is left and the text is still there. So a
   passage of WINDOW words is a near-copy when at least SHARE of its runs of SHINGLE words stand in one and the same
   held-out text. A run counts once a window, because tables and code repeat themselves; a run that many held-out texts
   have counts for the first OWNERS of them.
3. *Copies.* A document made by half of such runs and passages is a copy.
"""

import math

SHINGLE = 5  # words
WINDOW = 60  # shingles
SHARE = 0.45
FEWEST_SHARED = 10  # shingles; a text that has fewer is only looked for by its runs
OWNERS = 16
FEWEST = 5  # words
COPY_SHARE = 0.5


def window_of(words: int) -> tuple[int, int]:
    """(window in shingles, shared shingles that make it a near-copy) for a held-out text of so many words."""
    window = max(1, min(WINDOW, words - SHINGLE + 1))
    return window, max(FEWEST_SHARED, math.ceil(SHARE * window))
