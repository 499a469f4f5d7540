"""What a parent run says of its children: seeds as repeats, and the best by validation error."""

import pytest

from foretrace.sweeps.children import Child, Summary, the_one_that_counts
from foretrace.sweeps.jobs import varied


def child(width, seed, valid, *, test=1.0, status="FINISHED", **more):
    job = (f"model.hidden_sizes=[{width}]", f"seed={seed}")
    return Child(job, f"{width}-{seed}", status, metrics={"val/mse": valid, "test/mse": test}, **more)


def summary(*children):
    return Summary(children, names=varied(child.job for child in children))


def test_seeds_are_repeats_of_the_same_settings():
    found = summary(*(child(8, seed, seed) for seed in (1.0, 2.0, 3.0)), child(4, 1, 9.0)).combinations
    row = found.loc["[8]"]
    assert (row["n"], row["val/mse"], row["val/mse sd"]) == (3, 2.0, 1.0)
    assert row["val/mse 95% low"] == pytest.approx(
        2 - 4.302653 / 3**0.5
    )  # Student's t with 2 degrees of freedom
    assert row["val/mse 95% high"] == pytest.approx(2 + 4.302653 / 3**0.5)
    assert found.loc["[4]"].isna()["val/mse 95% low"]  # one seed has no interval


def test_best_is_not_chosen_by_the_test_error_nor_by_few_seeds():
    children = [child(8, 1, 0.5, test=9), child(8, 2, 0.7, test=9), child(16, 1, 0.8), child(16, 2, 0.9)]
    lucky = [child(4, 1, 0.1), child(4, 2, 0.2, status="KILLED")]
    best = summary(*children, *lucky).best
    assert (best.label, best.child.run_id, best.n) == ("model.hidden_sizes=[8]", "8-1", 2)


def test_best_of_a_search_may_be_tried_once():
    twice = [child(8, 1, 0.5, trial=0), child(8, 1, 0.5, trial=1)]
    assert summary(*twice, child(4, 1, 0.1, trial=2)).best.child.trial == 2


def test_best_is_none_before_anything_is_finished():
    assert (
        summary(child(8, 1, 0.5, status="RUNNING"), child(4, 1, 0.5, status="PRUNED", trial=1)).best is None
    )


def test_verdict_names_what_failed():
    told = summary(child(8, 1, 0.5), child(4, 1, 0.1, status="FAILED")).verdict(3)
    assert told == (
        "1 of 3 jobs done, 1 failed: model.hidden_sizes=[4]; best 8-1 val/mse=0.5 (model.hidden_sizes=[8])"
    )


def test_errors_of_what_was_not_finished_are_not_shown():
    jobs = summary(child(8, 1, 0.5, status="KILLED"), child(8, 2, 0.5, status="PRUNED", trial=1)).jobs
    assert jobs["val/mse"].isna().tolist() == [True, False]
    assert jobs["test/mse"].isna().all()


def test_setting_with_a_bar_stays_one_cell():
    told = summary(child("8|9", 1, 0.5), child(4, 1, 0.6)).markdown().splitlines()
    assert {line.replace("\\|", "").count("|") for line in told[2:]} == {6}


@pytest.mark.parametrize(("statuses", "counts"), [("KFX", "F"), ("KX", "K"), ("XX", "second")])
def test_of_several_runs_of_a_job_one_counts(statuses, counts):
    words = {"K": "KILLED", "F": "FINISHED", "X": "FAILED"}
    runs = [
        Child(
            ("seed=1",), word if word != "X" or at == 0 else "second", words[word], has_checkpoint=word == "K"
        )
        for at, word in enumerate(statuses)
    ]
    assert the_one_that_counts(runs).run_id == counts
