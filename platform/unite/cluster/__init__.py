"""Everything that talks to Ray; no other folder imports it."""
