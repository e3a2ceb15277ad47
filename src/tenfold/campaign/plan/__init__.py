"""A plan for people: plan.json, its page and pictures, and the table in a terminal.

Front door: `asked_of`, `planned`, `front_of`, `fleet_lines` and `sensitivity_of` make the parts of a Plan from what the
planner computed, `write_plan` and `read_plan` keep it, `plan_table`, `plan_page` and `write_pictures` show it.
"""

from tenfold.campaign.plan.build import asked_of, fleet_lines, front_of, planned, sensitivity_of
from tenfold.pages.plan import (
    Asked,
    FleetLine,
    FleetPoint,
    Front,
    FrontPoint,
    Lever,
    Plan,
    Planned,
    Sensitivity,
    read_plan,
    write_plan,
)
from tenfold.pages.plan_files import write_pictures
from tenfold.pages.plan_page import plan_page, plan_section, plan_table

__all__ = [
    "Asked",
    "FleetLine",
    "FleetPoint",
    "Front",
    "FrontPoint",
    "Lever",
    "Plan",
    "Planned",
    "Sensitivity",
    "asked_of",
    "fleet_lines",
    "front_of",
    "plan_page",
    "plan_section",
    "plan_table",
    "planned",
    "read_plan",
    "sensitivity_of",
    "write_pictures",
    "write_plan",
]
