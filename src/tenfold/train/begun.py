"""Which run lies in a campaign's folder, finished or on its way, and the campaign and corpus as that run has them.

What was trained stays usable: its settings are in train.json and in the checkpoints, and its corpus is kept when
another one is built.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from pydantic import ValidationError

from tenfold.config import Campaign, explain, load_campaign, with_new_names
from tenfold.core import InputError, read_json, shown
from tenfold.data import Manifest, Workspace, asked_for
from tenfold.train.finished import checkpointer_of, read_training
from tenfold.train.identity import changes_since, check_same_recipe, identify
from tenfold.train.ranks import Ranks


def as_trained(workspace: Workspace) -> Workspace:
    """The campaign with the settings, and on the corpus, that the finished training here had.

    The `--set` options of the training count as if given again. What campaign.toml says otherwise since is said and
    left aside; where `--set` says otherwise now, InputError names the key, as for an option that held a secret and is
    not given again. A workspace without a finished training, or whose corpus is gone, comes back as it is.
    """
    trained = read_training(workspace.files)
    if trained is None:
        return workspace
    _check_secrets(trained.secret, workspace)
    saved, overrides = trained.identity, (*trained.overrides, *workspace.overrides)
    campaign = load_campaign(workspace.files.directory, overrides)
    changed = changes_since(saved, identify(campaign, "", {}))
    if changed:
        if _sets_one_of(workspace.overrides, changed):
            check_same_recipe(saved, identify(campaign, saved["manifest"], {}), str(workspace.files.train_result))
        campaign = _with_saved(campaign, saved["config"], str(workspace.files.train_result))
        workspace.console.say(
            f"campaign.toml has changed since the training ({'; '.join(changed[:3])}): the model is taken as trained"
        )
    same = replace(workspace, campaign=campaign, overrides=overrides)
    found = same.on_corpus(saved["manifest"])
    if found:
        _say_of_corpus(found, workspace.overrides)
    return found or same


def _check_secrets(secret: Sequence[str], workspace: Workspace) -> None:
    """Raises InputError where an option with a secret is neither given again nor in campaign.toml now."""
    now = shown(workspace.campaign.model_dump(mode="json"))
    for key, _, value in (each.partition("=") for each in secret):
        found = reduce(lambda section, part: section.get(part, {}), key.strip().split("."), now)
        if found != value.strip().strip("\"'"):
            raise InputError(
                f"{workspace.files.train_result}: trained with --set {key.strip()}={value.strip()}; what is left out "
                "here is secret and kept nowhere: give it again with --set, or in campaign.toml"
            )


def _sets_one_of(overrides: Sequence[str], changed: Sequence[str]) -> bool:
    """Whether a `--set` option is among changes, which begin with their keys."""
    keys = [override.partition("=")[0].strip() for override in overrides]
    return any(change.partition(":")[0].startswith(key) for change in changed for key in keys)


def _with_saved(campaign: Campaign, saved: Mapping[str, Any], where: str) -> Campaign:
    """The campaign with everything that makes the run what it is as it was saved. Raises InputError if it cannot be."""
    values = campaign.model_dump(mode="json", exclude_unset=True)
    try:
        return Campaign.model_validate(_merged(values, with_new_names(saved)))
    except ValidationError as error:
        raise InputError(explain(error, f"{where} beside what campaign.toml says now", Campaign)) from None


def _merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _say_of_corpus(workspace: Workspace, given: Sequence[str]) -> None:
    """Whether [data] is what the model was trained on is said. Raises InputError where a `--set` of now asks for more.

    What [data] says now cannot change what the model has seen.
    """
    corpus, campaign = workspace.files.data, workspace.campaign
    if Manifest.load(corpus).asked_for == asked_for(campaign.data, campaign.seed):
        return
    if sets := [override for override in given if override.startswith("data.")]:
        raise InputError(f"--set {sets[0]}: not what the model was trained on, {corpus}; leave it out")
    workspace.console.say(f"[data] has changed since the training: the model is taken with its own corpus, {corpus}")


def on_corpus_of_run(workspace: Workspace) -> Workspace:
    """The campaign on the corpus of the run that was begun here, where a newer one lies beside it.

    Where [data] or the seed says otherwise now, the workspace comes back as it is: that is another run.
    """
    if not any(workspace.files.corpora.glob("*")):
        return workspace
    saved = saved_run(workspace)
    found = workspace.on_corpus(saved[1]["manifest"]) if saved else None
    campaign = workspace.campaign
    if found is None or Manifest.load(found.files.data).asked_for != asked_for(campaign.data, campaign.seed):
        return workspace
    return found


def saved_run(workspace: Workspace) -> tuple[str, Mapping[str, Any]] | None:
    """(where it is saved, identity) of the run that would be gone on with here; None where none was begun."""
    with checkpointer_of(workspace, Ranks(0, 1, torch.device("cpu"))) as checkpointer:
        newest = checkpointer.newest_manifest()
    if newest:
        return newest[0], newest[1].meta["identity"]
    learners = read_json(workspace.files.learners_identity)
    return (str(workspace.files.learners), learners["identity"]) if learners else None
