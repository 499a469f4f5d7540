import numpy as np

from foretrace.reports.figures import quality


def test_a_forecast_that_runs_away_does_not_hide_the_others():
    errors = {"model": [0.1, 0.2, 0.3], "persistence": [0.2, 0.4, 0.8], "velocity": [1, 1e6, 1e30]}
    axes = quality.error_by_horizon(errors, dt_s=0.01).axes[0]
    assert axes.get_ylim()[1] < 100
    assert {line.get_linestyle() for line in axes.lines if line.get_label() in errors} == {"-", "--", ":"}


def test_the_interval_is_named_only_where_it_is_drawn():
    errors = {"model": [0.1, 0.2], "mean": [1.0, 1.0]}
    with_one = quality.error_by_horizon(errors, band=(np.array([0.05, 0.1]), np.array([0.2, 0.4])))
    labels = [
        figure.axes[0].get_legend_handles_labels()[1]
        for figure in (with_one, quality.error_by_horizon(errors))
    ]
    assert labels == [["model, 95% interval", "model", "mean"], ["model", "mean"]]


def test_the_skill_map_says_each_value_and_of_many_features_shows_the_worst():
    axes = quality.skill_map([[0.5, -20.0]], feature_names=["$x$"], horizons=[1, 100]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.50", "< −10"]
    skills, names = np.linspace(1, -1, 60)[:, None], [str(f) for f in range(60)]
    rows = quality.skill_map(skills, feature_names=names, horizons=[1]).axes[0].get_yticklabels()
    assert [row.get_text() for row in rows] == [str(f) for f in range(59, 35, -1)]


def test_residuals_of_white_noise_do_not_tell_of_the_next():
    noise = np.random.default_rng(0).normal(size=(2000, 2))
    histogram, lags = quality.residuals([noise, noise]).axes
    assert "kurtosis 2.9" in histogram.get_title(loc="left")
    assert abs(lags.lines[0].get_ydata()[1:]).max() < 0.1


def test_coverage_is_drawn_beside_what_it_should_be():
    observed = np.array([[0.5, 0.3], [0.9, 0.7]])
    nominal, by_step = quality.coverage([0.5, 0.9], observed, band=(observed - 0.1, observed)).axes
    np.testing.assert_allclose(nominal.lines[1].get_xydata(), [[0.5, 0.4], [0.9, 0.8]])
    assert [line.get_label() for line in by_step.lines if "%" in line.get_label()] == ["50%", "90%"]
    assert len(by_step.collections) == 2
