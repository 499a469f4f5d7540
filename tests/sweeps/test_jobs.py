"""Jobs of a sweep before any begins: counted, checked, and nothing that was typed is dropped."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from foretrace.errors import UserError
from foretrace.sweeps import jobs


def parsed(*overrides):
    return OverridesParser.create().parse_overrides(list(overrides))


@pytest.mark.parametrize("typed", ["seed=range(0)", "seed=range(0,1000000000)", "seed=range(0,inf)"])
def test_number_of_jobs_is_counted_before_they_are_made(typed):
    with pytest.raises(UserError):
        jobs.check_number(parsed(typed))


@pytest.mark.parametrize(
    "typed",
    [
        ["sweep.resume=0a", "optimizer.lr=1"],
        ["sweep.resume=0a", "+optimizer.lr=1"],
        ["sweep.resume=0a", "sweep.trial=1"],
        ["sweep.parent=0a", "seed=1,2"],
        ["sweep={resume: 0a}", "seed=1,2"],
        ["resume=0a", "seed=1,2"],
        ["++resume=0a", "seed=1,2"],
    ],
)
def test_setting_that_would_be_dropped_is_refused(typed):
    with pytest.raises(UserError):
        jobs.sweep_to_resume(typed)


@pytest.mark.parametrize("typed", ["++sweep.resume=0a", "sweep={resume: 0a, parent: null, trial: null}"])
def test_sweep_to_resume_in_another_spelling_is_refused(typed, composed):
    with pytest.raises(UserError, match="by itself"):
        jobs.check([[typed]], lambda job: composed(*job))
