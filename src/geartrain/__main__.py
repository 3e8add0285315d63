"""``python -m geartrain`` runs the command line ``geartrain``."""

from geartrain.cli import main

if __name__ == "__main__":
    main()
