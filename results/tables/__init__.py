"""From rows to table objects."""
