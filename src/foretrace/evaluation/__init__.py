"""How good a forecast is, beside trivial ones."""
