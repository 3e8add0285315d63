"""gear's job server. usage: with_gear_server.py -p PORT"""

from __future__ import annotations

import sys
import threading

import gear

if __name__ == "__main__":
    server = gear.Server(port=int(sys.argv[2]), host="127.0.0.1")  # it runs in its own threads
    threading.Event().wait()
