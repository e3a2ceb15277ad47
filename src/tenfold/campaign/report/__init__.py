"""The report: one JSON object with everything, and one HTML file made from it that opens offline."""

from tenfold.campaign.report.collect import Curve, collect
from tenfold.pages.report import render

__all__ = ["Curve", "collect", "render"]
