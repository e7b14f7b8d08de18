"""Why no broker could be reached, for somebody who has not read librdkafka: what was met, and what would be right.

What librdkafka says while it connects tells most of it. Where it says only that brokers are down, the address itself is
tried: does anything listen, does it speak TLS, whom is its certificate for? Nothing is sent but a TLS greeting.
"""

import re
import socket
import ssl
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError

from muse_stream.config import KafkaSettings

TRY_S = 2.0
LONGEST = 300
_PLACE = re.compile(r"^(?:[a-z_]+://)?\S+/(?:bootstrap|\d+): ")
_STATE = re.compile(r" ?\(after \d+ms in state \w+\)| ?\(install ca-certificates package\)")
_OFFERS = re.compile(r"broker's supported mechanisms: ?(\S*)")


def why(settings: KafkaSettings, heard: Sequence[KafkaError], otherwise: str) -> str:
    """Return why no broker answers; `heard` is what the client has said, `otherwise` what the request said."""
    telling = [error for error in heard if error.code() != KafkaError._ALL_BROKERS_DOWN]
    telling.sort(key=lambda error: error.code() != KafkaError._AUTHENTICATION)  # what no waiting will mend comes first
    said = plain(telling[0].str()) if telling else ""
    found = _by_words(settings, said) if said else _by_trying(settings)
    detail = f" ({said})" if said and found else said
    return f"{found}{detail}" if found or detail else otherwise


def plain(text: str) -> str:
    """Return what librdkafka says without its names for connections and states."""
    text = _STATE.sub("", _PLACE.sub("", " ".join(text.split())))
    return text.strip().removesuffix(":")[:LONGEST]  # it may be the whole page of a token endpoint


def _by_words(settings: KafkaSettings, said: str) -> str:
    for words, meaning in _MEANINGS:
        if words in said:
            return meaning(settings, said)
    return ""


def _mechanism(settings: KafkaSettings, said: str) -> str:
    offers = _OFFERS.search(said)
    offered = offers[1] if offers and offers[1] else "another"
    return (
        f"the broker offers {offered} to log in, not {settings.sasl_mechanism}: set MUSE_KAFKA_SASL_MECHANISM to what "
        "it offers"
    )


def _no_login(settings: KafkaSettings, _said: str) -> str:
    without = "SSL" if settings.security_protocol == "SASL_SSL" else "PLAINTEXT"
    return (
        f"this port expects no login (SASL): set MUSE_KAFKA_SECURITY_PROTOCOL to {without}, or name the port that does"
    )


def _login(_settings: KafkaSettings, _said: str) -> str:
    return (
        "the broker refuses the user or the password: correct MUSE_KAFKA_SASL_USERNAME and MUSE_KAFKA_SASL_PASSWORD "
        "(or ..._PASSWORD_FILE)"
    )


def _no_tls(settings: KafkaSettings, _said: str) -> str:
    without = "SASL_PLAINTEXT" if settings.security_protocol.startswith("SASL") else "PLAINTEXT"
    return (
        f"this port does not speak TLS, or asks for a client's certificate: set MUSE_KAFKA_SECURITY_PROTOCOL to "
        f"{without}, name the port that does, or set MUSE_KAFKA_SSL_CERTIFICATE_LOCATION"
    )


def _certificate(settings: KafkaSettings, _said: str) -> str:
    context = ssl.create_default_context()
    authority = settings.connection().get("ssl.ca.location")
    host, port = _first_address(settings)
    try:
        if authority:
            context.load_verify_locations(authority)
        with socket.create_connection((host, port), TRY_S) as taken, context.wrap_socket(taken, server_hostname=host):
            reason = ""
    except ssl.SSLCertVerificationError as error:
        reason = f" ({error.verify_message})"
    except OSError:
        reason = ""
    return (
        f"the broker's certificate is not accepted{reason}: MUSE_KAFKA_SSL_CA_LOCATION must name the CA that signed "
        "it, and it must be for the host in MUSE_KAFKA_BOOTSTRAP_SERVERS"
    )


def _by_trying(settings: KafkaSettings) -> str:
    host, port = _first_address(settings)
    try:
        socket.create_connection((host, port), TRY_S).close()
    except OSError as error:
        return f"no connection to {host}:{port} ({(error.strerror or str(error)).lower()})"
    speaks_tls, wants_tls = _speaks_tls(host, port), settings.security_protocol.endswith("SSL")
    if wants_tls and speaks_tls is False:
        return _no_tls(settings, "")
    if speaks_tls and not wants_tls:
        wanted = "SASL_SSL" if settings.security_protocol.startswith("SASL") else "SSL (or SASL_SSL)"
        return f"{host}:{port} speaks TLS: set MUSE_KAFKA_SECURITY_PROTOCOL to {wanted}"
    closed = ""
    if not settings.security_protocol.startswith("SASL"):
        protocol = "SASL_SSL" if settings.security_protocol == "SSL" else "SASL_PLAINTEXT"
        closed = f"; where it asks for a login, set MUSE_KAFKA_SECURITY_PROTOCOL to {protocol}"
    return (
        f"{host}:{port} takes connections, but no Kafka broker answers there: it may be starting, standing still, or "
        f"be something else{closed}"
    )


def _speaks_tls(host: str, port: int) -> bool | None:
    """Return whether an address greets in TLS; None when it says nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent: is it TLS at all?
    try:
        with socket.create_connection((host, port), TRY_S) as taken:
            taken.settimeout(TRY_S)
            with context.wrap_socket(taken, server_hostname=host):
                return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it refuses us in the language of TLS
    except TimeoutError:
        return None
    except OSError:
        return False


def _first_address(settings: KafkaSettings) -> tuple[str, int]:
    first = settings.bootstrap.split(",")[0].strip().rpartition("://")[2]
    host, _, port = first.rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdecimal() and host else (first, 9092)


_MEANINGS: tuple[tuple[str, Callable[[KafkaSettings, str], str]], ...] = (
    ("Unsupported SASL mechanism", _mechanism),
    ("not valid in current SASL state", _no_login),
    ("Authentication failed", _login),
    ("PLAINTEXT broker listener", _no_tls),
    ("certificate verify failed", _certificate),
    ("Failed to resolve", lambda *_: "the host's name is not known here: correct MUSE_KAFKA_BOOTSTRAP_SERVERS"),
    ("Connection refused", lambda *_: "nothing listens there: see that the broker runs, and that the port is right"),
    # a broker may end the connection before what it says of it is read
    ("Disconnected", lambda settings, _said: _by_trying(settings)),
    ("timed out", lambda *_: "no answer: see that the broker runs, and that its port is open from here"),
)
