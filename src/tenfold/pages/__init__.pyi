# What other rooms may use of this one. The package loads each name when it is first asked for.
from .plan import Asked as Asked
from .plan import FleetLine as FleetLine
from .plan import FleetPoint as FleetPoint
from .plan import Front as Front
from .plan import FrontPoint as FrontPoint
from .plan import Lever as Lever
from .plan import Plan as Plan
from .plan import Planned as Planned
from .plan import Recomputation as Recomputation
from .plan import Sensitivity as Sensitivity
from .plan import read_plan as read_plan
from .plan_files import write_page as write_page
from .plan_page import plan_table as plan_table
from .report import render as render
from .style import style_sheet as style_sheet
