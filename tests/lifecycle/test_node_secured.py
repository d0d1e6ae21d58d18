"""TLS and tokens between a node and its registry: who is not let in is told why, and keeps trying."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import logging
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app import wait_until
from deployer.lifecycle.node import NodeAgent
from lifecycle.real_registry import environment, real_registry


def certificate(root: Path) -> tuple[Path, Path]:
    """Files of a certificate for 127.0.0.1 that is its own authority, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    crt, pem = root / "registry.crt", root / "registry.key"
    crt.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    pem.touch(0o600)
    pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    return crt, pem


def test_a_node_over_tls_with_its_token_is_let_in_and_others_are_told_why(
    tmp_path: Path, agents: list[NodeAgent], caplog: pytest.LogCaptureFixture
) -> None:
    crt, key = certificate(tmp_path)
    trusted = ssl.create_default_context(cafile=str(crt))
    env = environment(DEPLOYER_REGISTRY_ADMIN_TOKEN="the-admin", DEPLOYER_REGISTRY_NODE_TOKEN="a-node")

    def connect(address: str) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection(address, timeout=30, context=trusted)

    with real_registry("--tls-cert", str(crt), "--tls-key", str(key), env=env, connect=connect) as registry:
        url = f"wss://{registry.address}"
        for name, token, context in (
            ("good", "a-node", trusted),
            ("stranger", "guessed", trusted),
            ("doubting", "a-node", None),
        ):
            agents.append(NodeAgent(url, id=name, pools=["workers"], token=token, tls=context))
            with caplog.at_level(logging.WARNING):
                agents[-1].start()
        good, stranger, doubting = agents
        assert good.wait_online()
        wait_until(lambda: caplog.text.count("trying again") == 2, what="both were told")
        assert "node stranger" in caplog.text and "refuses our token (HTTP 401)" in caplog.text
        assert "node doubting" in caplog.text and "CERTIFICATE_VERIFY_FAILED" in caplog.text
        assert "guessed" not in caplog.text and "a-node" not in caplog.text
        assert not stranger.online and not doubting.online
        assert registry.pool("workers") == ["good"]
        good.stop()
        wait_until(lambda: registry.pool("workers") == [], what="it has left")
