"""The training step, its losses, optimisers, schedules and monitors, and the loop."""
