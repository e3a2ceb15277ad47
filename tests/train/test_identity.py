"""What a run is: which changes of code, config, data and numerics make it another one."""

import ast
import shutil
from pathlib import Path

import pytest

import tenfold
from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.train.identity import (
    FILES_OF_LEARNERS,
    ROOMS_OF_WEIGHTS,
    ROOMS_WITHOUT_WEIGHT,
    RunIdentity,
    check_resumable,
    check_same_recipe,
    code_version,
    differences,
    identify,
    is_same_recipe,
)

PACKAGE = Path(tenfold.__file__).parent
NUMERICS = {"torch": "2.13.0", "threads": 1}


def campaign(**values: object) -> Campaign:
    sources = [{"kind": "files", "paths": ["texts"]}]
    return Campaign.model_validate({"name": "one", "data": {"sources": sources}, **values})


def identity(**values: object) -> RunIdentity:
    return identify(campaign(**values), "corpus", NUMERICS)


def rooms_imported_by(room: str) -> set[str]:
    """Rooms that a room's modules import, wherever in the file."""
    found: set[str] = set()
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.split(".")[1] for name in names if name.startswith("tenfold.")}
    return found - {room}


def reached_from(room: str) -> set[str]:
    rooms, new = set(), {room}
    while new:
        rooms |= new
        new = {other for each in new for other in rooms_imported_by(each)} - rooms
    return rooms


def test_every_room_that_training_imports_is_in_the_code_version_or_left_out_with_a_reason() -> None:
    reached = reached_from("train")
    assert reached >= set(ROOMS_OF_WEIGHTS)
    assert reached == {*ROOMS_OF_WEIGHTS, *ROOMS_WITHOUT_WEIGHT}
    assert all(ROOMS_WITHOUT_WEIGHT.values())


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACKAGE, tmp_path / "tenfold", ignore=shutil.ignore_patterns("__pycache__")))


def edit_room(package: Path, room: str) -> None:
    path = max((package / room).rglob("*.py"), key=lambda path: path.stat().st_size)
    path.write_text(path.read_text() + "\n# edited\n")


@pytest.mark.parametrize(
    "room", ["pages", "planner", "campaign", "experiments", "scaling", "core", "ledger", "machine"]
)
def test_an_edit_where_no_weight_is_made_leaves_every_run_resumable_to_the_bit(room: str, package: Path) -> None:
    before = [code_version(with_learners=several, package=package) for several in (False, True)]
    edit_room(package, room)
    code_version.cache_clear()
    assert [code_version(with_learners=several, package=package) for several in (False, True)] == before


@pytest.mark.parametrize("room", ROOMS_OF_WEIGHTS)
def test_an_edit_where_weights_are_made_shows(room: str, package: Path) -> None:
    before = code_version(with_learners=False, package=package)
    edit_room(package, room)
    code_version.cache_clear()
    assert code_version(with_learners=False, package=package) != before


@pytest.mark.parametrize("name", FILES_OF_LEARNERS)
def test_the_outer_step_counts_for_runs_of_several_learners_alone(package: Path, name: str) -> None:
    plain, several = (code_version(with_learners=each, package=package) for each in (False, True))
    (package / name).write_text((package / name).read_text() + "\n# edited\n")
    code_version.cache_clear()
    assert code_version(with_learners=False, package=package) == plain
    assert code_version(with_learners=True, package=package) != several
    assert identity(learners={"count": 2}).code != identity().code == code_version(with_learners=False)


def test_who_says_when_things_happen_makes_no_weight(package: Path) -> None:
    before = code_version(with_learners=True, package=package)
    for path in (package / "learners").rglob("*.py"):
        if path.relative_to(package).as_posix() not in FILES_OF_LEARNERS:
            path.write_text(path.read_text() + "\n# edited\n")
    code_version.cache_clear()
    assert code_version(with_learners=True, package=package) == before


def test_other_code_or_numerics_are_a_warning_each() -> None:
    saved = {
        "config": identity().config,
        "manifest": "corpus",
        "code": "another",
        "numerics": NUMERICS | {"threads": 4},
    }
    assert check_resumable(saved, identity(), "here") == [
        "numerics changed: threads: 4 → 1",
        "tenfold's code changed",
    ]
    assert check_resumable(vars(identity()), identity(), "here") == []


def test_another_configuration_is_refused_by_its_key() -> None:
    with pytest.raises(InputError, match=r"here: trained with another configuration \(seed: 0 → 3\)"):
        check_same_recipe(vars(identity(seed=0)), identity(seed=3), "here")
    assert not is_same_recipe(vars(identity(seed=0)), identity(seed=3))


def test_another_corpus_is_refused() -> None:
    with pytest.raises(InputError, match="here: trained on other data"):
        check_same_recipe(vars(identity()) | {"manifest": "another"}, identity(), "here")


def test_what_changes_no_weight_is_no_part_of_the_identity() -> None:
    assert identity(name="two", checkpoint={"every": 3}, evaluate={"stride": 7}).fingerprint == identity().fingerprint
    assert identity(train={"log_every": 3}).fingerprint == identity().fingerprint
    assert identity(train={"tokens": 12345}).fingerprint != identity().fingerprint


def test_a_key_an_older_version_did_not_know_is_at_its_default() -> None:
    config = identity().config
    older = {key: value for key, value in config.items() if key != "seed"}
    assert is_same_recipe({"config": older, "manifest": "corpus"}, identity())
    gone = config | {"gone": 1}
    with pytest.raises(InputError, match="gone: 1 → None"):
        check_same_recipe({"config": gone, "manifest": "corpus"}, identity(), "here")


def test_learners_of_one_run_have_one_recipe_whatever_their_number() -> None:
    assert identity(learners={"count": 2}).recipe == identity(learners={"count": 5}).recipe
    assert identity(learners={"count": 2, "inner_steps": 4}).recipe != identity(learners={"count": 2}).recipe


def test_differences_name_the_leaf() -> None:
    assert list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4})) == ["a.c: 2 → 3", "d: None → 4"]


def test_the_ledger_gets_name_and_environment_too() -> None:
    described = identity().describe("one")
    assert described["name"] == "one" and described["manifest"] == "corpus" and described["environment"]
