"""Tests of programs that take long to install or to start: `make examples`."""
