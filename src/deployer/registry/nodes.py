"""Nodes, pools and their index as a pure state machine: no I/O, time is a parameter."""
