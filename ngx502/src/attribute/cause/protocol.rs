//! What the upstream's own bytes did.

use bstr::ByteSlice;

use super::{Diagnosis, connection};
use crate::attribute::attempt::Failure;
use crate::attribute::verdict::{Cause, Certainty};
use crate::attribute::wording::{self, protocol as words};
use crate::attribute::world::World;

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

/// The length of a TLS alert record.
const ALERT: u64 = 7;

/// The TLS handshake failed.
pub(super) fn tls(world: &World, failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    let said = failure.detail.as_ref().unwrap_or(&failure.text).to_str_lossy();
    if NOT_TLS.iter().any(|telling| said.contains(telling)) {
        return Diagnosis::proven(Cause::ProtocolMismatch, words::not_tls(&there, &said))
            .fix([words::not_tls_fix()]);
    }
    if NO_COMMON_VERSION.iter().any(|telling| said.contains(telling)) {
        return Diagnosis::proven(Cause::ProtocolMismatch, words::no_common_tls(&there, &said))
            .fix([words::tls_versions_fix()]);
    }
    if failure.text.starts_with(b"upstream prematurely sent response") {
        return Diagnosis::inferred(Cause::ProtocolMismatch, words::spoke_first(&there));
    }
    if failure.text.starts_with(b"upstream SSL certificate") {
        return Diagnosis::unknown(words::certificate(&there, failure)).fix([words::certificate_fix()]);
    }
    if let Some(found) = refused_bytes(failure, &there) {
        return found;
    }
    let closed = failure
        .socket
        .as_ref()
        .is_some_and(|one| one.closer.is_some() || one.fin_at.is_some() || one.reset_at.is_some());
    match closed || failure.text.starts_with(b"peer closed connection") {
        true => connection::diagnose(world, failure),
        false => Diagnosis::unknown(words::tls_failed(&there, &said)),
    }
}

/// OpenSSL refused what the upstream sent, and its reason is hidden: an end of the connection would have had other
/// words. An alert has a size of its own.
fn refused_bytes(failure: &Failure, there: &str) -> Option<Diagnosis> {
    let hidden = failure.text.starts_with(b"SSL_do_handshake() failed") && failure.detail.is_none();
    let received = failure.socket.as_ref()?.bytes_received.filter(|received| hidden && *received > 0)?;
    Some(match received {
        ALERT => Diagnosis::unknown(words::tls_alert(there)),
        _ => Diagnosis::inferred(Cause::ProtocolMismatch, words::not_tls_by_size(there, received))
            .fix([words::not_tls_fix()]),
    })
}

/// nginx's parser rejected the upstream's bytes.
pub(super) fn header_invalid(failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    let fastcgi_version = failure.text.starts_with(b"upstream sent unsupported FastCGI protocol version");
    let http2_frame = failure.text.starts_with(b"upstream sent too large http2 frame");
    let mismatch = |spoken, asked| {
        Diagnosis::proven(Cause::ProtocolMismatch, words::other_protocol(&there, spoken, asked))
    };
    match failure.number {
        Some(HTTP_AS_FASTCGI) if fastcgi_version => {
            mismatch("HTTP", "a FastCGI").fix([words::use_instead("proxy_pass", "fastcgi_pass")])
        }
        Some(version) if fastcgi_version && TLS_AS_FASTCGI.contains(&version) => mismatch("TLS", "a FastCGI"),
        Some(HTTP1_AS_HTTP2) if http2_frame => {
            mismatch("HTTP/1", "an HTTP/2").fix([words::use_instead("proxy_pass", "grpc_pass")])
        }
        _ if !failure.hidden => Diagnosis::proven(Cause::BadResponse, words::bad_response(failure, &there))
            .fix(failure.endpoint().and_then(|endpoint| words::watch_it(&endpoint))),
        _ => Diagnosis::inferred(Cause::BadResponse, words::bad_response_hidden(&there))
            .fix([words::show_errors()]),
    }
}

/// Neither nginx's words nor the socket told whether the response was wrong or its connection ended.
pub(super) fn response_failed(failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    Diagnosis::unknown(words::gave_up(&there, failure.missed)).fix((!failure.missed).then(words::show_errors))
}

/// The header exceeds the buffer.
pub(super) fn header_too_big(failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    let received = failure.state.as_ref().and_then(|state| state.bytes_received);
    let certainty = if failure.hidden { Certainty::Inferred } else { Certainty::Proven };
    let summary = words::header_too_big(&there, received, failure.hidden);
    Diagnosis::new(Cause::HeaderBufferSmall, certainty, summary).fix([words::bigger_buffer()])
}

/// The upstream answered with the error itself.
pub(super) fn upstream_status(failure: &Failure) -> Diagnosis {
    let there = wording::target(failure);
    let status = failure.state.as_ref().map(|state| state.status).filter(|status| *status > 0);
    Diagnosis::proven(Cause::UpstreamError, words::own_error(&there, status))
}
