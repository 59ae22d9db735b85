"""Tables for the terminal, as markdown, HTML, CSV and JSON."""
