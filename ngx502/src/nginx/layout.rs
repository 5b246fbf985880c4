//! Where a given nginx build keeps its fields.
//!
//! Debug information is believed first. Without it, nginx's own releases follow a closed formula over their version and
//! module signature, which is checked against every build in `tests/fixtures/nginx_layouts.tsv`. Forks patch the struct
//! that moves, so for them `request_line` stays absent and BPF scans for it; what else is known of them is filled in.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use ngx502_common::layout::{ABSENT, NginxLayout};

use super::binary::Binary;
use super::debuginfo;
use super::version::{Product, Release, Signature, Version};

/// Where a layout comes from, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutSource {
    /// The debug information in this file.
    DebugInformation(PathBuf),
    /// nginx's version and module signature.
    Signature,
    /// The version alone: a fork, or a release without a formula. `request_line` has to be found by scanning.
    Version,
    /// Nothing: the prefix that all releases share.
    Universal,
}

/// The first and last release whose offsets were verified.
const KNOWN_RELEASES: RangeInclusive<Release> = (1, 14, 0)..=(1, 31, 4);

/// Flags of the module signature, counted from 1.
mod flag {
    pub(super) const GZIP: usize = 26;
    pub(super) const X_FORWARDED_FOR: usize = 28;
    pub(super) const REALIP: usize = 29;
    pub(super) const HEADERS: usize = 30;
    pub(super) const DAV: usize = 31;
    pub(super) const CACHE: usize = 32;
}

/// The layout of a build and what it rests on.
pub fn of(binary: &Binary) -> (NginxLayout, LayoutSource) {
    let (layout, source) = match &binary.version {
        Some(version) => from_version(version, binary.signature.as_ref(), |text| binary.find(text).is_some()),
        None => (NginxLayout::UNIVERSAL, LayoutSource::Universal),
    };
    match debuginfo::layout(binary, layout) {
        Some((layout, path)) => (layout, LayoutSource::DebugInformation(path)),
        None => (layout, source),
    }
}

/// What version and signature say; `mentions` says whether the binary holds a text, which shows the modules in it.
fn from_version(
    version: &Version,
    signature: Option<&Signature>,
    mentions: impl Fn(&[u8]) -> bool,
) -> (NginxLayout, LayoutSource) {
    let layout = match version.product {
        Product::Nginx => nginx(version.number, signature),
        Product::OpenResty => nginx(version.number, None),
        Product::Freenginx => freenginx(version.number),
        Product::Angie => angie(version.number, mentions(b"ngx_http_upstream_sticky_module")),
        Product::Tengine => tengine(version.number, mentions(b"ngx_http_multi_upstream_module")),
        Product::Other => NginxLayout::UNIVERSAL,
    };
    let source = match version.product {
        Product::Other => LayoutSource::Universal,
        _ if layout.request_line != ABSENT => LayoutSource::Signature,
        _ => LayoutSource::Version,
    };
    // Angie's signature has other flags.
    let has_cache = match signature {
        Some(signature) if version.product != Product::Angie => signature.flag(flag::CACHE),
        _ => true,
    };
    (if has_cache { layout } else { without_cache(layout) }, source)
}

/// Without the HTTP cache `r->cache` is gone and all behind it moves up. The formula has counted that already.
fn without_cache(layout: NginxLayout) -> NginxLayout {
    const POINTER: u16 = 8;
    NginxLayout {
        upstream: layout.upstream - POINTER,
        upstream_states: layout.upstream_states - POINTER,
        cache: ABSENT,
        host: layout.host - POINTER,
        ..layout
    }
}

fn nginx(release: Release, signature: Option<&Signature>) -> NginxLayout {
    let mut layout = NginxLayout::UNIVERSAL;
    // `headers_in.count` came in front of `host`. Where a patched older build has it too, the slot read as `host` holds
    // a small count, never another header, so that nothing false is shown.
    if release >= (1, 29, 8) {
        layout.host = 168;
    }
    if release < (1, 15, 1) {
        layout.main_from_request_line = 120;
    }
    if release < (1, 15, 8) {
        layout.state_peer = 56;
        layout.state_bytes_sent = ABSENT;
    }
    if KNOWN_RELEASES.contains(&release) {
        layout.status_before_request_line = match release {
            _ if release < (1, 23, 0) => 344,
            _ if release < (1, 29, 7) => 280,
            _ => 288,
        };
        layout.request_line = signature.map_or(ABSENT, |signature| request_line(release, signature));
    }
    layout
}

/// `offsetof(ngx_http_request_t, request_line)` of an unpatched release: the fields in front of it, most of them in
/// `headers_in`, depend on the release and on what was configured.
fn request_line(release: Release, signature: &Signature) -> u16 {
    let when = |condition: bool, bytes: u16| if condition { bytes } else { 0 };
    let base = match release {
        _ if release < (1, 23, 0) => 872,
        _ if release < (1, 29, 7) => 776,
        (1, 29, 7) => 792,
        _ => 800,
    };
    // Headers that may repeat were arrays up to 1.22 and are linked lists since.
    let forwarded_for = if release < (1, 23, 0) { 40 } else { 8 };
    base + when(signature.flag(flag::GZIP) || signature.flag(flag::HEADERS), 16)
        + when(signature.flag(flag::X_FORWARDED_FOR), forwarded_for)
        + when(signature.flag(flag::REALIP), 8)
        + when(signature.flag(flag::HEADERS), 16)
        + when(signature.flag(flag::DAV), 32)
        + when(signature.flag(flag::CACHE), 8)
}

fn freenginx(release: Release) -> NginxLayout {
    let short_log = release >= (1, 27, 2);
    NginxLayout {
        log_data: if short_log { 32 } else { 40 },
        log_action: if short_log { 56 } else { 64 },
        host: if release >= (1, 29, 7) { 168 } else { 160 },
        status_before_request_line: 280,
        ..NginxLayout::UNIVERSAL
    }
}

fn angie(release: Release, has_sticky: bool) -> NginxLayout {
    // From 1.12 on the attempt's transport comes first in its state.
    let transport = if release >= (1, 12, 0) { 8 } else { 0 };
    let sticky = if has_sticky { 8 } else { 0 };
    NginxLayout {
        log_data: if release >= (1, 12, 0) { 32 } else { 40 },
        log_core_has_file: u16::from(release >= (1, 12, 0)),
        host: if release >= (1, 8, 3) { 168 } else { 160 },
        status_before_request_line: match release {
            (1, ..=8, _) | (1, 12, _) => 280,
            (1, 11, _) => 272,
            // Between the releases that were looked at, or after them.
            _ => ABSENT,
        },
        state_status: transport,
        state_bytes_received: 48 + transport,
        state_bytes_sent: 56 + transport,
        state_peer: 64 + transport + sticky,
        ..NginxLayout::UNIVERSAL
    }
}

fn tengine(release: Release, has_multi: bool) -> NginxLayout {
    // This module adds a field in front of `c->fd`.
    let multi = if has_multi { 8 } else { 0 };
    let current = release >= (3, 0, 0);
    NginxLayout {
        host: if current { 168 } else { 160 },
        main_from_request_line: 152,
        status_before_request_line: if current { 352 } else { ABSENT },
        connection_fd: 24 + multi,
        connection_log: 80 + multi,
        connection_addr_text: 120 + multi,
        state_bytes_received: 88,
        state_bytes_sent: 96,
        state_peer: 104,
        ..NginxLayout::UNIVERSAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = include_str!("../../tests/fixtures/nginx_layouts.tsv");

    /// A row's columns by the table's heading.
    fn rows() -> impl Iterator<Item = (&'static str, &'static str, Vec<u16>)> {
        TABLE.lines().filter(|line| !line.starts_with('#')).skip(1).map(|line| {
            let mut columns = line.split('\t');
            let (version, signature) = (columns.next().unwrap(), columns.next().unwrap());
            (version, signature, columns.map(|column| column.parse().unwrap()).collect())
        })
    }

    fn layout_of_row(version: &str, signature: &str) -> (NginxLayout, LayoutSource) {
        let version = Version::find(format!("nginx version: {version}\n").as_bytes()).unwrap();
        let signature = Signature::find(format!("{signature}\0").as_bytes());
        // The measured Angie builds have the sticky module, the measured Tengine ones no multi_upstream.
        from_version(&version, signature.as_ref(), |text| text == b"ngx_http_upstream_sticky_module")
    }

    #[test]
    fn every_measured_build_is_predicted() {
        let (mut exact, mut others) = (0, 0);
        for (version, signature, row) in rows() {
            let (layout, source) = layout_of_row(version, signature);
            let [request_line, main, upstream, host, status, rest @ ..] = row.as_slice() else {
                panic!("{row:?}")
            };
            let context = format!("{version} {signature}");
            let is_nginx = version.starts_with("nginx/");
            if is_nginx && signature != "-" {
                assert_eq!(
                    (layout.request_line, &source),
                    (*request_line, &LayoutSource::Signature),
                    "{context}"
                );
                exact += 1;
            } else {
                assert_eq!((layout.request_line, &source), (ABSENT, &LayoutSource::Version), "{context}");
                others += 1;
            }
            let has_cache = *upstream == 72;
            if signature != "-" {
                assert_eq!(layout.upstream, *upstream, "{context}");
                assert_eq!(layout.upstream_states, upstream + 8, "{context}");
                assert_eq!(layout.cache, if has_cache { 64 } else { ABSENT }, "{context}");
            }
            // OpenResty's version does not show its patch; see `nginx`.
            if !version.starts_with("openresty/") && (signature != "-" || has_cache) {
                assert_eq!(layout.host, *host, "{context}");
            }
            assert_eq!(layout.main_from_request_line, *main, "{context}");
            assert_eq!(layout.status_before_request_line, *status, "{context}");
            let predicted = [
                layout.log_data,
                layout.log_action,
                layout.state_status,
                layout.state_bytes_received,
                layout.state_peer,
            ];
            assert_eq!(predicted, rest[..5], "{context}");
        }
        assert!(exact > 100 && others > 100, "the table is whole: {exact} exact, {others} others");
    }

    #[test]
    fn releases_outside_the_measured_ones_are_scanned() {
        let debian = format!("8,4,8,{}", "0011111111010111001111111111111111");
        for version in ["nginx/1.12.2", "nginx/1.31.5", "nginx/2.0.0"] {
            let (layout, source) = layout_of_row(version, &debian);
            assert_eq!((layout.request_line, source), (ABSENT, LayoutSource::Version), "{version}");
            assert_eq!(layout.status_before_request_line, ABSENT, "{version}");
        }
    }

    #[test]
    fn an_unknown_name_gets_the_shared_prefix() {
        assert_eq!(layout_of_row("mine/9.8", "-"), (NginxLayout::UNIVERSAL, LayoutSource::Universal));
    }

    #[test]
    fn angie_logs_with_a_file_name_from_1_12() {
        assert_eq!(layout_of_row("Angie/1.11.8", "-").0.log_core_has_file, 0);
        assert_eq!(layout_of_row("Angie/1.12.1", "-").0.log_core_has_file, 1);
    }
}
