//! A TLS handshake that one end refused: by an alert of the upstream's, or by nginx's check of its certificate.

use std::fmt;

use serde::Serialize;

use super::{On, Page};
use crate::attribute::verdict::Cause;

/// Who refused what.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Tls {
    /// The upstream sent an alert.
    Rejected {
        /// Its number (RFC 8446, section 6).
        alert: u8,
        /// Its name there; null for a number that has none.
        name: Option<&'static str>,
    },
    /// nginx does not accept the upstream's certificate.
    InvalidCertificate {
        /// OpenSSL's code (`X509_V_ERR_…`); null where the certificate is valid and another name's.
        code: Option<i64>,
        /// OpenSSL's words for it, or the name that nginx wants the certificate to have.
        reason: Option<String>,
        /// At which certificate of the chain; nginx does not say.
        depth: Option<u32>,
    },
}

/// The name of an alert (RFC 8446, section 6, and those of TLS 1.2 in RFC 5246).
pub(in crate::attribute) fn alert_name(number: u8) -> Option<&'static str> {
    Some(match number {
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => return None,
    })
}

/// What an alert mostly means to a client like nginx.
fn meaning(alert: u8) -> Option<&'static str> {
    Some(match alert {
        40 | 71 => "no common cipher, or a client certificate is missing",
        42 | 43 | 44 | 45 | 46 | 48 => "it does not accept nginx's client certificate",
        49 => "it does not let nginx in",
        70 => "no common TLS version",
        112 => "it serves no such name: nginx sends none unless proxy_ssl_server_name is on",
        116 => "it wants a client certificate",
        120 => "no common protocol above TLS (ALPN)",
        _ => return None,
    })
}

impl Page for Tls {
    fn cause(&self) -> Cause {
        match self {
            Tls::Rejected { .. } => Cause::TlsRejected,
            Tls::InvalidCertificate { .. } => Cause::CertificateInvalid,
        }
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = on.target;
        match self {
            Tls::Rejected { alert, name } => {
                write!(f, "{there} refused the TLS handshake with alert {alert}")?;
                name.map_or(Ok(()), |name| write!(f, " ({name})"))?;
                meaning(*alert).map_or(Ok(()), |meaning| write!(f, ": {meaning}"))
            }
            Tls::InvalidCertificate { code: Some(code), reason, .. } => {
                write!(f, "nginx does not accept the certificate of {there}: ")?;
                match reason {
                    Some(reason) => write!(f, "{reason} (OpenSSL's code {code})"),
                    None => write!(f, "OpenSSL's code {code}"),
                }
            }
            Tls::InvalidCertificate { code: None, reason, .. } => {
                write!(f, "the certificate of {there} is not that of ")?;
                match reason {
                    Some(name) => f.write_str(name),
                    None => f.write_str("the name that nginx expects (proxy_ssl_name)"),
                }
            }
        }
    }

    fn fix(&self, on: &On<'_>, lines: &mut Vec<String>) {
        let set = |line: &str| line.to_owned();
        match self {
            Tls::Rejected { alert: 112, .. } => {
                lines.push(set("proxy_ssl_server_name on; proxy_ssl_name NAME; (the name that the upstream serves)"));
            }
            Tls::Rejected { alert: 42..=46 | 48 | 116, .. } => {
                lines.push(set("proxy_ssl_certificate and proxy_ssl_certificate_key, of a CA that the upstream trusts"));
            }
            Tls::Rejected { alert: 70, .. } => {
                lines.push(set("proxy_ssl_protocols: what the upstream offers"));
            }
            Tls::Rejected { alert: 40 | 71, .. } => lines.extend([
                set("proxy_ssl_certificate, if the upstream wants one; proxy_ssl_ciphers; proxy_ssl_server_name on;"),
            ]),
            Tls::Rejected { .. } => {}
            Tls::InvalidCertificate { code: None, .. } => {
                lines.push(set("proxy_ssl_name: a name that the certificate has"));
            }
            Tls::InvalidCertificate { code: Some(9 | 10), .. } => {
                lines.push(set("renew the upstream's certificate; is this host's clock right?"));
            }
            Tls::InvalidCertificate { .. } => {
                lines.push(set("proxy_ssl_trusted_certificate: the CA that signed it, intermediates included"));
            }
        }
        if let Tls::Rejected { .. } | Tls::InvalidCertificate { .. } = self
            && on.target.parse::<std::net::SocketAddr>().is_ok()
        {
            lines.push(format!("openssl s_client -connect {} -servername NAME", on.target));
        }
    }
}
