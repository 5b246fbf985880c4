//! What the upstream's own bytes did.

use std::fmt;

use serde::Serialize;

use super::{LogWords, On, Page};
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
    /// The upstream answered with the error itself.
    UpstreamError {
        /// Its status; null where it could not be read.
        status: Option<u16>,
    },
}

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

    fn fix(&self) -> Option<String> {
        let instead = |wrong| format!("use proxy_pass instead of {wrong} for this upstream");
        match (self.how, self.expected, self.spoken) {
            (SeenBy::Openssl, _, Some(Spoken::TlsVersion)) => {
                Some("set proxy_ssl_protocols to what the upstream offers".into())
            }
            (SeenBy::Openssl | SeenBy::RefusedBytes(_), ..) => {
                Some("use proxy_pass http:// (grpc:// for gRPC) for this upstream".into())
            }
            (_, Spoken::FastCgi, Some(Spoken::Http1)) => Some(instead("fastcgi_pass")),
            (_, Spoken::Http2, Some(Spoken::Http1)) => Some(instead("grpc_pass")),
            _ => None,
        }
    }
}

/// How to see what nginx itself said.
pub(super) const SHOW_ERRORS: &str = "error_log … error; shows it";

impl Page for Protocol {
    fn cause(&self) -> Cause {
        match self {
            Protocol::Mismatch(_) => Cause::ProtocolMismatch,
            Protocol::BadResponse { .. } => Cause::BadResponse,
            Protocol::HeaderTooBig { .. } => Cause::HeaderBufferSmall,
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
            Protocol::UpstreamError { status } => {
                match status {
                    Some(status) => write!(f, "{there} itself answered {status}")?,
                    None => write!(f, "{there} itself answered an error")?,
                }
                f.write_str("; check the upstream's log")
            }
        }
    }

    fn fix(&self, on: &On<'_>, lines: &mut Vec<String>) {
        match self {
            Protocol::Mismatch(mismatch) => lines.extend(mismatch.fix()),
            Protocol::BadResponse { .. } if on.nginx.words != LogWords::Read => {
                lines.push(SHOW_ERRORS.into())
            }
            Protocol::BadResponse { port } => {
                lines.extend(
                    port.map(|port| format!("tcpdump -nA -i any tcp port {port}  # shows what it sends")),
                );
            }
            Protocol::HeaderTooBig { .. } => lines.push(
                "raise proxy_buffer_size (fastcgi_buffer_size, uwsgi_buffer_size) above the header, e.g. 16k"
                    .into(),
            ),
            Protocol::UpstreamError { .. } => {}
        }
    }
}
