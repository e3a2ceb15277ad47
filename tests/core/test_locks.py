"""One process at a time, and the lock goes with the process that held it, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tenfold.core.errors import InputError, TenfoldError
from tenfold.core.folder import CampaignFiles
from tenfold.core.locks import exclusive, exclusive_if_free

HOLD = """
import sys, time
from pathlib import Path
from tenfold.core.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_told_who_has_it_until_that_one_is_killed(tmp_path: Path) -> None:
    lock = CampaignFiles(tmp_path).directory / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TenfoldError) as caught, CampaignFiles(tmp_path).locked():
            pass
        assert str(caught.value) == f"{tmp_path}: process {holder.pid} is working here; wait for it or stop it"
        with exclusive_if_free(lock) as held:
            assert not held
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with exclusive(lock):
        assert lock.read_text() == str(os.getpid())
    with exclusive_if_free(lock) as held:
        assert held


def test_an_error_inside_passes_through_and_frees_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), exclusive(tmp_path / ".lock"):
        raise KeyError("x")
    with exclusive(tmp_path / ".lock"):
        pass


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write here"), exclusive(tmp_path / "gone" / ".lock"):
        pass


def made(lock: Path, kind: str, victim: Path) -> None:
    """Something else under the lock's name."""
    match kind:
        case "link":
            lock.symlink_to(victim)
        case "hard-link":
            lock.hardlink_to(victim)
        case "dangling":
            lock.symlink_to(victim.parent / "not-there")
        case "pipe":
            os.mkfifo(lock)
        case _:
            lock.mkdir()


@pytest.mark.parametrize("kind", ["link", "hard-link", "dangling", "pipe", "folder"])
def test_what_a_link_under_the_locks_name_leads_to_is_left_alone(tmp_path: Path, kind: str) -> None:
    victim, lock = tmp_path / "precious", tmp_path / "campaign" / ".lock"
    victim.write_text("precious")
    lock.parent.mkdir()
    made(lock, kind, victim)
    with pytest.raises(InputError, match=r"\.lock: not a lock file of tenfold; delete it"), exclusive(lock):
        pass
    assert victim.read_text() == "precious"
    assert not (tmp_path / "not-there").exists()
