"""``python -m bench profile``: what parts cost, side by side."""
