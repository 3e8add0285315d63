"""The commands of ``geartrain``, grouped into modules by purpose."""
