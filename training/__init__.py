"""The parts of `train.py`: devices, optimizers, schedules, one step, its state, and its guards."""
