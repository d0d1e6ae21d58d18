"""What a test has read ahead of a process is not lost to it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from read_ahead import whole

TWO_AT_ONCE = "import sys, time; sys.stdout.write('one\\ntwo\\n'); sys.stdout.flush(); time.sleep(0.3); print('three')"


def test_lines_that_came_with_the_first_are_still_there() -> None:
    process = whole(
        subprocess.Popen([sys.executable, "-c", TWO_AT_ONCE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    )
    with process:
        assert process.stdout is not None
        time.sleep(0.2)
        assert process.stdout.readline() == "one\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=0.001)
        assert process.communicate(timeout=30) == ("two\nthree\n", "")
