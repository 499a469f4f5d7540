from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

from foretrace.tracking.store import find_run
from foretrace.tracking.stored import escape, unescape

PIECES = st.sampled_from(
    ["_", "x", "_x", "_x25_", "25", "_x5f_", "%", "(", "=", "/", "//", ".", "..", "a", "é", "\n", "温"]
)


@given(st.lists(PIECES, min_size=1, max_size=12).map("".join))
def test_escape_is_taken_by_mlflow_and_reversible(name):
    text = escape(name)
    for validate in (_validate_metric_name, _validate_param_name, _validate_tag_name):
        validate(text)
    assert unescape(text) == name


def test_usual_names_stay_as_they_are():
    for name in (
        "MSE train loss/epoch",
        "open_loop/ridge/mse",
        "mlflow.source.git.commit",
        "pos_x",
        "changed.a: b",
    ):
        assert escape(name) == name


def test_a_run_holds_metrics_params_and_tags_of_any_name(begin, stored, workspace):
    name = "data.units {CO2%: ppm} (air)"
    with begin() as tracked:
        tracked.log_metrics({name: 1.0}, step=0)
        tracked.log_params({name: 5})
        tracked.set_tags({name: "a"})
    assert stored(tracked).info.status == "FINISHED"
    with find_run(tracked.id, workspace, ended=True) as again:
        assert (again.params[name], again.tags[name], again.history(name)) == (
            "5",
            "a",
            ([0], [1.0]),
        )
