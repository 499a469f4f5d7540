"""Stacked LSTMs on multivariate sequences: trained, tracked, and compared with trivial forecasts."""
