"""Where images come from: builders, wheels, hubs and folders."""
