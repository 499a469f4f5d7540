"""The network, in PyTorch alone."""
