"""swap: what clients lose while a running service is replaced, by deployer and by what people use for it today."""
