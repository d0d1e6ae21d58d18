"""
Fill a disk: `fill.py bytes|inodes DIRECTORY`. Everything it makes is DIRECTORY/filler*; what is left free is less than a page.

Gates and services of the tests run it; tests import it. Standard library only.
"""

import os
import sys


def fill(kind, directory):
    """Take every byte, or every inode, of the disk that holds *directory*."""
    if kind == "bytes":
        for size in (1 << 20, 4096, 1):
            _write(f"{directory}/filler", size)
    else:
        _make_files(f"{directory}/filler-")


def _write(path, size):
    with open(path, "ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * size)
        except OSError:
            pass


def _make_files(prefix):
    number = 0
    try:
        while True:
            os.close(os.open(f"{prefix}{number}", os.O_WRONLY | os.O_CREAT, 0o600))
            number += 1
    except OSError:
        pass


if __name__ == "__main__":
    fill(sys.argv[1], sys.argv[2])
