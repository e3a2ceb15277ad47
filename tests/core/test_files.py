"""Files are whole or not there, the old content stays when writing fails, and the remedy fits the failure."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tenfold.core.errors import TenfoldError
from tenfold.core.files import (
    read_bounded,
    read_json,
    read_user_cache,
    user_cache,
    write_bytes,
    write_json,
    write_text,
    write_user_cache,
)


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_written_is_read_back_and_nothing_lies_beside_it(tmp_path: Path, durable: bool) -> None:
    write_json(tmp_path / "a.json", {"b": [1, "é"]}, durable=durable)
    write_text(tmp_path / "a.txt", "ü\n", durable=durable)
    write_bytes(tmp_path / "a.bin", memoryview(b"\x00\xff"), durable=durable)
    assert read_json(tmp_path / "a.json") == {"b": [1, "é"]}
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "ü\n"
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\xff"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.json", "a.txt"]


def test_durable_syncs_file_and_folder_and_the_other_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve().is_dir())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "fast", "x", durable=False)
    assert synced == []
    write_text(tmp_path / "safe", "x")
    assert synced == [False, True]


@pytest.mark.parametrize(
    ("name", "said"),
    [("none/a", "No such file or directory); make its folder first"), ("folder", "name another file")],
)
def test_a_path_that_cannot_be_written_is_told_with_its_remedy(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(TenfoldError) as caught:
        write_text(tmp_path / name, "x")
    assert str(caught.value).startswith(f"{tmp_path / name}: cannot be written (")
    assert str(caught.value).endswith(said)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


FILL = """
import resource, signal, sys
from pathlib import Path
from tenfold.core.files import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_text(Path(sys.argv[1]), "x" * 5000)
"""


def test_a_disk_that_is_full_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write_text(path, "old")
    done = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=False)
    assert f"{path}: cannot be written (File too large); make room, then run again" in done.stderr
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


KEEP_WRITING = """
import sys
from pathlib import Path
from tenfold.core.files import write_text
for number in range(10**9):
    write_text(Path(sys.argv[1]), f"{number % 10}" * 200_000, durable=False)
    if number == 3:
        print("writing", flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with subprocess.Popen([sys.executable, "-c", KEEP_WRITING, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        seen = {path.read_text() for _ in range(200)}
        writer.send_signal(signal.SIGKILL)
    seen.add(path.read_text())
    assert all(len(text) == 200_000 and len(set(text)) == 1 for text in seen)


def test_many_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "shared"

    def write(letter: str) -> None:
        for _ in range(50):
            write_text(path, letter * 10_000, durable=False)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = path.read_text()
    assert len(text) == 10_000 and len(set(text)) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["shared"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"'])
def test_what_is_no_json_object_reads_as_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    assert read_json(tmp_path / "x.json") is None
    assert read_json(tmp_path / "gone.json") is None


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TenfoldError, match="cannot be read"):
        read_json(tmp_path)


def test_small_files_are_read_up_to_their_limit_and_pipes_never(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"12345")
    assert read_bounded(tmp_path / "small", 5) == b"12345"
    with pytest.raises(TenfoldError, match=r"small: larger than the 4 bytes"):
        read_bounded(tmp_path / "small", 4)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "gone", "."):
        with pytest.raises(TenfoldError, match="not a file"):
            read_bounded(tmp_path / name, 5)


def test_the_users_cache_is_kept_and_never_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert read_user_cache("peak.json") == {}
    write_user_cache("peak.json", {"a": 1.5})
    assert read_user_cache("peak.json") == {"a": 1.5}
    assert user_cache("peak.json") == tmp_path / "tenfold" / "peak.json"
    user_cache("peak.json").write_text("[]")
    assert read_user_cache("peak.json") == {}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "tenfold" / "peak.json"))
    write_user_cache("peak.json", {"a": 1.5})  # its folder is a file
    assert read_user_cache("peak.json") == {}
