//! TLS handshakes that fail: the upstream is OpenSSL's own server, with a certificate that it signed itself.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use xtask::lab::{Lab, LabConfig, wait};

use crate::outcome_of;
use crate::program::Program;
use crate::tracer::Tracer;

/// The name in the certificate.
const NAME: &str = "back.test";

/// What a trial asks for: further arguments of `s_server`, directives of the location, and what must come of it.
struct Case {
    name: &'static str,
    server: &'static [&'static str],
    location: &'static str,
    cause: &'static str,
    /// A field of `details` and its value.
    detail: (&'static str, u64),
}

const CASES: &[Case] = &[
    Case {
        name: "unrecognized-name",
        // Another name than this one's is answered with a fatal alert.
        server: &["-servername", NAME, "-servername_fatal"],
        location: "proxy_ssl_server_name on; proxy_ssl_name other.test;",
        cause: "tls-rejected",
        detail: ("alert", 112),
    },
    Case {
        name: "no-common-version",
        server: &["-tls1_3"],
        location: "proxy_ssl_protocols TLSv1.2;",
        cause: "tls-rejected",
        detail: ("alert", 70),
    },
    Case {
        name: "no-common-cipher",
        server: &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"],
        location: "proxy_ssl_protocols TLSv1.2; proxy_ssl_ciphers ECDHE-RSA-AES128-GCM-SHA256;",
        cause: "tls-rejected",
        detail: ("alert", 40),
    },
    Case {
        name: "client-certificate-required",
        server: &["-tls1_2", "-Verify", "1", "-verify_return_error"],
        location: "proxy_ssl_protocols TLSv1.2;",
        cause: "tls-rejected",
        detail: ("alert", 40),
    },
    Case {
        name: "self-signed",
        server: &[],
        location: "proxy_ssl_verify on; proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;",
        cause: "certificate-invalid",
        detail: ("code", 18),
    },
];

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |case: &'static Case| {
        Trial::test(format!("tls::{}", case.name), move || outcome_of(|| fails_as_told(case)))
    };
    CASES.iter().map(trial).chain([Trial::test("tls::another-name", || outcome_of(another_name))]).collect()
}

/// OpenSSL's server.
struct Server {
    _program: Program,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(arguments: &[&str]) -> Result<Server> {
        let folder = tempfile::tempdir()?;
        let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-subj", &format!("/CN={NAME}"), "-addext", &format!("subjectAltName=DNS:{NAME}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .context("`openssl` is missing")?;
        ensure!(made.status.success(), "no certificate: {}", String::from_utf8_lossy(&made.stderr));
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-accept", &address.to_string(), "-key"]).arg(&key).arg("-cert");
        command.arg(&certificate);
        if arguments.contains(&"-servername") {
            command.arg("-key2").arg(&key).arg("-cert2").arg(&certificate);
        }
        // Its input is what it would send.
        let server = Server { _program: Program::start(command.args(arguments))?, address, folder };
        wait::until("openssl to listen", Duration::from_secs(10), || TcpStream::connect(address).ok())?;
        Ok(server)
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate")
    }
}

/// The verdict of one request.
fn verdict(server: &Server, location: &str) -> Result<Value> {
    let lab = Lab::start(LabConfig {
        server: format!("location / {{ {location} proxy_pass https://{}; }}", server.address),
        ..Default::default()
    })?;
    let mut tracer = Tracer::start(lab.master(), &[])?;
    let uri = format!("/tls/{}", lab.master());
    lab.get(&uri)?;
    let line = tracer.wait_for_uri("verdict", &uri)?;
    tracer.stop()?;
    Ok(line)
}

fn fails_as_told(case: &Case) -> Result<()> {
    let server = Server::start(case.server)?;
    let line = verdict(&server, case.location)?;
    ensure!(
        line["cause"] == case.cause && line["certainty"] == "proven",
        "not {}, proven: {line}",
        case.cause
    );
    let (field, value) = case.detail;
    ensure!(line["details"][field] == value, "{field} is not {value}: {line}");
    Ok(())
}

/// The certificate is valid, and not of the name that nginx wants.
fn another_name() -> Result<()> {
    let server = Server::start(&[])?;
    let trusted = server.certificate();
    let location = format!(
        "proxy_ssl_verify on; proxy_ssl_name other.test; proxy_ssl_trusted_certificate {};",
        trusted.display()
    );
    let line = verdict(&server, &location)?;
    ensure!(line["cause"] == "certificate-invalid", "not certificate-invalid: {line}");
    ensure!(
        line["details"]["reason"] == "other.test" && line["details"]["code"].is_null(),
        "not why: {line}"
    );
    Ok(())
}
