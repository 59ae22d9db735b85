"""Tables as LaTeX."""
