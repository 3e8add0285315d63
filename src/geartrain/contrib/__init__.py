"""Integrations with other libraries, each of which needs the extra of its name."""
