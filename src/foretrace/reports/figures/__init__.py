"""Pictures of training and of forecasts: arrays in, matplotlib Figure out."""
