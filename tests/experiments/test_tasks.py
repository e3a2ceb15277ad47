"""Folders of small runs outlive the version that made them: their names and files stay what they were."""

import json
from dataclasses import replace
from pathlib import Path

from tenfold.config import Campaign, CheckpointSettings
from tenfold.experiments.changes import ladder_recipe
from tenfold.experiments.design import design_ladder, target_of
from tenfold.experiments.tasks import TrunkTask, ladder_tasks, transfer_tasks

VOCAB, TOKENS, CORPUS = 4096, 40_000_000, "abc"
FOLDERS = ["w32-d2-fb219203963c", "w64-d2-898644bde509", "w128-d3-621d0cfeeaec", "w160-d4-ffdafe6eafee"]
"""Of version 0.1, when [learners] was called [cluster]."""
OTHER_RATES = [
    *("w32-d2-e3ddd20fb01b", "w32-d2-9839c9f0eaf8", "w32-d2-ac8e5dcc53c3"),
    *("w64-d2-febd7a853697", "w64-d2-bbae8d9e7015", "w64-d2-4931e34733fd"),
]
RESULT = {
    "size": "w32-d2",
    "seed": 0,
    "rate_factor": 1.0,
    "parameters": 155_648,
    "tokens": 1_048_576,
    "compute": 1.1e12,
    "budget": 1.0e12,
    "steps": 512,
    "batch_tokens": 2048,
    "learning_rate": 0.01,
    "holdouts": {"iid": 2.31},
    "fingerprint": "f" * 64,
    "trunk_fingerprint": "e" * 64,
    "weights_digest": "d" * 64,
    "seconds": 3.5,
    "trunk_seconds": 9.25,
}


def campaign() -> Campaign:
    data = {"sources": [{"kind": "files", "paths": ["texts"]}]}
    model, train = {"depth": 6, "width": 256, "context": 256}, {"tokens": TOKENS, "batch_tokens": 8192}
    return Campaign.model_validate({"name": "made", "data": data, "model": model, "train": train})


def tasks_in(root: Path) -> list[TrunkTask]:
    trunks = design_ladder(campaign(), VOCAB, target_of(campaign(), VOCAB, TOKENS))
    return ladder_tasks(root, trunks, campaign(), CORPUS) + transfer_tasks(root, trunks, campaign(), CORPUS)


def test_folders_of_an_earlier_version_are_found(tmp_path: Path) -> None:
    assert [task.folder.name for task in tasks_in(tmp_path)] == FOLDERS + OTHER_RATES


def test_results_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    task = tasks_in(tmp_path)[0]
    rung = task.trunk.rungs[0]
    task.folder.mkdir()
    task.result_file(rung).write_text(json.dumps(RESULT))
    result = task.result(rung)
    assert result is not None and vars(result) == RESULT


def test_changes_tried_with_an_earlier_version_compare_with_new_ones() -> None:
    assert ladder_recipe(campaign(), CORPUS) == "28714f515073f5c69dd4bee04de005c0a43742a78f93b81cb82029f6835a8019"


def test_what_a_worker_is_told_holds_no_password(tmp_path: Path) -> None:
    values = campaign().model_dump(exclude_unset=True) | {"checkpoint": {"url": "s3://me:open-sesame@bucket"}}
    told = replace(tasks_in(tmp_path)[0], campaign=Campaign.model_validate(values)).to_dict()
    assert "open-sesame" not in json.dumps(told)
    assert TrunkTask.from_dict(told).campaign.checkpoint == CheckpointSettings()
