"""The node registry: who is online, in which pools, how busy. `nodes.py` is pure state, `server.py` the network."""
