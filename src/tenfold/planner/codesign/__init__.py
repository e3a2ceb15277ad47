"""Model, layout and batch chosen together for a goal."""

from tenfold.planner.codesign.batch import critical_batch, tokens_needed, tokens_worth
from tenfold.planner.codesign.design import Design
from tenfold.planner.codesign.goal import Goal
from tenfold.planner.codesign.known import KnownModel, known_model, known_models
from tenfold.planner.codesign.load import example_goal_text, example_goals, load_goal, parse_goal
from tenfold.planner.codesign.loss import LadderLaw, LossLaw, PublishedLaw, law_of
from tenfold.planner.codesign.plan import Plan, plan_goal
from tenfold.planner.codesign.progress import progress_to
from tenfold.planner.codesign.serving import Serving, decode_seconds, serving_of
from tenfold.planner.codesign.text import layout_text, plan_lines
from tenfold.planner.codesign.trials import part_with
from tenfold.planner.codesign.worth import Relaxation

__all__ = [
    "Design",
    "Goal",
    "KnownModel",
    "LadderLaw",
    "LossLaw",
    "Plan",
    "PublishedLaw",
    "Relaxation",
    "Serving",
    "critical_batch",
    "decode_seconds",
    "example_goal_text",
    "example_goals",
    "known_model",
    "known_models",
    "law_of",
    "layout_text",
    "load_goal",
    "parse_goal",
    "part_with",
    "plan_goal",
    "plan_lines",
    "progress_to",
    "serving_of",
    "tokens_needed",
    "tokens_worth",
]
