"""Processes kept alive: children, crash loops, orders to a running supervisor. Front door."""

from tenfold.cluster.supervise.children import Child, Children, Ended, last_line
from tenfold.cluster.supervise.crash_loop import CrashLoop
from tenfold.cluster.supervise.launcher import Launcher
from tenfold.cluster.supervise.orders import (
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
from tenfold.cluster.supervise.parent import watch_parent
from tenfold.cluster.supervise.zygote import Zygote, serve_forks

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
