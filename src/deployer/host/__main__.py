"""The engine as a program: `__main__.py ROLE ARGS`, run isolated (`python3 -I -S`), with nothing but the standard library."""

import os
import sys


def main() -> int:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    role, args = sys.argv[1], sys.argv[2:]
    if role == "agent":
        from deployer.host import agent

        return agent.main(args)
    if role == "keeper":
        from deployer.host import keeper

        return keeper.main(args)
    if role == "resume":
        from deployer.host import runner

        return runner.main(args)
    sys.stderr.write(f"unknown role {role!r}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
