"""All code that talks to Ray; no other folder imports it."""
