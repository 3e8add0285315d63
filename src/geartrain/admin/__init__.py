"""The admin client: looks at job servers, and sets them, by their text protocol."""

from geartrain.admin.admin import Admin
from geartrain.admin.group import AdminGroup

__all__ = ["Admin", "AdminGroup"]
