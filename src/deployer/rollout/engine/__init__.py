"""Rollouts on a Ray cluster (docs/rollouts-on-ray.md): the links to the hosts live there, every decision stays in the client."""
