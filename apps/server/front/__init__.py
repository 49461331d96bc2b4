"""What every front end shares: strangers' values and pictures read, and drawn by the service."""
