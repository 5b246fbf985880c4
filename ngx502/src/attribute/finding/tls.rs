//! A TLS handshake that one end refused: by an alert of the upstream's, or by nginx's check of its certificate.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::{Fix, On, Page};
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

/// Alerts (RFC 8446, section 6, and those of TLS 1.2 in RFC 5246) with what each mostly means to a client like nginx.
#[rustfmt::skip]
static ALERTS: &[(u8, &str, Option<&str>)] = &[
    (10, "unexpected_message", None),
    (20, "bad_record_mac", None),
    (22, "record_overflow", None),
    (40, "handshake_failure", Some(NO_COMMON_CIPHER)),
    (42, "bad_certificate", Some(CERTIFICATE_REFUSED)),
    (43, "unsupported_certificate", Some(CERTIFICATE_REFUSED)),
    (44, "certificate_revoked", Some(CERTIFICATE_REFUSED)),
    (45, "certificate_expired", Some(CERTIFICATE_REFUSED)),
    (46, "certificate_unknown", Some(CERTIFICATE_REFUSED)),
    (47, "illegal_parameter", None),
    (48, "unknown_ca", Some(CERTIFICATE_REFUSED)),
    (49, "access_denied", Some("it does not let nginx in")),
    (50, "decode_error", None),
    (51, "decrypt_error", None),
    (70, "protocol_version", Some("no common TLS version")),
    (71, "insufficient_security", Some(NO_COMMON_CIPHER)),
    (80, "internal_error", None),
    (86, "inappropriate_fallback", None),
    (90, "user_canceled", None),
    (109, "missing_extension", None),
    (110, "unsupported_extension", None),
    (112, "unrecognized_name", Some("it serves no such name: nginx sends none unless proxy_ssl_server_name is on")),
    (113, "bad_certificate_status_response", None),
    (115, "unknown_psk_identity", None),
    (116, "certificate_required", Some("it wants a client certificate")),
    (120, "no_application_protocol", Some("no common protocol above TLS (ALPN)")),
];

const NO_COMMON_CIPHER: &str = "no common cipher, or a client certificate is missing";
const CERTIFICATE_REFUSED: &str = "it does not accept nginx's client certificate";

/// An alert's name and meaning.
fn alert(number: u8) -> Option<(&'static str, Option<&'static str>)> {
    ALERTS.iter().find(|(known, ..)| *known == number).map(|(_, name, meaning)| (*name, *meaning))
}

impl Tls {
    /// The upstream sent this alert.
    pub(in crate::attribute) fn rejected(number: u8) -> Self {
        Tls::Rejected { alert: number, name: alert(number).map(|(name, _)| name) }
    }

    /// The configuration that helps.
    fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Tls::Rejected { alert: 112, .. } => {
                "proxy_ssl_server_name on; proxy_ssl_name NAME; (the name that the upstream serves)"
            }
            Tls::Rejected { alert: 42..=46 | 48 | 116, .. } => {
                "proxy_ssl_certificate and proxy_ssl_certificate_key, of a CA that the upstream trusts"
            }
            Tls::Rejected { alert: 70, .. } => "proxy_ssl_protocols: what the upstream offers",
            Tls::Rejected { alert: 40 | 71, .. } => {
                "proxy_ssl_certificate, if the upstream wants one; proxy_ssl_ciphers; proxy_ssl_server_name on;"
            }
            Tls::Rejected { .. } => return None,
            Tls::InvalidCertificate { code: None, .. } => "proxy_ssl_name: a name that the certificate has",
            Tls::InvalidCertificate { code: Some(9 | 10), .. } => {
                "renew the upstream's certificate; is this host's clock right?"
            }
            Tls::InvalidCertificate { .. } => {
                "proxy_ssl_trusted_certificate: the CA that signed it, intermediates included"
            }
        })
    }
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
                self::alert(*alert)
                    .and_then(|(_, meaning)| meaning)
                    .map_or(Ok(()), |meaning| write!(f, ": {meaning}"))
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

    fn fix(&self, on: &On<'_>, lines: &mut Vec<Fix>) {
        lines.extend(self.remedy().map(Fix::advice));
        if on.target.parse::<SocketAddr>().is_ok() {
            lines.push(Fix::command(format!("openssl s_client -connect {} -servername NAME", on.target)));
        }
    }
}
