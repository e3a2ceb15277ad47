"""The report: one JSON object with everything, and one HTML file made from it that opens offline."""
