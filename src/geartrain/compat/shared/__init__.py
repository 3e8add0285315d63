"""What both flavours of python-gearman have in common."""
