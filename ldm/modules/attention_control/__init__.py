"""Attention control: see and edit what each word looks at."""
