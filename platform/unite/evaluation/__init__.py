"""Full evaluation of a checkpoint: suites cut into chunks, combined in order, with metric cards."""
