"""`python -m deployer` is the `deployer` command."""

from deployer.entry import main

main()
