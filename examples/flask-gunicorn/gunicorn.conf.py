from deployer.lifecycle.gunicorn import *  # noqa: F403 - gthread, no limit of its own, and the Lifecycle of each worker

workers = 2
