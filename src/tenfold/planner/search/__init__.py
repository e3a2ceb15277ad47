"""Search over layouts: the fastest that fit, why they take as long as they do, and what would make them faster."""

from tenfold.planner.search.explain import describe, explain
from tenfold.planner.search.layouts import Choice, Found, alone, assess, search_layouts
from tenfold.planner.search.question import Question
from tenfold.planner.search.regret import Regret, regret
from tenfold.planner.search.sensitivity import Effect, Lever, say, sensitivity
from tenfold.planner.search.sites import Exchange, Joined, choose_exchange, join_sites
from tenfold.planner.search.traffic import Product, Traffic, products, traffic

__all__ = [
    "Choice",
    "Effect",
    "Exchange",
    "Found",
    "Joined",
    "Lever",
    "Product",
    "Question",
    "Regret",
    "Traffic",
    "alone",
    "assess",
    "choose_exchange",
    "describe",
    "explain",
    "join_sites",
    "products",
    "regret",
    "say",
    "search_layouts",
    "sensitivity",
    "traffic",
]
