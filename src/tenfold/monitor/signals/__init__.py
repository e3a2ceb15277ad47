"""Signals: observers that measure beside the step, each a family of metrics that can fail alone."""
