"""Charts, tables and HTML from plain values: report, plan."""
