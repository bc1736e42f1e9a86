"""Turn images as they are distributed into shards: sources, the plan of a preparation, writing."""
