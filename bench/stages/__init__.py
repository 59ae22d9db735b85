"""What a worker does for one run: build, tune, adapt, evaluate, and what is stored of it."""
