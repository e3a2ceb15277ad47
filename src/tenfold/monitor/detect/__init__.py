"""Detectors: pure functions of the signals so far and the table of thresholds, with a stated rate of false alarms."""
