"""From the results folder to what ``results`` shows."""
