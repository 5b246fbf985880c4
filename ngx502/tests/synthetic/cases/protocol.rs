//! What the upstream's own bytes did.

use ngx502::event::*;

use super::Case;
use crate::synthetic::scene::{HANDSHAKE, READING, Scene, connected};

/// The handshake failed, and OpenSSL says why.
fn openssl(s: &mut Scene, words: &str) {
    s.attempt(Attempt { via: Via::SslError, ..s.said(&s.peer(), "SSL_do_handshake() failed", 0, HANDSHAKE) });
    let words = format!("SSL_do_handshake() failed (SSL: error:0A000000:SSL routines::{words})");
    s.fails(Attempt { detail: Some(words.into()), ..s.said(&s.peer(), "%*s", 0, HANDSHAKE) });
}

/// OpenSSL's reason is hidden; the upstream sent so many bytes.
fn reasonless_handshake(s: &mut Scene, received: u64) {
    let socket = Socket { bytes_received: Some(received), ..s.socket() };
    let attempt = s.on(socket, "SSL_do_handshake() failed", 0, HANDSHAKE);
    s.fails(Attempt { via: Via::SslError, ..attempt });
}

/// nginx's parser refused what it read.
fn rejected(s: &mut Scene, peer: &str, text: &str, number: Option<i64>) {
    s.fails(Attempt { number, ..s.said(peer, text, 0, READING) });
}

const FASTCGI: &str = "upstream sent unsupported FastCGI protocol version: %d";

/// The upstream itself answered so.
fn own(s: &Scene, status: u16) -> State {
    State { header_ms: Some(3), ..connected(status, &s.peer(), 312) }
}

pub(super) const CASES: &[Case] = &[
    ("no TLS", |s| openssl(s, "wrong version number")),
    ("no TLS, by the size of what came", |s| reasonless_handshake(s, 90)),
    ("no TLS version in common", |s| openssl(s, "tlsv1 alert protocol version")),
    ("bytes before the handshake", |s| {
        s.fails(s.said(&s.peer(), "upstream prematurely sent response", 0, HANDSHAKE));
    }),
    ("HTTP as FastCGI", |s| rejected(s, &s.peer(), FASTCGI, Some(72))),
    ("TLS as FastCGI", |s| rejected(s, &s.peer(), FASTCGI, Some(0x15))),
    ("HTTP/1 as HTTP/2", |s| {
        rejected(s, &s.peer(), "upstream sent too large http2 frame: %uz", Some(0x48_5454));
    }),
    ("a refused HTTP/2 stream", |s| {
        rejected(s, &s.peer(), "upstream rejected request with error %ui", Some(7))
    }),
    ("a reset HTTP/2 stream, with a code that nobody knows", |s| {
        rejected(s, &s.peer(), "upstream rejected request with error %ui", Some(77));
    }),
    ("an HTTP/2 server that wants HTTP/1.1", |s| {
        rejected(s, &s.peer(), "upstream rejected request with error %ui", Some(13));
    }),
    ("an HTTP/2 server that finds the TLS too weak", |s| {
        rejected(s, &s.peer(), "upstream sent goaway with error %ui", Some(12));
    }),
    ("an HTTP/2 server at its deadline", |s| {
        rejected(s, &s.peer(), "upstream rejected request with error %ui", Some(8));
    }),
    ("an HTTP/2 connection that is ended with an error", |s| {
        rejected(s, &s.peer(), "upstream sent goaway with error %ui", Some(11));
    }),
    ("an HTTP/2 connection that is ended gracefully", |s| {
        s.php_fpm();
        s.feed(s.listening(s.tcp(), vec![s.app()], false));
        rejected(s, &s.peer(), "upstream sent goaway with error %ui", Some(0));
    }),
    ("an HTTP/2 stream that ends too early", |s| {
        rejected(s, &s.peer(), "upstream prematurely closed stream", None);
    }),
    ("an invalid header, over TCP", |s| rejected(s, &s.peer(), "upstream sent invalid header", None)),
    ("an invalid header, over a socket file", |s| {
        rejected(s, &s.sock(), "upstream sent invalid header", None);
    }),
    ("output on stderr that fastcgi_catch_stderr matches", |s| {
        let sock = s.sock();
        s.attempt(s.said(&sock, "FastCGI sent in stderr: \"%*s\"", 0, READING));
        let states = Some(vec![connected(502, &sock, 96)]);
        s.request(Request { states, peer: Some(sock.as_str().into()), ..s.error_page(502) });
    }),
    ("an invalid header, and nginx's log is hidden", |s| {
        let closer = s.closer(s.app(), CloseKind::Closed);
        let socket = Socket { closer, fin_at: Some(s.before(300)), ..s.socket() };
        s.unlogged(false, connected(502, &s.peer(), 40), Some(socket));
    }),
    ("a header too large", |s| {
        s.attempt(s.said(&s.peer(), "upstream sent too big header", 0, READING));
        s.request(Request { states: Some(vec![connected(502, &s.peer(), 4_096)]), ..s.error_page(502) });
    }),
    ("a header too large, its size not known", |s| {
        rejected(s, &s.peer(), "upstream sent too big header", None);
    }),
    ("a header too large, and nginx's log is hidden", |s| {
        s.unlogged(false, connected(502, &s.peer(), 4_096), Some(s.socket()));
    }),
    ("a certificate", |s| {
        let text = "upstream SSL certificate verify error: (%l:%s)";
        s.fails(Attempt {
            number: Some(10),
            detail: Some("certificate has expired".into()),
            ..s.said(&s.peer(), text, 0, HANDSHAKE)
        });
    }),
    ("a certificate of another name", |s| {
        let text = "upstream SSL certificate does not match \"%V\"";
        s.fails(Attempt { detail: Some("shop.example".into()), ..s.said(&s.peer(), text, 0, HANDSHAKE) });
    }),
    ("an alert", |s| openssl(s, "tlsv1 unrecognized name:SSL alert number 112")),
    ("an alert without a meaning", |s| openssl(s, "tlsv1 alert internal error:SSL alert number 80")),
    ("an alert after the request", |s| {
        let detail = "SSL_read() failed (SSL: error:0A00045C:SSL routines::tlsv13 alert certificate required:SSL alert number \
                      116)";
        s.fails(Attempt { detail: Some(detail.into()), ..s.said(&s.peer(), "%*s", 104, READING) });
    }),
    ("another refusal of OpenSSL", |s| openssl(s, "bad signature")),
    ("an alert, and OpenSSL's reason is hidden", |s| reasonless_handshake(s, 7)),
    ("a connection that ended in the handshake", |s| {
        s.php_fpm();
        let closer = s.closer(s.app(), CloseKind::Closed);
        let socket = Socket { closer, sent_at: None, fin_at: Some(s.before(300)), ..s.socket() };
        s.fails(s.on(socket, "peer closed connection in SSL handshake", 0, HANDSHAKE));
    }),
    ("the upstream's own error, intercepted", |s| {
        s.request(Request { states: Some(vec![own(s, 502)]), ..s.error_page(502) });
    }),
    ("the upstream's own error, passed on", |s| s.answer(504, Some(own(s, 504)))),
    ("the upstream's own error, after a retry", |s| {
        s.attempt(s.tcp_failed(s.remote(), 113));
        s.answer(502, Some(own(s, 502)));
    }),
    ("the upstream's own error, met by auth_request", |s| {
        let text = "auth request unexpected status: %ui";
        s.attempt(Attempt { index: 0, number: Some(502), ..s.said("", text, 0, "") });
        s.page(500);
    }),
    ("an upstream of auth_request that refused", |s| {
        s.feed(s.listening(s.tcp(), vec![], true));
        let subrequest = Some(0x2000);
        s.attempt(Attempt { subrequest, ..s.refused() });
        s.request(Request { subrequest, ..s.error_page(502) });
        let text = "auth request unexpected status: %ui";
        s.attempt(Attempt { index: 0, number: Some(502), ..s.said("", text, 0, "") });
        s.page(500);
    }),
];
