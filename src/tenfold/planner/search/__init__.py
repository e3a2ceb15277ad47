"""Search over layouts: the fastest that fit, why they take as long as they do, and what would make them faster."""

from tenfold.planner.search.layouts import Choice, Found, assess, search_layouts
from tenfold.planner.search.question import Question

__all__ = ["Choice", "Found", "Question", "assess", "search_layouts"]
