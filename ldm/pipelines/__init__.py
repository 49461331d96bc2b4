"""From settings to pictures: prints nothing and writes nothing."""
