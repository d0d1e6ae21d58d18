"""What an app imports to drain well: docs/lifecycle.md. Standard library only, Python 3.9 and newer."""
