"""
The job of the tests of `deployer run`: does what it is told in JOB, prints what it saw.

  lines N        print N lines                    fail CODE      exit with CODE
  wait           until the file `go` appears      stubborn       ignore SIGTERM from here on
  child          leave a process behind           report         write DEPLOYER_JOB_REPORT
  secret         print $TOKEN                     die            SIGKILL to itself
"""

import json
import os
import signal
import subprocess
import sys
import time

HERE = os.environ["HERE"]


def say(*words):
    print(*words, flush=True)


def asked(number, frame):
    with open(f"{HERE}/asked", "a") as file:
        file.write(f"{number}\n")
    say("job: asked to stop")
    sys.exit(143)


signal.signal(signal.SIGTERM, asked)
with open(f"{HERE}/began", "a") as file:
    file.write(f"{os.getpid()}\n")
say("job: works in", os.path.basename(os.getcwd()))
words = iter(os.environ.get("JOB", "").split())
for word in words:
    if word == "lines":
        for number in range(int(next(words))):
            print("line", number)
        sys.stdout.flush()
    elif word == "fail":
        raise SystemExit(int(next(words)))
    elif word == "wait":
        while not os.path.exists(f"{HERE}/go"):
            time.sleep(0.02)
    elif word == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif word == "child":
        subprocess.Popen(["sleep", "300"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    elif word == "report":
        with open(os.environ["DEPLOYER_JOB_REPORT"], "w") as file:
            json.dump({"pages": 3}, file)
    elif word == "secret":
        say("the token is", os.environ["TOKEN"])
    elif word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
say("job: done")
