"""Tables for the terminal, as markdown and as CSV."""
