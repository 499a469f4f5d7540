"""From a trained model to its use: one file, forecasts of rows, and the formats of others."""
