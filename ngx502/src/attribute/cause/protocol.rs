//! What the upstream's own bytes did.

use bstr::ByteSlice;

use super::{Diagnosis, connection, sole_listener};
use crate::attribute::attempt::FailedAttempt;
use crate::attribute::finding::protocol::{Frame, Mismatch, Protocol, SeenBy, Spoken, StreamReset};
use crate::attribute::finding::{Connection, Doubt, Tls, Unknown};
use crate::attribute::world::World;
use crate::event::Endpoint;

/// OpenSSL's words for bytes that are not TLS at all.
const NOT_TLS: [&str; 4] =
    ["wrong version number", "packet length too long", "http request", "unknown protocol"];
/// OpenSSL's words for TLS versions that do not meet.
const NO_COMMON_VERSION: [&str; 3] =
    ["unsupported protocol", "alert protocol version", "no protocols available"];
/// `H` as a FastCGI version: the start of an HTTP response.
const HTTP_AS_FASTCGI: i64 = b'H' as i64;
/// A TLS record's first byte, alert or handshake, as a FastCGI version.
const TLS_AS_FASTCGI: [i64; 2] = [0x15, 0x16];
/// `HTT` as the length of an HTTP/2 frame.
const HTTP1_AS_HTTP2: i64 = 0x48_5454;

/// What OpenSSL writes before an alert's number.
const ALERT_NUMBER: &str = "SSL alert number ";

/// The length of a TLS alert record.
const ALERT: u64 = 7;

/// The TLS handshake failed.
pub(super) fn tls(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let text = &failure.nginx.text;
    let said = failure.nginx.detail.as_ref().unwrap_or(text).to_str_lossy();
    if let Some(found) = alert(failure) {
        return found;
    }
    if NOT_TLS.iter().any(|telling| said.contains(telling)) {
        return Diagnosis::new(mismatch(Spoken::Tls, None, SeenBy::Openssl));
    }
    if NO_COMMON_VERSION.iter().any(|telling| said.contains(telling)) {
        return Diagnosis::new(mismatch(Spoken::Tls, Some(Spoken::TlsVersion), SeenBy::Openssl));
    }
    if text.starts_with(b"upstream prematurely sent response") {
        let spoke = mismatch(Spoken::Tls, None, SeenBy::SpokeFirst);
        return Diagnosis::inferred(spoke, Doubt::AsWithoutTls);
    }
    if text.starts_with(b"upstream SSL certificate") {
        return certificate(failure);
    }
    if let Some(found) = refused_bytes(failure) {
        return found;
    }
    let closed = failure
        .socket
        .as_ref()
        .is_some_and(|one| one.closer.is_some() || one.fin_at.is_some() || one.reset_at.is_some());
    match closed || text.starts_with(b"peer closed connection") {
        true => connection::diagnose(world, failure),
        false => Diagnosis::new(Unknown::TlsFailed),
    }
}

/// The upstream's alert, as OpenSSL tells of it: it came first, whoever closed afterwards.
pub(super) fn alert(failure: &FailedAttempt) -> Option<Diagnosis> {
    let said = failure.nginx.detail.as_ref()?;
    let at = said.find(ALERT_NUMBER)? + ALERT_NUMBER.len();
    let digits = said[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let alert = said[at..at + digits].to_str().ok()?.parse().ok()?;
    Some(Diagnosis::new(Tls::rejected(alert)))
}

/// nginx's check of the upstream's certificate failed.
fn certificate(failure: &FailedAttempt) -> Diagnosis {
    let nginx = &failure.nginx;
    let reason = nginx.detail.as_ref().map(|detail| detail.to_str_lossy().into_owned());
    let verified = nginx.text.starts_with(b"upstream SSL certificate verify error");
    let code = nginx.number.filter(|_| verified);
    match verified && code.is_none() {
        true => Diagnosis::new(Unknown::TlsFailed),
        false => Diagnosis::new(Tls::InvalidCertificate { code, reason, depth: None }),
    }
}

fn mismatch(expected: Spoken, spoken: Option<Spoken>, how: SeenBy) -> Protocol {
    Protocol::Mismatch(Mismatch { expected, spoken, how })
}

/// OpenSSL refused what the upstream sent, and its reason is hidden: an end of the connection would have had other
/// words. An alert has a size of its own.
fn refused_bytes(failure: &FailedAttempt) -> Option<Diagnosis> {
    let nginx = &failure.nginx;
    let hidden = nginx.text.starts_with(b"SSL_do_handshake() failed") && nginx.detail.is_none();
    let received = failure.socket.as_ref()?.bytes_received.filter(|received| hidden && *received > 0)?;
    Some(match received {
        ALERT => Diagnosis::new(Unknown::TlsAlert),
        _ => {
            let refused = mismatch(Spoken::Tls, None, SeenBy::RefusedBytes(received));
            Diagnosis::inferred(refused, Doubt::OpensslHidden)
        }
    })
}

/// nginx's parser rejected the upstream's bytes.
pub(super) fn header_invalid(world: &World, failure: &FailedAttempt) -> Diagnosis {
    let text = &failure.nginx.text;
    let fastcgi_version = text.starts_with(b"upstream sent unsupported FastCGI protocol version");
    let http2_frame = text.starts_with(b"upstream sent too large http2 frame");
    if let Some(found) = stream_reset(world, failure) {
        return found;
    }
    let spoke = |expected, spoken| Diagnosis::new(mismatch(expected, Some(spoken), SeenBy::FirstBytes));
    let port = match failure.endpoint() {
        Some(Endpoint::Tcp(address)) => Some(address.port()),
        _ => None,
    };
    match failure.nginx.number {
        Some(HTTP_AS_FASTCGI) if fastcgi_version => spoke(Spoken::FastCgi, Spoken::Http1),
        Some(version) if fastcgi_version && TLS_AS_FASTCGI.contains(&version) => {
            spoke(Spoken::FastCgi, Spoken::Tls)
        }
        Some(HTTP1_AS_HTTP2) if http2_frame => spoke(Spoken::Http2, Spoken::Http1),
        _ => {
            let hidden = failure.is_wordless();
            Diagnosis::new(Protocol::BadResponse { port })
                .unless_proven_by(|| hidden.then_some(Doubt::ReasonHidden))
        }
    }
}

fn reset_stream(frame: Frame, code: Option<i64>) -> Protocol {
    Protocol::StreamReset(StreamReset::new(frame, code))
}

/// HTTP/2's own ways to refuse a request, which nginx words as a malformed header (ngx_http_grpc_module.c).
fn stream_reset(world: &World, failure: &FailedAttempt) -> Option<Diagnosis> {
    let (text, code) = (&failure.nginx.text, failure.nginx.number);
    if text.starts_with(b"upstream rejected request with error") {
        return Some(Diagnosis::new(reset_stream(Frame::RstStream, code)));
    }
    if text.starts_with(b"upstream sent goaway with error") {
        // nginx says so only where the last stream that will be served is older than the request's.
        return Some(match code {
            Some(0) => {
                let process = sole_listener(world, failure);
                Diagnosis::new(Connection::Goaway { process: process.clone() }).with_process(process)
            }
            _ => Diagnosis::new(reset_stream(Frame::Goaway, code)),
        });
    }
    let ended = text.starts_with(b"upstream prematurely closed stream");
    ended.then(|| Diagnosis::new(reset_stream(Frame::EndStream, None)))
}

/// Neither nginx's words nor the socket told whether the response was wrong or its connection ended.
pub(super) fn response_failed() -> Diagnosis {
    Diagnosis::new(Unknown::Abandoned)
}

/// The header exceeds the buffer.
pub(super) fn header_too_big(failure: &FailedAttempt) -> Diagnosis {
    let received_bytes = failure.state.as_ref().and_then(|state| state.bytes_received);
    let hidden = failure.is_wordless();
    Diagnosis::new(Protocol::HeaderTooBig { received_bytes })
        .unless_proven_by(|| hidden.then_some(Doubt::BySize))
}

/// The upstream answered with the error itself.
pub(super) fn upstream_status(failure: &FailedAttempt) -> Diagnosis {
    let status = failure.state.as_ref().map(|state| state.status).filter(|status| *status > 0);
    Diagnosis::new(Protocol::UpstreamError { status })
}
