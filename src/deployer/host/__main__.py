"""The engine as a program: `__main__.py ROLE ARGS`, run isolated (`python3 -I -S`), with nothing but the standard library."""

import os
import sys


def main() -> int:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    role, args = sys.argv[1], sys.argv[2:]
    # Each role imports only what it needs: the agent starts with every command.
    if role == "agent":
        from deployer.host.agent import main as run
    elif role == "keeper":
        from deployer.host.keeper import main as run
    elif role == "resume":
        from deployer.host.runner_process import main as run
    elif role == "boot":
        from deployer.host.boot.role import main as run
    elif role == "leftover":
        from deployer.host.leftover import main as run
    else:
        sys.stderr.write(f"unknown role {role!r}\n")
        return 2
    return run(args)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # everything is written; to take the interpreter apart takes 10 ms, and every command waits for it
