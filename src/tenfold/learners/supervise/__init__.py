"""Orders to a running supervisor. Front door."""

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

__all__ = [
    "answer_order",
    "await_answer",
    "check_name",
    "clear_orders",
    "drop_order",
    "give_order",
    "is_taken",
    "orders_folder",
    "take_orders",
]
