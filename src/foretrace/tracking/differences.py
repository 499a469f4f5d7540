"""Where today's environment and data are not those of a recorded run, in lines for a person."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from foretrace.data.sequences import Sequences
from foretrace.tracking.git import UNKNOWN, distance
from foretrace.tracking.libraries import LIBRARIES
from foretrace.tracking.provenance import PATCH

Record = Mapping[str, Any]

_ABSENT = "none"
_IN_WORDS = {"true": "with changes", "false": "clean", UNKNOWN: UNKNOWN}
_CODE = {"mlflow.source.git.commit": "commit", "git.dirty": "dirty"}
_COMPUTER = ("processor", "cores", "cores allowed", "platform")
_NOT_TORCH = ("build",)  # says at length what the others say, and names a commit


def differences(
    recorded: Record, today: Record, *, root: Path | None = None, folder: Path | None = None
) -> list[str]:
    """What is not as it was when a run was recorded, what matters most first.

    Only what the record holds is compared.

    Args:
        recorded: What the run's ``provenance/environment.json`` holds, or `of_tags` for an older run.
        today: The same for this process; see `foretrace.tracking.provenance.collect`.
        root: The checkout, whose history says how far two commits are apart.
        folder: The run's artifacts, for the command that restores a tree.

    >>> differences({"torch": {"threads": 4}}, {"torch": {"threads": 2}})
    ['torch, threads: 4 then, 2 now']
    """
    return [
        *_code(recorded.get("code", {}), today.get("code", {}), root, folder),
        *_of_group("Python", recorded, today, "python"),
        *_libraries(recorded.get("libraries", {}), today.get("libraries", {})),
        *_accelerator(recorded.get("accelerator", {}), today.get("accelerator", {})),
        *_of_group("torch", recorded, today, "torch"),
        *_of_group("", recorded, today, "computer"),
        *_variables(recorded, today),
    ]


def of_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    """What the labels of a run hold of its environment: less than the record, and all that older runs have."""
    versions = {n.removeprefix("version."): v for n, v in tags.items() if n.startswith("version.")}
    python = versions.pop("python", None)
    computer = {name: tags[name] for name in ("platform", "processor") if name in tags}
    return {
        "code": {name: tags[tag] for tag, name in _CODE.items() if tag in tags},
        "python": {"version": python} if python else {},
        "libraries": {"installed": versions, "imported": list(versions)},
        "accelerator": {"name": tags["accelerator"]} if "accelerator" in tags else {},
        "torch": {"threads": int(tags["torch.threads"])} if "torch.threads" in tags else {},
        "computer": computer | ({"cores": int(tags["cores"])} if tags.get("cores", "").isdigit() else {}),
    }


def data_differences(run: Run, today: Mapping[str, Sequences]) -> list[str]:
    """Which data are not those that a run recorded.

    Args:
        run: The recorded run, as the store gives it.
        today: What was read now, by the recorded names, e.g. ``halfcheetah train``.
    """
    recorded: dict[str, list[Any]] = {}
    for given in run.inputs.dataset_inputs if run.inputs else ():
        recorded.setdefault(given.dataset.name, []).append(given.dataset)
    lines = [_of_data(name, recorded.pop(name, []), sequences) for name, sequences in today.items()]
    lines += [f"data, {name}: in the record, not here" for name in recorded]
    return list(filter(None, lines))


def _of_data(name: str, recorded: Sequence[Any], today: Sequences) -> str:
    if not recorded:
        return f"data, {name}: not in the record"
    if any(today.digest.startswith(data.digest) for data in recorded):
        return ""
    then, profile = json.loads(recorded[0].source), json.loads(recorded[0].profile or "{}")
    sizes = f"{profile.get('episodes')} episodes with {profile.get('rows')} rows"
    origin = f", from {then['origin']}" if then.get("origin") != today.origin else ""
    return (
        f"data, {name}: other values. Then {sizes} (SHA-256 {recorded[0].digest[:12]}…){origin}; "
        f"now {len(today)} with {today.num_rows} ({today.digest[:12]}…)"
        + (f", from {today.origin}" if origin else "")
    )


def _code(then: Record, now: Record, root: Path | None, folder: Path | None) -> Iterator[str]:
    if not then:
        return
    same_sources = then.get("sources") is not None and then.get("sources") == now.get("sources")
    same = "; src/ and conf/ are the same" if same_sources else ""
    commit, here = then.get("commit", UNKNOWN), now.get("commit", UNKNOWN)
    if commit != here:
        apart = distance(root, commit) if root and UNKNOWN not in (commit, here) else ""
        yield f"commit: {commit} then, {here} now" + (f" ({apart})" if apart else "") + same
    elif commit == UNKNOWN and not same_sources:
        yield "commit: not known, neither then nor now"
    dirty, is_dirty = then.get("dirty", UNKNOWN), now.get("dirty", UNKNOWN)
    has_same_patch = "patch" in then and (then["patch"], then.get("left out")) == (
        now.get("patch"),
        now.get("left out"),
    )
    if dirty != is_dirty or (dirty == "true" and not has_same_patch):
        other = (
            _IN_WORDS[is_dirty]
            if dirty != is_dirty
            else "with others"
            if "patch" in then
            else "perhaps others"
        )
        yield f"tree: {_IN_WORDS[dirty]} then, {other} now{same}{_restoration(commit, then, folder)}"


def _restoration(commit: str, then: Record, folder: Path | None) -> str:
    if commit == UNKNOWN:
        return ""
    patch = shlex.quote(str(folder / PATCH if folder else PATCH))
    apply = f" && git apply {patch}" if then.get("dirty") == "true" else ""
    left_out = len(then.get("left out", ()))
    missing = f" ({left_out} new files are not in it, see left_out.tsv beside it)" if left_out else ""
    if apply and "patch" not in then:
        missing = " (which only names untracked files, as the run is an older one)"
    return f". To restore it: git checkout {shlex.quote(commit)}{apply}{missing}"


def _libraries(then: Record, now: Record) -> Iterator[str]:
    versions, here = then.get("installed", {}), now.get("installed", {})
    first = [name for name in LIBRARIES if name in versions]  # whether or not they were imported by then
    for name in dict.fromkeys([*first, *then.get("imported", ())]):
        if versions.get(name) != here.get(name):
            yield f"{name}: {versions.get(name, _ABSENT)} then, {here.get(name, _ABSENT)} now"


def _accelerator(then: Record, now: Record) -> Iterator[str]:
    for name in ("name", "memory", "driver"):
        if name in then and then[name] != now.get(name):
            label = "accelerator" if name == "name" else f"accelerator, {name}"
            yield f"{label}: {then[name]} then, {now.get(name, _ABSENT)} now"


def _of_group(label: str, recorded: Record, today: Record, group: str) -> Iterator[str]:
    then, now = recorded.get(group, {}), today.get(group, {})
    for name, value in then.items():
        compared = name in _COMPUTER if group == "computer" else name not in _NOT_TORCH
        if compared and value != now.get(name):
            what = ", ".join(filter(None, (label, name)))
            yield f"{what}: {_said(value)} then, {_said(now.get(name))} now"


def _variables(recorded: Record, today: Record) -> Iterator[str]:
    if "variables" not in recorded:
        return
    then, now = recorded["variables"], today.get("variables", {})
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield f"variable {name}: {then.get(name, 'not set')} then, {now.get(name, 'not set')} now"


def _said(value: Any) -> str:
    return _ABSENT if value is None else str(value)
