//! What the upstream's own bytes did.

use super::nginx_said;
use crate::attribute::attempt::Failure;
use crate::event::Endpoint;

pub(in crate::attribute) fn not_tls(there: &str, words: &str) -> String {
    format!("{there} does not speak TLS, but nginx was told to: {words}")
}

pub(in crate::attribute) fn not_tls_fix() -> String {
    "use proxy_pass http:// (grpc:// for gRPC) for this upstream".into()
}

pub(in crate::attribute) fn not_tls_by_size(there: &str, received: u64) -> String {
    format!(
        "{there} answered nginx's TLS handshake with {received} bytes that OpenSSL refused (inferred: not TLS; error_log's \
         level hides OpenSSL's reason)"
    )
}

pub(in crate::attribute) fn tls_alert(there: &str) -> String {
    format!("{there} refused the TLS handshake with an alert; error_log's level hides which")
}

pub(in crate::attribute) fn no_common_tls(there: &str, words: &str) -> String {
    format!("nginx and {there} share no TLS version: {words}")
}

pub(in crate::attribute) fn tls_versions_fix() -> String {
    "set proxy_ssl_protocols to what the upstream offers".into()
}

pub(in crate::attribute) fn spoke_first(there: &str) -> String {
    format!("{there} sent bytes before the TLS handshake (inferred: as servers without TLS do)")
}

pub(in crate::attribute) fn certificate(there: &str, failure: &Failure) -> String {
    format!("nginx does not accept the certificate of {there}: {}", nginx_said(failure))
}

pub(in crate::attribute) fn certificate_fix() -> String {
    "check proxy_ssl_trusted_certificate, proxy_ssl_name and the certificate's dates".into()
}

pub(in crate::attribute) fn tls_failed(there: &str, words: &str) -> String {
    format!("the TLS handshake with {there} failed: {words}")
}

pub(in crate::attribute) fn other_protocol(there: &str, spoken: &str, asked: &str) -> String {
    format!("{there} answered in {spoken} to {asked} request")
}

pub(in crate::attribute) fn use_instead(right: &str, wrong: &str) -> String {
    format!("use {right} instead of {wrong} for this upstream")
}

pub(in crate::attribute) fn bad_response(failure: &Failure, there: &str) -> String {
    format!("{there} sent a response that is not valid: {}", super::nginx_words(failure))
}

/// How to see what a TCP upstream sends, whatever its protocol.
pub(in crate::attribute) fn watch_it(endpoint: &Endpoint) -> Option<String> {
    let Endpoint::Tcp(address) = endpoint else { return None };
    Some(format!("tcpdump -nA -i any tcp port {}  # shows what it sends", address.port()))
}

pub(in crate::attribute) fn bad_response_hidden(there: &str) -> String {
    format!(
        "nginx gave up on the response of {there} after reading some of it (inferred: its bytes are not valid; error_log's \
         level hides the reason)"
    )
}

pub(in crate::attribute) fn gave_up(there: &str, missed: bool) -> String {
    let why = if missed { "its own words were not observed" } else { "error_log's level hides the reason" };
    format!(
        "nginx gave up on the response of {there} after reading some of it; {why}, and its socket was not observed"
    )
}

pub(in crate::attribute) fn show_errors() -> String {
    "error_log … error; shows it".into()
}

pub(in crate::attribute) fn header_too_big(there: &str, received: Option<u64>, hidden: bool) -> String {
    let size = received.map_or(String::new(), |bytes| format!(" ({bytes} bytes received by then)"));
    let doubt = if hidden { " (inferred from its size)" } else { "" };
    format!("the response header of {there} is larger than nginx's buffer for it{size}{doubt}")
}

pub(in crate::attribute) fn bigger_buffer() -> String {
    "raise proxy_buffer_size (fastcgi_buffer_size, uwsgi_buffer_size) above the header, e.g. 16k".into()
}

pub(in crate::attribute) fn own_error(there: &str, status: Option<u16>) -> String {
    let status = status.map_or("an error".to_owned(), |status| status.to_string());
    format!("{there} itself answered {status}; its own log tells why")
}
