"""What methods share: weights, layers, settings, data access."""
