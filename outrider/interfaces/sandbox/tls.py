"""The certificate: made at start for this sandbox alone, or given as files.

Owns key making and the server's TLS context. A self-made key exists on disk only while OpenSSL reads it.
"""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider.base.errors import Misconfigured
from outrider.interfaces.sandbox.options import SandboxOptions


def certificate_path(options: SandboxOptions) -> Path:
    """The PEM file that clients must trust."""
    if options.certificate_path is not None:
        return options.certificate_path
    return options.ledger_path.with_name(options.ledger_path.name + ".crt")


def server_context(options: SandboxOptions) -> ssl.SSLContext:
    """A context for the listeners; without given files it makes a certificate and writes it beside the ledger.

    Raises:  Misconfigured when the given files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.certificate_path is not None and options.private_key_path is not None:
        try:
            context.load_cert_chain(options.certificate_path, options.private_key_path)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(
                "certificate_unusable",
                f"certificate and key cannot be used: {error.strerror}",
                field="certificate_path",
            ) from error
        return context
    certificate, key = make_certificate(options.hostname, options.host)
    with tempfile.TemporaryDirectory(prefix="outrider-sandbox-") as directory:
        pair = Path(directory, "pair.pem")
        pair.touch(mode=0o600)
        pair.write_bytes(key + certificate)
        context.load_cert_chain(pair)
    certificate_path(options).write_bytes(certificate)
    return context


def make_certificate(hostname: str, host: str) -> tuple[bytes, bytes]:
    """A self-signed certificate for the host name, `localhost` and the listening address.

    Gives:   certificate and private key (P-256), both PEM; valid for ten years.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.DNSName(hostname), x509.DNSName("localhost")]
    addresses = {"127.0.0.1", "::1", host}
    names.extend(x509.IPAddress(ipaddress.ip_address(one)) for one in sorted(addresses) if _is_address(one))
    public_key = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=3_650))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
