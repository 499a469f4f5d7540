"""What happens inside the network: gates, gradients and weights."""
