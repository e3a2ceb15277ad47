"""Each fault that learners were found to have, its test once more while another process holds a core.

    python benchmarks/learner_faults.py [--only 1 5] [--list]

The table below says which tests hold each fault, and those of its kind, now. One process of pytest a fault, so that no
case profits from the one before; a process that computes without end takes a share of the cores meanwhile. Exit status
1 where one fails or is not there any more.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).parents[1] / "tests"
BURN = "while True: pass"


@dataclass(frozen=True)
class Case:
    """A fault, the number of its kind, and the tests that hold it."""

    kind: int
    fault: str
    tests: tuple[str, ...]


KINDS = {
    1: "endless silence",
    2: "silently wrong",
    3: "wrong advice",
    4: "a full disk ends the supervisor",
    5: "open doors",
    7: "anyone's loop",
}
SERVICE, SECURITY, SERVER = (
    "learners/syncer/test_service.py",
    "learners/wire/test_security.py",
    "learners/wire/test_server.py",
)
CHECKPOINT, OUTER_LOOP = "train/test_checkpoint.py", "learners/anyone/test_outer_loop.py"
CASES = (
    Case(
        1,
        "two learners of one name take each other's place",
        (
            f"{SERVICE}::test_of_two_processes_with_one_name_the_first_ends_and_does_not_come_back",
            f"{OUTER_LOOP}::test_of_two_processes_with_one_name_the_first_ends_with_a_line",
        ),
    ),
    Case(
        1,
        "27 connections a learner; files run out",
        (
            "learners/wire/test_link.py::test_links_of_one_learner_share_their_connections",
            f"{SERVICE}::test_files_that_run_out_are_said_once",
        ),
    ),
    Case(
        1,
        "a run without learners waits without a word",
        (
            f"{SERVICE}::test_a_run_without_learners_says_that_it_waits",
            "learners/launch/test_supervisor.py::test_a_run_whose_learners_have_left_says_how_to_start_one",
        ),
    ),
    Case(
        1,
        "an expired certificate is retried for ever",
        (
            f"{SECURITY}::test_a_certificate_that_is_out_of_date_does_not_serve",
            f"{SECURITY}::test_a_certificate_that_is_not_accepted_ends_a_client_with_the_reason",
        ),
    ),
    Case(
        1,
        "a taken port, the key of another certificate: not said",
        (
            f"{SERVER}::test_a_port_that_is_taken_is_said_to_be_in_use",
            f"{SERVER}::test_a_port_that_is_free_again_soon_is_waited_for",
            f"{SECURITY}::test_the_key_of_another_certificate_is_said",
        ),
    ),
    Case(
        2,
        "weights of merges follow the wall clock",
        (
            "learners/syncer/test_merge_policy.py::test_a_clock_that_stood_still_or_jumped_does_not_change_the_weights",
            f"{SERVICE}::test_leases_do_not_follow_a_wall_clock_that_is_set",
        ),
    ),
    Case(
        2,
        "a learner of other code or settings joins",
        (
            f"{SERVICE}::test_a_learner_of_another_run_is_refused_by_what_differs",
            "learners/anyone/test_own_loop.py::test_another_recipe_is_refused_by_its_key",
        ),
    ),
    Case(
        2,
        "a malformed beat ends the ledger's thread",
        (
            f"{SERVICE}::test_a_malformed_beat_is_refused_and_the_others_are_written",
            "learners/syncer/test_recorder.py::test_a_figure_that_cannot_be_written_costs_no_other",
        ),
    ),
    Case(
        2,
        "a shared checkpoint.url has no owner",
        (
            f"{CHECKPOINT}::test_a_place_is_one_campaigns",
            f"{CHECKPOINT}::test_two_campaigns_that_begin_at_once_do_not_mix",
        ),
    ),
    Case(
        3,
        "a refusal names no key, or asks for room",
        (
            "learners/launch/test_run.py::test_a_folder_where_another_run_was_trained_is_refused_before_anything_is",
            "learners/launch/test_run.py::test_an_interrupted_run_goes_on_with_fewer_learners_but_not_with_another_recipe",
        ),
    ),
    Case(
        3,
        "memory that data need is looked for in the batch",
        (
            "campaign/test_run.py::test_memory_that_ran_out_for_the_corpus_is_no_matter_of_the_batch",
            "cli/test_program.py::test_advice_on_memory_fits_what_was_done",
        ),
    ),
    Case(4, "a full disk ends the supervisor", ("learners/launch/test_processes.py::test_a_full_disk_ends_no_run",)),
    Case(
        5,
        "a body of 1 GiB without a token",
        (
            f"{SERVER}::test_a_body_beyond_its_bound_is_refused_without_being_kept",
            f"{SECURITY}::test_without_a_token_nothing_is_looked_at",
        ),
    ),
    Case(
        5,
        "a row of the ledger for each call without a token",
        (
            "learners/syncer/test_recorder.py::test_ten_thousand_refusals_are_a_few_rows",
            "learners/syncer/test_recorder.py::test_every_refusal_is_counted_in_some_row",
        ),
    ),
    Case(5, "idle connections exhaust files", (f"{SERVER}::test_connections_that_say_nothing_are_closed_and_bounded",)),
    Case(
        5,
        "what others keep at a checkpoint.url",
        (
            f"{CHECKPOINT}::test_what_others_keep_beside_checkpoints_stays",
            f"{CHECKPOINT}::test_what_others_put_into_a_checkpoint_outlives_it",
        ),
    ),
    Case(
        5,
        "a lock that is a link; an order that leads elsewhere",
        (
            "core/test_locks.py::test_what_a_link_under_the_locks_name_leads_to_is_left_alone",
            "learners/launch/test_supervisor.py::test_an_order_whose_name_leads_elsewhere_is_not_obeyed",
        ),
    ),
    Case(
        5,
        "a password in files, lines and command lines",
        (
            "campaign/test_run.py::test_a_password_in_checkpoint_url_is_in_no_file_but_the_users_own",
            f"{CHECKPOINT}::test_a_password_is_in_no_line_about_a_place",
            "cli/test_program.py::test_a_refused_value_is_shown_without_its_password",
            "experiments/test_tasks.py::test_what_a_worker_is_told_holds_no_password",
            "learners/launch/test_processes.py::test_a_password_given_by_set_stands_on_no_command_line_of_a_child",
        ),
    ),
    Case(
        5,
        "names and addresses over the wire; every interface",
        (
            f"{SERVICE}::test_a_name_that_cannot_be_a_folder_is_refused_on_the_wire",
            f"{SERVICE}::test_an_address_that_is_none_is_refused_on_the_wire",
            "learners/wire/test_link.py::test_a_server_that_listens_everywhere_is_reached_here",
            f"{SERVER}::test_ipv6",
        ),
    ),
    Case(
        7,
        "a loop or Trainer of one's own, one of two killed",
        (
            f"{OUTER_LOOP}::test_one_of_two_plain_loops_is_killed_and_every_sample_counts_once",
            f"{OUTER_LOOP}::test_one_of_two_hugging_face_trainers_is_killed_and_every_sample_counts_once",
        ),
    ),
)


def holds(case: Case) -> tuple[bool, str, float]:
    """Whether all its tests pass; pytest's last line; seconds."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
    command += [str(TESTS / each) for each in case.tests]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=TESTS.parent)
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    passed = done.returncode == 0 and "skipped" not in said[-1]
    return passed, said[-1], time.monotonic() - began


def main() -> None:
    """Exit status 1 when one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--only", type=int, nargs="+", choices=list(KINDS), default=list(KINDS), help="kinds of fault")
    parser.add_argument("--list", action="store_true", help="show which test holds what, run nothing")
    arguments = parser.parse_args()
    console, rows, right = Console(width=160), Table("kind", "fault", "held by", "result"), True
    burner = None if arguments.list else subprocess.Popen([sys.executable, "-c", BURN])
    try:
        for case in (case for case in CASES if case.kind in arguments.only):
            result = ""
            if burner:
                passed, result, seconds = holds(case)
                right &= passed
                print(f"{case.fault}: {result} ({seconds:.0f} s)", file=sys.stderr, flush=True)
            rows.add_row(f"{case.kind} {KINDS[case.kind]}", case.fault, "\n".join(case.tests), result)
    finally:
        if burner:
            burner.kill()
            burner.wait()
    console.print(rows)
    sys.exit(not right)


if __name__ == "__main__":
    main()
