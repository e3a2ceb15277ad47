"""Measure how a source tree is built: files, functions, names, who imports whom, room by room. Nothing is imported.

    python benchmarks/structure.py [SRC] [--list] [--passes] [--json FILE]

- A function's length is its lines from `def` to its end, without decorators, with docstring and functions inside it.
- A function is typed when every parameter but self and cls and the result are annotated (`__init__` needs no result).
- A room is a part of the package on the first level: a folder or a single file.
- A cross-room import is one `import` statement that names another room. It goes through the front door when it takes
  names from the room itself (`from tenfold.ROOM import NAME`), and past it when it names a module inside.
- A user of a module is another module that imports it or a name it defines. A package's `__init__` that passes a
  name on is no user; whoever takes the name from there is. Modules with a single user are counted twice: all of them,
  and those that no `__init__` above them names either, so that nobody but that user is meant to see them.
- Class names with a leading underscore may repeat; they are not counted.

--list names the classes, modules and imports behind the figures; --passes shows the files that each of FLOWS passes.
"""

import argparse
import ast
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGE = "tenfold"
DEFAULT_SOURCE = Path(__file__).parents[1] / "src" / PACKAGE
WIDTH = 120
Function = ast.FunctionDef | ast.AsyncFunctionDef

FLOORS = (
    ("core",),
    ("ledger", "config", "machine", "pages"),
    ("data", "model"),
    ("train",),
    ("evaluate", "scaling"),
    ("learners", "planner"),
    ("experiments",),
    ("campaign",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


@dataclass(frozen=True)
class Flow:
    """One thing followed through the package: stops as "train/step.py:train_step" or "train/loop.py:Loop.run".

    A stop is a function or class that makes the thing, takes it and hands it on, changes it, or decides what becomes of
    it, in the order of the run. Helpers that know nothing of the thing (a digest, an atomic write, a queue's thread)
    are none. Of a room that is entered only to ask for a result, the stop is the function at its door.
    """

    name: str
    most_files: int
    stops: tuple[str, ...]
    most_climbs: int | None = None


FLOWS = (
    Flow(
        "a pseudo-gradient, there and back",
        most_files=10,
        stops=(
            "learners/learner/loop.py:DecoupledLearner._step",
            "learners/learner/loop.py:DecoupledLearner._send",
            "learners/learner/replica.py:Replica.contribute",
            "learners/learner/replica.py:FragmentReplica.contribute",
            "learners/outer.py:encode",
            "learners/messages.py:Contribution",
            "learners/learner/exchange.py:Uplink.send",
            "learners/learner/exchange.py:Uplink._delivered",
            "learners/wire/link.py:Link.put",
            "learners/wire/server.py:_BulkCalls._put",
            "learners/wire/server.py:_Transfers.take_whole",
            "learners/syncer/shard.py:ShardHandler.receive",
            "learners/syncer/shard.py:SyncerShard.receive",
            "learners/outer.py:decode",
            "learners/syncer/merge_policy.py:NormGuard.check",
            "learners/syncer/store.py:FragmentStore.add",
            "learners/syncer/merge_policy.py:merge_time",
            "learners/syncer/shard.py:SyncerShard._merge",
            "learners/syncer/merge_policy.py:ThroughputShares.share",
            "learners/outer.py:OuterOptimizer.step",
            "learners/syncer/store.py:FragmentStore.publish",
            "learners/syncer/shard.py:SyncerShard.news",
            "learners/learner/exchange.py:Downlink._fetch_news",
            "learners/wire/link.py:Link.get",
            "learners/syncer/shard.py:SyncerShard.differences",
            "learners/outer.py:apply_difference",
            "learners/learner/loop.py:DecoupledLearner._merge_arrived",
            "learners/learner/replica.py:Replica.merge",
            "learners/learner/replica.py:FragmentReplica.merge",
        ),
    ),
    Flow(  # whoever takes the campaign, or the workspace that holds it; what takes one section of it ends its way
        "the campaign's configuration, from the stage to the trainer",
        most_files=8,
        most_climbs=3,
        stops=(
            "campaign/stages.py:train",
            "data/workspace.py:Workspace.manifest",
            "data/workspace.py:verified_manifest",
            "train/finished.py:checkpointer_of",
            "train/finished.py:finished_training",
            "train/identity.py:identify",
            "evaluate/holdouts.py:holdout_scorer",
            "train/learner.py:build_learner",
            "train/plan.py:plan_run",
            "train/identity.py:identify",
            "train/learner.py:Learner",
            "train/loop.py:Loop",
        ),
    ),
    Flow(  # from the command to the registered forecast: which runs, their laws and curves, the time, the register
        "tenfold predict",
        most_files=12,
        stops=(
            "cli/verbs.py:predict",
            "campaign/commands.py:run_predict",
            "experiments/forecast.py:predict",
            "experiments/register.py:target_identity",
            "experiments/register.py:registered",
            "experiments/register.py:refuse_after_the_fact",
            "experiments/ladder.py:run_ladder",
            "experiments/ladder.py:plan_ladder",
            "experiments/design.py:design_ladder",
            "experiments/tasks.py:ladder_tasks",
            "experiments/ladder.py:train_tasks",
            "experiments/trunk.py:train_task",
            "experiments/tasks.py:check_transfer",
            "experiments/forecast.py:make_forecast",
            "experiments/forecast.py:fit_laws",
            "experiments/ladder.py:fit_ladder_law",
            "scaling/predict.py:fit_scaling_law",
            "scaling/predict.py:ScalingLaw.forecast",
            "scaling/curve_forecast.py:final_losses",
            "scaling/curve_forecast.py:forecast_curve",
            "experiments/trial.py:time_trial",
            "ledger/forecasts.py:ForecastRegistry.register",
        ),
    ),
    Flow(  # every file that runs, as a profiler lists them
        "tenfold predict --table",
        most_files=12,
        stops=(
            "cli/program.py:main",
            "cli/verbs.py:predict",
            "scaling/predict.py:predict_table",
            "scaling/table.py:read_runs",
            "scaling/predict.py:fit_scaling_law",
            "scaling/backtest.py:check_identifiable",
            "scaling/backtest.py:run_backtest",
            "scaling/laws.py:tied_starts",
            "scaling/terms.py:TermLaw.fit",
            "scaling/isoflop.py:IsoFlopLaw.fit",
            "scaling/solve.py:solve",
            "scaling/committee.py:form_committee",
            "scaling/committee.py:calibrate",
            "scaling/predict.py:ScalingLaw.forecast",
            "scaling/predict.py:what_more_buys",
            "scaling/predict.py:prediction_lines",
            "cli/options.py:show_lines",
        ),
    ),
)


@dataclass(frozen=True)
class Import:
    """One import statement: `names` are taken from `module`, dotted; of `import a.b` there are none."""

    module: str
    names: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Module:
    """One file."""

    file: str  # relative to the package
    name: str  # dotted; of a package's __init__ that of the package
    lines: int
    tree: ast.Module = field(repr=False)

    @property
    def is_package(self) -> bool:
        return self.file.endswith("__init__.py")

    @property
    def room(self) -> str:
        return room_of(self.name)

    @cached_property
    def functions(self) -> list[Function]:
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]

    @cached_property
    def classes(self) -> list[str]:
        return [node.name for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]

    @cached_property
    def imports(self) -> list[Import]:
        """Statements that import from the package, those inside functions included."""
        return [found for node in ast.walk(self.tree) for found in self._imports_of(node)]

    def _imports_of(self, node: ast.AST) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if in_package(alias.name):
                    yield Import(alias.name, (), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            module = self._absolute(node)
            if in_package(module):
                yield Import(module, tuple(alias.name for alias in node.names), node.lineno)

    def _absolute(self, node: ast.ImportFrom) -> str:
        """The module of `from … import`, with the dots of a relative one resolved."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        base = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*base, *([node.module] if node.module else [])])

    @cached_property
    def defined(self) -> set[str]:
        """Names that top-level statements define, imports left out."""
        names: set[str] = set()
        for node in self.tree.body:
            if isinstance(node, Function | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        return names


def in_package(module: str) -> bool:
    return module == PACKAGE or module.startswith(f"{PACKAGE}.")


def room_of(module: str) -> str:
    """The room of a dotted module; of the package itself its own name."""
    return module.split(".")[1] if "." in module else module


def read_tree(source: Path) -> dict[str, Module]:
    """Every module by its dotted name."""
    modules = {}
    for path in sorted(source.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join([PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)])
        modules[name] = Module(str(path.relative_to(source)), name, len(text.splitlines()), ast.parse(text))
    return modules


def length(function: Function) -> int:
    """Lines from `def` to the end."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def is_typed(function: Function) -> bool:
    """Whether every parameter but self and cls is annotated, and the result."""
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    annotated = all(each.annotation is not None for each in parameters if each.arg not in ("self", "cls"))
    return annotated and (function.returns is not None or function.name == "__init__")


def origin(modules: dict[str, Module], module: str, name: str, seen: tuple[str, ...] = ()) -> str:
    """The module that `name`, taken from `module`, comes from: through what packages pass on, lazily or not."""
    if (inside := f"{module}.{name}") in modules:
        return inside
    there = modules.get(module)
    if there is None or not there.is_package or name in there.defined or module in seen:
        return module
    for statement in there.imports:
        if name in statement.names:
            return origin(modules, statement.module, name, (*seen, module))
    below = [each.name for each in modules.values() if each.name.startswith(f"{module}.") and name in each.defined]
    return below[0] if len(below) == 1 else module


def users(modules: dict[str, Module]) -> dict[str, set[str]]:
    """For each module, the modules that use it."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in modules.values():
        for statement in module.imports:
            for used in {origin(modules, statement.module, name) for name in statement.names} or {statement.module}:
                if used != module.name and not (module.is_package and used.startswith(f"{module.name}.")):
                    found[used].add(module.name)
    return found


def single_users(modules: dict[str, Module]) -> dict[str, str]:
    """Modules with exactly one user, and that user. Packages' `__init__` are left out."""
    by_module = users(modules)
    return {
        module.file: modules[next(iter(by_module[name]))].file
        for name, module in modules.items()
        if len(by_module[name]) == 1 and not module.is_package
    }


def passed_on(modules: dict[str, Module]) -> set[str]:
    """Files that a package's `__init__` above them names: by import, or by a string, as lazy front doors do."""
    found = set()
    for package in modules.values():
        if package.is_package:
            taken = {origin(modules, each.module, name) for each in package.imports for name in each.names}
            strings = {
                n.value for n in ast.walk(package.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            }
            found |= {
                each.file for each in modules.values() if is_below(each, package) and is_named(each, taken, strings)
            }
    return found


def is_below(module: Module, package: Module) -> bool:
    return module.name.startswith(f"{package.name}.")


def is_named(module: Module, taken: set[str], strings: set[str]) -> bool:
    """Whether the module is among those a package takes names from, or a string names it or what it defines."""
    return module.name in taken or module.name in strings or bool(module.defined & strings)


def repeated_classes(modules: dict[str, Module]) -> dict[str, list[str]]:
    """Public class names used more than once, and the files they stand in."""
    found: dict[str, list[str]] = defaultdict(list)
    for module in modules.values():
        for name in module.classes:
            found[name].append(module.file)
    return {name: files for name, files in sorted(found.items()) if len(files) > 1 and not name.startswith("_")}


@dataclass(frozen=True)
class Crossing:
    """One import statement that names another room."""

    file: str
    line: int
    module: str
    past_door: bool


def crossings(modules: dict[str, Module]) -> list[Crossing]:
    """Every cross-room import. What belongs to no room (the package's own `__init__`) crosses like any other."""
    return [
        Crossing(module.file, each.line, each.module, is_past_door(modules, each))
        for module in modules.values()
        for each in module.imports
        if room_of(each.module) not in (module.room, PACKAGE)
    ]


def is_past_door(modules: dict[str, Module], statement: Import) -> bool:
    """Whether the statement names a module inside a room: `from tenfold.room.module import …` or `… import module`."""
    return statement.module.count(".") > 1 or any(f"{statement.module}.{name}" in modules for name in statement.names)


@dataclass(frozen=True)
class Size:
    """Figures of the package or of one room."""

    files: int
    lines: int
    mean_lines: float
    longest_file: int
    functions: int
    function_median: float
    function_p90: int
    function_longest: int
    functions_over_30: int
    typed: float
    imported_by_other_rooms: int
    past_the_door: int


def size_of(modules: Sequence[Module], into: Sequence[Crossing]) -> Size:
    """Figures of these modules; `into` are the cross-room imports that end in them."""
    functions = [function for module in modules for function in module.functions]
    lengths = sorted(map(length, functions)) or [0]
    lines = [module.lines for module in modules]
    return Size(
        files=len(modules),
        lines=sum(lines),
        mean_lines=round(fmean(lines), 1),
        longest_file=max(lines),
        functions=len(functions),
        function_median=median(lengths),
        function_p90=lengths[min(len(lengths) - 1, int(0.9 * len(lengths)))],
        function_longest=lengths[-1],
        functions_over_30=sum(each > 30 for each in lengths),
        typed=round(fmean(map(is_typed, functions)), 4) if functions else 1.0,
        imported_by_other_rooms=len(into),
        past_the_door=sum(each.past_door for each in into),
    )


def measure(modules: dict[str, Module]) -> dict[str, Any]:
    """All figures, and the names behind them."""
    crossed = crossings(modules)
    single = single_users(modules)
    by_room: dict[str, list[Module]] = defaultdict(list)
    for module in modules.values():
        by_room[module.room].append(module)
    rooms = {
        room: size_of(inside, [each for each in crossed if room_of(each.module) == room])
        for room, inside in by_room.items()
    }
    largest = sorted(rooms, key=lambda room: -rooms[room].lines)[:3]
    package = size_of(list(modules.values()), crossed)
    return {
        "package": asdict(package),
        "largest_rooms": {room: rooms[room].lines for room in largest},
        "share_of_largest_rooms": round(sum(rooms[room].lines for room in largest) / package.lines, 3),
        "rooms": {room: asdict(rooms[room]) for room in sorted(rooms)},
        "repeated_classes": repeated_classes(modules),
        "single_users": single,
        "single_users_not_passed_on": sorted(set(single) - passed_on(modules)),
        "past_the_door": [asdict(each) for each in crossed if each.past_door],
        "longest_functions": longest_functions(modules),
    }


def longest_functions(modules: dict[str, Module], count: int = 10) -> dict[str, int]:
    """The longest functions with their lines."""
    found = {f"{m.file}:{each.lineno} {each.name}": length(each) for m in modules.values() for each in m.functions}
    return dict(sorted(found.items(), key=lambda item: -item[1])[:count])


def qualified_names(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Functions and classes of a module, as Class.method."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function | ast.ClassDef):
            yield f"{prefix}{node.name}"
            yield from qualified_names(node, f"{prefix}{node.name}.")
        else:
            yield from qualified_names(node, prefix)


def missing_stops(flow: Flow, modules: dict[str, Module]) -> list[str]:
    """Stops that name no function or class of the package, or a room on no floor."""
    names = {module.file: set(qualified_names(module.tree)) for module in modules.values()}
    split = [(stop, *stop.split(":", 1)) for stop in flow.stops]
    return [stop for stop, file, name in split if name not in names.get(file, ()) or file.split("/")[0] not in FLOOR]


def climbs(flow: Flow) -> int:
    """How often a stop lies on a higher floor than the one before."""
    passed = [FLOOR[stop.split("/")[0]] for stop in flow.stops]
    return sum(later > earlier for earlier, later in pairwise(passed))


def passes(flow: Flow) -> dict[str, Any]:
    """The files a flow runs through, in order of first passing."""
    files = list(dict.fromkeys(stop.split(":", 1)[0] for stop in flow.stops))
    limits = {"most_files": flow.most_files, "most_climbs": flow.most_climbs}
    return {"files": files, "stops": len(flow.stops), "climbs": climbs(flow), **limits}


def room_table(found: dict[str, Any]) -> Table:
    """A row for each room, the package last."""
    table = Table(title="rooms")
    columns = ("files", "lines", "mean", "functions", "median", "p90", "longest", "imported", "past door")
    table.add_column("room")
    for column in columns:
        table.add_column(column, justify="right")
    for name, size in {**found["rooms"], "all": found["package"]}.items():
        keys = ("files", "lines", "mean_lines", "functions", "function_median", "function_p90", "function_longest")
        figures = [size[key] for key in (*keys, "imported_by_other_rooms", "past_the_door")]
        table.add_row(name, *(f"{figure:,g}" for figure in figures), end_section=name == list(found["rooms"])[-1])
    return table


def summary_table(found: dict[str, Any]) -> Table:
    """The figures of the whole package."""
    size = found["package"]
    table = Table("figure", "value", title=PACKAGE)
    rows = {
        "files": f"{size['files']}",
        "lines a file, mean": f"{size['mean_lines']}",
        "function lines, median / p90 / longest": " / ".join(
            f"{size[f'function_{key}']:g}" for key in ("median", "p90", "longest")
        ),
        "functions typed": f"{size['typed']:.1%} of {size['functions']:,}",
        "class names used more than once": f"{len(found['repeated_classes'])}",
        "modules with a single user (named by no __init__)": (
            f"{len(found['single_users'])} ({len(found['single_users_not_passed_on'])})"
        ),
        "cross-room imports, past a front door": f"{size['past_the_door']} of {size['imported_by_other_rooms']}",
        "largest rooms, lines": ", ".join(f"{room} {lines:,}" for room, lines in found["largest_rooms"].items()),
        "their share of the package": f"{found['share_of_largest_rooms']:.0%}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def list_table(title: str, rows: dict[str, str]) -> Table:
    """Names and what they stand for."""
    table = Table(title=f"{title}: {len(rows)}", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def lists(found: dict[str, Any]) -> Iterator[Table]:
    """The names behind the figures."""
    yield list_table("class names used more than once", {n: "\n".join(f) for n, f in found["repeated_classes"].items()})
    yield list_table("modules with a single user", found["single_users"])
    past = {f"{each['file']}:{each['line']}": each["module"] for each in found["past_the_door"]}
    yield list_table("imports past a front door", past)
    yield list_table("longest functions", {name: str(lines) for name, lines in found["longest_functions"].items()})


def flow_table(name: str, passed: dict[str, Any]) -> Table:
    """The files of a flow, numbered."""
    files = passed["files"]
    climbs_allowed = "" if passed["most_climbs"] is None else f" (at most {passed['most_climbs']})"
    title = f"{name}: {len(files)} files (at most {passed['most_files']}), {passed['climbs']} climbs{climbs_allowed}"
    table = Table(title=title, show_header=False, min_width=len(title) + 2)
    for number, file in enumerate(files, 1):
        table.add_row(str(number), file)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("source", type=Path, nargs="?", default=DEFAULT_SOURCE, metavar="SRC")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--passes", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    modules = read_tree(arguments.source)
    if not modules:
        parser.error(f"{arguments.source}: no Python files")
    console = Console(width=WIDTH)
    found = measure(modules)
    console.print(summary_table(found), room_table(found), *(lists(found) if arguments.list else ()))
    if arguments.passes:
        for flow in FLOWS:
            if missing := missing_stops(flow, modules):
                parser.error(f"flow {flow.name!r}: no such function: {', '.join(missing)}")
        found["flows"] = {flow.name: passes(flow) for flow in FLOWS}
        console.print(*(flow_table(name, passed) for name, passed in found["flows"].items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
