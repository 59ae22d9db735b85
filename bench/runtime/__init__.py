"""The process and the machine: devices, workers, memory, progress."""
