"""
Ray as a place to deploy to: services as named actors that are replaced without losing a call (docs/ray.md).

    from deployer.ray import service
    model = service("model", app="my-app")
    model.predict(x)                        # waits; model.predict.remote(x) gives a Reply: .result(), or await it
"""

from __future__ import annotations

from deployer.ray.calling import Reply, Service, ServiceUnavailable, service

__all__ = ["Reply", "Service", "ServiceUnavailable", "service"]
