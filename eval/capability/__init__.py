"""What a model can do: tasks, minimal pairs, copying, calibration, the validity of what it writes."""
