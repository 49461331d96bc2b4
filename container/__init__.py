"""What is inside the container beside the programs: its entry point and its health."""
