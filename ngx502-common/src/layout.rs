//! Where nginx keeps what the probes read, per binary. User space fills it in; BPF checks what it reads.

/// An offset that is not known; the reader then yields nothing, or scans.
pub const ABSENT: u16 = u16::MAX;

/// Byte offsets into nginx's structs on a 64-bit host, from debug information, a table or a scan.
///
/// The defaults are the prefix that every release from 1.14 to 1.31 shares; see `nginx::layout`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NginxLayout {
    /// `r->upstream`: 72, or 64 without the HTTP cache.
    pub upstream: u16,
    /// `r->upstream_states`.
    pub upstream_states: u16,
    /// `r->cache`; [`ABSENT`] without the HTTP cache.
    pub cache: u16,
    /// `r->headers_in.host`: 160 or 168.
    pub host: u16,
    /// `r->request_line`; [`ABSENT`] makes BPF scan for it.
    pub request_line: u16,
    /// `r->main`, relative to `request_line`: 136, or 120 up to 1.15.0.
    pub main_from_request_line: u16,
    /// How far `r->headers_out.status` lies *before* `request_line` (344, 280, 288…); [`ABSENT`] when unknown.
    pub status_before_request_line: u16,
    /// `c->fd`.
    pub connection_fd: u16,
    /// `c->log`.
    pub connection_log: u16,
    /// `c->addr_text`.
    pub connection_addr_text: u16,
    /// `u->peer.connection`.
    pub peer_connection: u16,
    /// `u->peer.name`.
    pub peer_name: u16,
    /// `log->data`.
    pub log_data: u16,
    /// `log->action`.
    pub log_action: u16,
    /// `state.status`, after which the times follow at fixed distances; 0, or 8 in Angie ≥ 1.12.
    pub state_status: u16,
    /// `state.bytes_received`.
    pub state_bytes_received: u16,
    /// `state.bytes_sent`; [`ABSENT`] up to 1.15.7.
    pub state_bytes_sent: u16,
    /// `state.peer`.
    pub state_peer: u16,
    /// 1 when `ngx_log_error_core` has a file name before its errno (Angie ≥ 1.12), else 0.
    pub log_core_has_file: u16,
    /// Padding, 0.
    pub reserved: u16,
}

const _: () = assert!(size_of::<NginxLayout>() == 40);

impl NginxLayout {
    /// The universal prefix, with everything that moves marked absent.
    pub const UNIVERSAL: Self = Self {
        upstream: 72,
        upstream_states: 80,
        cache: 64,
        host: 160,
        request_line: ABSENT,
        main_from_request_line: 136,
        status_before_request_line: ABSENT,
        connection_fd: 24,
        connection_log: 80,
        connection_addr_text: 120,
        peer_connection: 16,
        peer_name: 40,
        log_data: 40,
        log_action: 64,
        state_status: 0,
        state_bytes_received: 48,
        state_bytes_sent: 56,
        state_peer: 64,
        log_core_has_file: 0,
        reserved: 0,
    };
}

// SAFETY: `repr(C)`, only u16 fields, no padding (asserted above); any bytes are a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for NginxLayout {}
