"""The admin client: queries and configures job servers by the text protocol."""

from geartrain.admin.admin import Admin
from geartrain.admin.group import AdminGroup

__all__ = ["Admin", "AdminGroup"]
