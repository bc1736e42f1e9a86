"""What the `unite` command's subcommands do; each file is imported when its subcommand runs."""
