"""The rows, by what they injure."""
