"""Processes kept alive: children, crash loops, orders to a running supervisor. Front door."""

from tenfold.learners.supervise.children import Child, Children, Ended, last_line
from tenfold.learners.supervise.crash_loop import CrashLoop
from tenfold.learners.supervise.launcher import Launcher
from tenfold.learners.supervise.orders import (
    answer_order,
    await_answer,
    check_name,
    clear_orders,
    drop_order,
    give_order,
    is_taken,
    orders_folder,
    take_orders,
)
from tenfold.learners.supervise.parent import watch_parent
from tenfold.learners.supervise.zygote import Zygote, serve_forks

__all__ = [
    "Child",
    "Children",
    "CrashLoop",
    "Ended",
    "Launcher",
    "Zygote",
    "answer_order",
    "await_answer",
    "check_name",
    "clear_orders",
    "drop_order",
    "give_order",
    "is_taken",
    "last_line",
    "orders_folder",
    "serve_forks",
    "take_orders",
    "watch_parent",
]
