"""Subcommands of the `unite` command; each file is imported when its subcommand runs."""
