"""The training step and what drives it: losses, optimisers, schedules, monitors and the loop."""
