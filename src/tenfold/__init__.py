"""tenfold: from "what would ten times the compute buy us?" to a finished, evaluated, explained model."""

__version__ = "0.1.0"
