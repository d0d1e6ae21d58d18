"""Services beside an app: `[services.NAME]` with `push`. Each has a home and a keeper of its own."""
