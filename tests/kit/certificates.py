"""Certificates for servers in tests: an authority of our own and what it signed, made once in a run."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@lru_cache(maxsize=1)
def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Test authority")
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return builder.add_extension(usage, critical=True).sign(key, SHA256()), key


def client_context() -> ssl.SSLContext:
    """A context that trusts our authority alone, TLS 1.2 or later."""
    context = ssl.create_default_context(cadata=_authority()[0].public_bytes(Encoding.PEM).decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def authority_pem() -> bytes:
    """Our authority's certificate, for processes to trust."""
    return _authority()[0].public_bytes(Encoding.PEM)


@lru_cache(maxsize=8)
def server_pem(name: str = "127.0.0.1", *, is_signed: bool = True, is_expired: bool = False) -> bytes:
    """A key and a certificate for a name or address, for servers that read files; see `server_context`."""
    authority, authority_key = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    issuer = authority.subject if is_signed else _name(name)
    builder = _builder(_name(name), issuer, key, age_days=30 if is_expired else 0)
    builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    certificate = builder.sign(authority_key if is_signed else key, SHA256())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + certificate.public_bytes(Encoding.PEM)


@lru_cache(maxsize=8)
def server_context(name: str = "127.0.0.1", *, is_signed: bool = True, is_expired: bool = False) -> ssl.SSLContext:
    """A server's context with a certificate for a name or address; unsigned: by itself and not by our authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        path.write_bytes(server_pem(name, is_signed=is_signed, is_expired=is_expired))
        context.load_cert_chain(path)
    return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, age_days: int = 0
) -> x509.CertificateBuilder:
    begins = datetime.now(UTC) - timedelta(days=1 + age_days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=10))
    )
