"""What recipes and tasks share: scenes that are drawn, and plain texts."""
