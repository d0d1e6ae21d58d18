"""The SSH client in this process: paramiko, tuned as measured. `lib.py` is the only importer of it."""
