"""Imported by Python at startup; makes the demo's worker processes crash immediately."""

import os
import sys

if "geartrain.cli.demo.word_count_worker" in sys.orig_argv:
    os.write(2, b"Traceback (most recent call last):\nRuntimeError: no work today\n")
    os._exit(1)
