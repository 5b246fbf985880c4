//! The Debian releases that guests are made of.

use std::fmt;

use clap::ValueEnum;

/// What every guest has besides the kernel; nginx is named by [`Release::nginx`].
const PACKAGES: [&str; 18] = [
    "apparmor",
    "base-files",
    "base-passwd",
    "bash",
    "busybox-static",
    "coreutils",
    "grep",
    "iproute2",
    "kmod",
    "mount",
    "netbase",
    "nftables",
    "openssl",
    "procps",
    "python3",
    "sed",
    "systemd",
    "util-linux",
];

/// The real backends, each in the release's own version; `php-fpm` depends on that of the release's PHP.
const BACKENDS: [&str; 5] = ["gunicorn", "nodejs", "php-fpm", "uwsgi-core", "uwsgi-plugin-python3"];

/// A Debian release; kernel and nginx are those of its archive on the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Release {
    /// Bullseye: kernel 5.10, nginx 1.18.
    Debian11,
    /// Bookworm: kernel 6.1, nginx 1.22.
    Debian12,
    /// Trixie: kernel 6.12, nginx 1.26.
    Debian13,
    /// Unstable: what comes next.
    Sid,
}

impl Release {
    /// The archive's name for it.
    pub(crate) fn codename(self) -> &'static str {
        match self {
            Self::Debian11 => "bullseye",
            Self::Debian12 => "bookworm",
            Self::Debian13 => "trixie",
            Self::Sid => "sid",
        }
    }

    /// The suite with its security updates; unstable has none.
    pub(crate) fn security_suite(self) -> Option<String> {
        (self != Self::Sid).then(|| format!("{}-security", self.codename()))
    }

    /// All packages but the kernel; their dependencies are apt's to find.
    pub(crate) fn packages(self) -> Vec<&'static str> {
        PACKAGES.into_iter().chain(BACKENDS).chain([self.puma(), self.nginx()]).collect()
    }

    /// A load generator and bcc's tools in place of the backends.
    pub(crate) fn bench_packages(self) -> Vec<&'static str> {
        PACKAGES.into_iter().chain(["libbpf-tools", "wrk", self.nginx()]).collect()
    }

    /// Bullseye's security suite lists a `puma` that mirrors no longer hold.
    fn puma(self) -> &'static str {
        if self == Self::Debian11 { "puma/bullseye" } else { "puma" }
    }

    /// `nginx` is a metapackage up to bullseye, and apt may choose what fulfils it; the binary itself since.
    fn nginx(self) -> &'static str {
        if self == Self::Debian11 { "nginx-core" } else { "nginx" }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debian11 => "debian11",
            Self::Debian12 => "debian12",
            Self::Debian13 => "debian13",
            Self::Sid => "sid",
        })
    }
}
