//! Reads nginx's request, connection and log structs. Nothing here trusts an address or an offset: a request is one
//! only when its signature says so, a request line only when its neighbours fit.

use ngx502_common::{
    config::loss,
    event::{Request, STATES_MAX, State},
    layout::{ABSENT, NginxLayout},
};

use crate::{
    emit,
    kernel::{self, offset},
    maps::LAYOUTS,
    task, user,
};

/// `r->signature`, "HTTP", the same since 0.1.
const SIGNATURE: u32 = 0x5054_5448;
/// `r->connection`.
const CONNECTION: u64 = 8;
/// `log->connection`.
const LOG_CONNECTION: u64 = 16;
/// `log_ctx->current_request`.
const LOG_CTX_REQUEST: u64 = 16;
/// `ngx_table_elt_t.value`.
const HEADER_VALUE: u64 = 24;

/// A request that was found valid, with what is needed to read on.
#[derive(Clone, Copy)]
pub struct Found {
    pub request: u64,
    /// The client's `ngx_connection_t`.
    pub client: u64,
    pub log: u64,
    pub upstream: u64,
    /// Distance of `request_line`, [`ABSENT`] when not known.
    pub line: u16,
}

/// Checks `request` and reads its first links.
#[inline(always)]
pub fn find(request: u64, layout: &mut NginxLayout) -> Option<Found> {
    if user::read::<u32>(request)? != SIGNATURE {
        return None;
    }
    let client = user::word(request + CONNECTION);
    Some(Found {
        request,
        client,
        log: user::word(client + u64::from(layout.connection_log)),
        upstream: user::word(request + u64::from(layout.upstream)),
        line: request_line(request, layout),
    })
}

/// Below this, no allocation of a position-independent nginx; what stands there is another module's number.
const POINTERS: u64 = 1 << 32;

/// The request that a log call is about; 0 when it is about none. What leads to it was in use a moment ago, so a page
/// that is not there costs a record, and is counted.
#[inline(never)]
pub fn of_log(log: u64, layout: &NginxLayout) -> u64 {
    let Some(context) = user::read::<u64>(log + u64::from(layout.log_data)) else {
        emit::count_loss(loss::UNREADABLE);
        return 0;
    };
    if context == 0 {
        return 0;
    }
    let request = user::read::<u64>(context + LOG_CTX_REQUEST);
    let readable = request.is_some_and(|request| request < POINTERS || user::read::<u32>(request).is_some());
    if !readable {
        emit::count_loss(loss::UNREADABLE);
    }
    request.unwrap_or(0)
}

/// Whether a request that was found valid before still is one, and of the same connection.
#[inline(always)]
pub fn is_of_connection(request: u64, number: u64, layout: &NginxLayout) -> bool {
    if user::read::<u32>(request) != Some(SIGNATURE) {
        return false;
    }
    let client = user::word(request + CONNECTION);
    user::word(user::word(client + u64::from(layout.connection_log)) + LOG_CONNECTION) == number
}

/// `r->headers_out.status`; 0 when the layout is not known. `line` is the distance of `request_line`.
#[inline(always)]
pub fn status(request: u64, line: u16, layout: &NginxLayout) -> u16 {
    if line == ABSENT || layout.status_before_request_line == ABSENT {
        return 0;
    }
    let status = user::word(request + u64::from(line) - u64::from(layout.status_before_request_line));
    if status < 1000 { status as u16 } else { 0 }
}

impl Found {
    /// The main request; 0 when the layout is not known.
    #[inline(always)]
    pub fn main(&self, layout: &NginxLayout) -> u64 {
        if self.line == ABSENT {
            return 0;
        }
        let main = user::word(self.request + u64::from(self.line) + u64::from(layout.main_from_request_line));
        if main == self.request || user::read::<u32>(main) == Some(SIGNATURE) { main } else { 0 }
    }

    /// `log->connection`.
    #[inline(always)]
    pub fn connection_number(&self) -> u64 {
        user::word(self.log + LOG_CONNECTION)
    }

    /// `log->log_level`.
    #[inline(always)]
    pub fn log_level(&self) -> u64 {
        user::word(self.log)
    }

    /// Copies the Host header.
    #[inline(always)]
    pub fn host<const N: usize>(&self, to: &mut [u8; N], layout: &NginxLayout) -> u16 {
        let header = user::word(self.request + u64::from(layout.host));
        if header == 0 { 0 } else { user::copy_ngx_str(to, header + HEADER_VALUE) }
    }

    /// Copies the client's address.
    #[inline(always)]
    pub fn address<const N: usize>(&self, to: &mut [u8; N], layout: &NginxLayout) -> u16 {
        user::copy_ngx_str(to, self.client + u64::from(layout.connection_addr_text))
    }

    /// Copies the request line.
    #[inline(always)]
    pub fn line<const N: usize>(&self, to: &mut [u8; N]) -> u16 {
        if self.line == ABSENT { 0 } else { user::copy_ngx_str(to, self.request + u64::from(self.line)) }
    }

    /// Copies `u->peer.name`.
    #[inline(always)]
    pub fn peer<const N: usize>(&self, to: &mut [u8; N], layout: &NginxLayout) -> u16 {
        if self.upstream == 0 {
            return 0;
        }
        let name = user::word(self.upstream + u64::from(layout.peer_name));
        if name == 0 { 0 } else { user::copy_ngx_str(to, name) }
    }

    /// `r->headers_out.status`; 0 when the layout is not known.
    #[inline(always)]
    pub fn status(&self, layout: &NginxLayout) -> u16 {
        status(self.request, self.line, layout)
    }

    /// The client's `struct sock *`; 0 when it has none.
    #[inline(always)]
    pub fn client_sock(&self, layout: &NginxLayout) -> u64 {
        sock_of_connection(self.client, layout)
    }

    /// The upstream's `struct sock *` while nginx still holds it; 0 otherwise.
    #[inline(always)]
    pub fn upstream_sock(&self, layout: &NginxLayout) -> u64 {
        let connection = user::word(self.upstream + u64::from(layout.peer_connection));
        if connection == 0 { 0 } else { sock_of_connection(connection, layout) }
    }
}

/// The request line's offset: the layout's where the neighbours confirm it, else the one that a scan finds, which
/// is then kept for the binary.
#[inline(always)]
fn request_line(request: u64, layout: &mut NginxLayout) -> u16 {
    let found = ngx502_request_line(request, u64::from(layout.request_line)) as u16;
    if found != ABSENT {
        layout.request_line = found;
    }
    found
}

/// See [`request_line`]. A global function, which the verifier checks once and not again for every state in which it
/// is called: that took most of the time that loading took.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ngx502_request_line(request: u64, known: u64) -> u64 {
    if known != u64::from(ABSENT) && is_request_line(request.wrapping_add(known)) {
        return known;
    }
    for step in 0..SCAN_WORDS {
        let offset = u64::from(SCAN_FIRST + step * 8);
        if is_request_line(request.wrapping_add(offset)) {
            return offset;
        }
    }
    u64::from(ABSENT)
}

/// `request_line` lies between these in every release and build; see `nginx::layout`.
const SCAN_FIRST: u16 = 760;
const SCAN_WORDS: u16 = 48;

/// `method`, `http_version`, `request_line.len`, `request_line.data` stand side by side in every release: a power of
/// two, one of five numbers, a small length, a pointer to text that begins with a letter.
#[inline(never)]
fn is_request_line(at: u64) -> bool {
    let Some([method, version, len, data]) = user::read::<[u64; 4]>(at - 16) else { return false };
    let known_version =
        version == 9 || version == 1000 || version == 1001 || version == 2000 || version == 3000;
    if !known_version || method == 0 || method > 1 << 20 || method & (method - 1) != 0 {
        return false;
    }
    if len < 3 || len > 1 << 16 {
        return false;
    }
    matches!(user::read::<u8>(data), Some(first) if first.is_ascii_alphabetic())
}

/// `ngx_array_t`: elements, count, element size.
#[inline(always)]
pub fn states(request: u64, layout: &NginxLayout) -> Option<(u64, u64, u64)> {
    let array = user::word(request + u64::from(layout.upstream_states));
    if array == 0 {
        return None;
    }
    let [elements, count, size] = user::read::<[u64; 3]>(array)?;
    (count < 1 << 16 && size < 1 << 10).then_some((elements, count, size))
}

/// Copies the last states into a record.
#[inline(never)]
pub fn copy_states(record: &mut Request, request: u64, layout: &NginxLayout) {
    record.states_total = 0;
    record.states_len = 0;
    let Some((elements, count, size)) = states(request, layout) else { return };
    record.states_total = count as u32;
    let first = if count > STATES_MAX as u64 { count - STATES_MAX as u64 } else { 0 };
    for i in 0..STATES_MAX {
        if first + i as u64 >= count {
            break;
        }
        copy_state(&mut record.states[i], elements + (first + i as u64) * size, layout);
        record.states_len = i as u32 + 1;
    }
}

/// Copies one `ngx_http_upstream_state_t`: status, response, connect and header time are neighbours everywhere.
#[inline(never)]
pub fn copy_state(state: &mut State, at: u64, layout: &NginxLayout) {
    let [status, response, connect, header] =
        user::read::<[i64; 4]>(at + u64::from(layout.state_status)).unwrap_or([0, -1, -1, -1]);
    state.status = status as u16;
    state.response_ms = response;
    state.connect_ms = connect;
    state.header_ms = header;
    state.bytes_received = user::read(at + u64::from(layout.state_bytes_received)).unwrap_or(-1);
    state.bytes_sent = match layout.state_bytes_sent {
        ABSENT => -1,
        offset => user::read(at + u64::from(offset)).unwrap_or(-1),
    };
    let name = user::word(at + u64::from(layout.state_peer));
    state.peer_len = if name == 0 { 0 } else { user::copy_ngx_str(&mut state.peer, name) };
    state.reserved = 0;
    state.reserved2 = [0; 4];
}

/// The socket behind an `ngx_connection_t`.
#[inline(always)]
pub fn sock_of_connection(connection: u64, layout: &NginxLayout) -> u64 {
    match user::read::<u32>(connection + u64::from(layout.connection_fd)) {
        Some(fd) => sock_of_fd(fd),
        None => 0,
    }
}

/// The `struct sock *` behind a descriptor of the current process; 0 when it is no socket. A socket and its sock
/// point at each other, which no other file's private data does.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sock_of_fd(fd: u32) -> u64 {
    let files = kernel::read_or(task::current(), offset!(task_files), 0u64);
    let table = kernel::read_or(files, offset!(files_fdt), 0u64);
    if fd >= kernel::read_or(table, offset!(fdtable_max_fds), 0u32) {
        return 0;
    }
    let array = kernel::read_or(table, offset!(fdtable_fd), 0u64);
    if array == 0 {
        return 0;
    }
    let file = kernel::read_or(array + u64::from(fd) * 8, 0, 0u64);
    let socket = kernel::read_or(file, offset!(file_private_data), 0u64);
    let sk = kernel::read_or(socket, offset!(socket_sk), 0u64);
    if sk != 0 && kernel::read(sk, offset!(sk_socket)) == Some(socket) { sk } else { 0 }
}

/// The layout of a binary, to be completed in place.
#[inline(always)]
pub fn layout<'a>(index: u32) -> Option<&'a mut NginxLayout> {
    // SAFETY: array memory lives as long as the program; workers of one binary write the same value.
    LAYOUTS.get_ptr_mut(index).map(|layout| unsafe { &mut *layout })
}
