"""From a command line to an exit code: what programs read, show and write."""
