//! What the upstream's own bytes did.

use std::fmt;

use serde::Serialize;

use super::{Fix, LogWords, On, Page};
use crate::attribute::verdict::Cause;

/// What was wrong with them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Protocol {
    /// The two ends speak different protocols.
    Mismatch(Mismatch),
    /// The response is malformed.
    BadResponse {
        /// The upstream's TCP port; null for AF_UNIX.
        #[serde(skip)]
        port: Option<u16>,
    },
    /// The header is valid but larger than the buffer.
    HeaderTooBig {
        /// Bytes that nginx had received by then; null where that is not known.
        received_bytes: Option<u64>,
    },
    /// HTTP/2: the upstream reset the stream of the request, or ended the connection with an error.
    StreamReset(StreamReset),
    /// The upstream answered with the error itself.
    UpstreamError {
        /// Its status; null where it could not be read.
        status: Option<u16>,
    },
}

/// How an HTTP/2 stream was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StreamReset {
    /// By which frame.
    pub frame: Frame,
    /// The error code of RFC 9113, section 7; null where there was none.
    pub code: Option<u32>,
    /// Its name; null for one that the RFC does not know.
    pub name: Option<&'static str>,
}

/// What ended an HTTP/2 stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Frame {
    /// RST_STREAM.
    #[serde(rename = "RST_STREAM")]
    RstStream,
    /// GOAWAY.
    #[serde(rename = "GOAWAY")]
    Goaway,
    /// The flag END_STREAM, before the response was complete.
    #[serde(rename = "END_STREAM")]
    EndStream,
}

impl StreamReset {
    /// A frame with that error code.
    pub(in crate::attribute) fn new(frame: Frame, code: Option<i64>) -> Self {
        let code = code.and_then(|code| u32::try_from(code).ok());
        let name = code.and_then(|code| H2_ERRORS.get(code as usize).copied());
        Self { frame, code, name }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self.frame {
            Frame::RstStream => write!(f, "{there} reset the stream of this request (RST_STREAM")?,
            Frame::Goaway => write!(f, "{there} ended the HTTP/2 connection (GOAWAY")?,
            Frame::EndStream => {
                return write!(
                    f,
                    "{there} ended the stream of this request before its response was complete"
                );
            }
        }
        match (self.name, self.code) {
            (Some(name), _) => write!(f, ", {name})")?,
            (None, Some(code)) => write!(f, ", error code {code})")?,
            (None, None) => f.write_str(")")?,
        }
        f.write_str(match (self.frame, self.name) {
            (_, Some("REFUSED_STREAM")) => " before it processed the request, which may be repeated",
            (_, Some("ENHANCE_YOUR_CALM")) => ": it finds that nginx asks too much of it",
            (_, Some("HTTP_1_1_REQUIRED")) => ": it serves this over HTTP/1.1 only",
            (_, Some("INADEQUATE_SECURITY")) => ": it finds the TLS version or cipher too weak",
            (_, Some("CANCEL")) => ": it needs the answer no more, as at a deadline of its own",
            _ => "",
        })
    }

    fn fix(&self, lines: &mut Vec<Fix>) {
        match self.name {
            Some("REFUSED_STREAM") => lines.push(
                Fix::directive("grpc_next_upstream error timeout invalid_header non_idempotent;")
                    .remark("a refused stream was not processed"),
            ),
            Some("HTTP_1_1_REQUIRED") => {
                lines.push(Fix::advice("use proxy_pass with HTTP/1.1 for this upstream"));
            }
            Some("INADEQUATE_SECURITY") => lines.push(Fix::advice(
                "offer TLS 1.2 or later and its modern ciphers: proxy_ssl_protocols, proxy_ssl_ciphers",
            )),
            _ => lines.push(Fix::advice(
                "see the upstream's own log: the frame comes from its HTTP/2 library or its handler",
            )),
        }
    }
}

/// The error codes by number.
const H2_ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Which protocols did not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// What nginx speaks to this upstream.
    pub expected: Spoken,
    /// What the upstream speaks, as far as its bytes show; null where they do not.
    pub spoken: Option<Spoken>,
    /// How that was seen.
    #[serde(skip)]
    pub how: SeenBy,
}

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Spoken {
    /// TLS of any version.
    #[serde(rename = "tls")]
    Tls,
    /// A TLS version that the other end lacks.
    #[serde(rename = "tls-version")]
    TlsVersion,
    /// HTTP/1.
    #[serde(rename = "http/1")]
    Http1,
    /// HTTP/2, as gRPC uses it.
    #[serde(rename = "http/2")]
    Http2,
    /// FastCGI.
    #[serde(rename = "fastcgi")]
    FastCgi,
}

/// How a mismatch was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenBy {
    /// OpenSSL's words.
    Openssl,
    /// So many bytes that OpenSSL refused.
    RefusedBytes(u64),
    /// Bytes before the handshake.
    SpokeFirst,
    /// The first bytes of the response.
    FirstBytes,
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Spoken::Tls | Spoken::TlsVersion => "TLS",
            Spoken::Http1 => "HTTP/1",
            Spoken::Http2 => "HTTP/2",
            Spoken::FastCgi => "FastCGI",
        })
    }
}

impl Mismatch {
    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self.how {
            SeenBy::Openssl if self.spoken == Some(Spoken::TlsVersion) => {
                write!(f, "nginx and {there} share no TLS version: {}", on.nginx.detail_or_text())
            }
            SeenBy::Openssl => write!(
                f,
                "{there} does not speak TLS, but nginx was configured to: {}",
                on.nginx.detail_or_text()
            ),
            SeenBy::RefusedBytes(bytes) => {
                write!(f, "{there} answered nginx's TLS handshake with {bytes} bytes that OpenSSL refused")
            }
            SeenBy::SpokeFirst => write!(f, "{there} sent bytes before the TLS handshake"),
            SeenBy::FirstBytes => {
                let article = if self.expected == Spoken::FastCgi { "a" } else { "an" };
                match self.spoken {
                    Some(spoken) => write!(f, "{there} answered in {spoken}")?,
                    None => write!(f, "{there} answered in another protocol")?,
                }
                write!(f, " to {article} {} request", self.expected)
            }
        }
    }

    fn fix(&self) -> Option<Fix> {
        let instead = |wrong| Fix::advice(format!("use proxy_pass instead of {wrong} for this upstream"));
        match (self.how, self.expected, self.spoken) {
            (SeenBy::Openssl, _, Some(Spoken::TlsVersion)) => {
                Some(Fix::advice("set proxy_ssl_protocols to what the upstream offers"))
            }
            (SeenBy::Openssl | SeenBy::RefusedBytes(_), ..) => {
                Some(Fix::advice("use proxy_pass http:// (grpc:// for gRPC) for this upstream"))
            }
            (_, Spoken::FastCgi, Some(Spoken::Http1)) => Some(instead("fastcgi_pass")),
            (_, Spoken::Http2, Some(Spoken::Http1)) => Some(instead("grpc_pass")),
            _ => None,
        }
    }
}

/// How to see what nginx itself said.
pub(super) fn show_errors() -> Fix {
    Fix::directive("error_log /var/log/nginx/error.log error;").remark("shows it")
}

impl Page for Protocol {
    fn cause(&self) -> Cause {
        match self {
            Protocol::Mismatch(_) => Cause::ProtocolMismatch,
            Protocol::BadResponse { .. } => Cause::BadResponse,
            Protocol::HeaderTooBig { .. } => Cause::HeaderBufferSmall,
            Protocol::StreamReset(_) => Cause::StreamReset,
            Protocol::UpstreamError { .. } => Cause::UpstreamError,
        }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self {
            Protocol::Mismatch(mismatch) => mismatch.sentence(on, f),
            Protocol::BadResponse { .. } if on.nginx.words == LogWords::Read => {
                write!(f, "{there} sent an invalid response: {}", on.nginx.message(on))
            }
            Protocol::BadResponse { .. } => {
                write!(f, "nginx abandoned the response of {there} after reading part of it")
            }
            Protocol::HeaderTooBig { received_bytes } => {
                write!(f, "the response header of {there} is larger than nginx's buffer for it")?;
                received_bytes.map_or(Ok(()), |bytes| write!(f, " ({bytes} bytes received by then)"))
            }
            Protocol::StreamReset(reset) => reset.sentence(on, f),
            Protocol::UpstreamError { status } => {
                match status {
                    Some(status) => write!(f, "{there} itself answered {status}")?,
                    None => write!(f, "{there} itself answered an error")?,
                }
                f.write_str("; check the upstream's log")
            }
        }
    }

    fn fix(&self, on: &On<'_>, lines: &mut Vec<Fix>) {
        match self {
            Protocol::Mismatch(mismatch) => lines.extend(mismatch.fix()),
            Protocol::BadResponse { .. } if on.nginx.words != LogWords::Read => {
                lines.push(show_errors());
            }
            Protocol::BadResponse { port } => {
                lines.extend(port.map(|port| {
                    Fix::command(format!("tcpdump -nA -i any tcp port {port}")).remark("shows what it sends")
                }));
            }
            Protocol::HeaderTooBig { .. } => lines.push(Fix::advice(
                "raise proxy_buffer_size (fastcgi_buffer_size, uwsgi_buffer_size) above the header, e.g. 16k",
            )),
            Protocol::StreamReset(reset) => reset.fix(lines),
            Protocol::UpstreamError { .. } => {}
        }
    }
}
