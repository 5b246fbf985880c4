//! Reads nginx's request, connection and log structs. Nothing here trusts an address or an offset: a request is one
//! only when its signature says so, a request line only when its neighbours fit.

use ngx502_common::{
    config::{Traced, loss},
    event::Request,
    layout::{ABSENT, NginxLayout},
};

use crate::{
    descriptor::sock_of_connection,
    emit,
    maps::{LAYOUTS, TRACED},
    request_line::{self, METHOD},
    state::{Found, Identity},
    task, upstream_states, user,
};

/// `r->signature`, "HTTP", the same since 0.1.
const SIGNATURE: u32 = 0x5054_5448;
/// `r->connection`.
const CONNECTION: u16 = 8;
/// `log->log_level`.
const LOG_LEVEL: u16 = 0;
/// `log->connection`.
const LOG_CONNECTION: u16 = 16;
/// `log_ctx->current_request`.
const LOG_CTX_REQUEST: u64 = 16;
/// `ngx_table_elt_t.value`.
const HEADER_VALUE: u64 = 24;

impl Identity {
    /// The main request's address, or that of the request where the layout is not known.
    #[inline(always)]
    pub fn main_or_self(&self) -> u64 {
        if self.main == 0 { self.request } else { self.main }
    }
}

/// The nginx that a request is of.
pub struct TracedBinary<'a> {
    pub traced: &'a Traced,
    pub layout: &'a NginxLayout,
}

/// Below this, no allocation of a position-independent nginx; what stands there is another module's number.
const POINTERS: u64 = 1 << 32;

impl Found {
    /// Reads a request; whether it is one.
    #[inline(always)]
    pub fn find(&mut self, request: u64, layout: &NginxLayout) -> bool {
        self.request.load(request) && self.read_on(request, 0, layout)
    }

    /// Reads the request that a log call is about, if there is one. What leads to it was in use a moment ago, so a page
    /// that is not there costs a record, and is counted.
    #[inline(always)]
    pub fn find_logged(&mut self, log: u64, layout: &NginxLayout) -> bool {
        if !self.log.load(log) {
            emit::count_loss(loss::UNREADABLE);
            return false;
        }
        let context = self.log.word(layout.log_data);
        if context == 0 {
            return false;
        }
        let request = user::word(context + LOG_CTX_REQUEST);
        if !self.request.load(request) {
            if request == 0 || request >= POINTERS {
                emit::count_loss(loss::UNREADABLE);
            }
            return false;
        }
        self.read_on(request, log, layout)
    }

    /// Reads what a request that is loaded leads to; `log` is loaded as well.
    #[inline(always)]
    fn read_on(&mut self, request: u64, log: u64, layout: &NginxLayout) -> bool {
        if self.request.word(0) as u32 != SIGNATURE {
            return false;
        }
        self.who.request = request;
        self.who.client = self.request.word(CONNECTION);
        self.client.load(self.who.client);
        self.who.log = self.client.word(layout.connection_log);
        if self.who.log != log {
            self.log.load(self.who.log);
        }
        self.who.connection = self.log.word(LOG_CONNECTION);
        self.who.log_level = self.log.word(LOG_LEVEL);
        self.upstream_at = self.request.word(layout.upstream);
        if self.upstream_at != 0 {
            self.upstream.load(self.upstream_at);
        }
        self.line_at = u64::from(request_line::offset(request, &mut self.line, layout));
        self.who.main = self.main(layout);
        true
    }

    /// Reads a request anew of which an attempt was reported, if it still is the one that it was.
    #[inline(always)]
    pub fn find_again(&mut self, reported: &Identity) -> bool {
        let same = self.request.load(reported.request)
            && self.request.word(0) as u32 == SIGNATURE
            && self.request.word(CONNECTION) == reported.client
            && user::word(reported.log + u64::from(LOG_CONNECTION)) == reported.connection;
        if same {
            self.who = *reported;
        }
        same
    }

    /// The main request; 0 when the layout is not known.
    #[inline(always)]
    fn main(&self, layout: &NginxLayout) -> u64 {
        if self.line_at == u64::from(ABSENT) {
            return 0;
        }
        let main = self.line.word(METHOD + layout.main_from_request_line);
        if main == self.who.request || user::read::<u32>(main) == Some(SIGNATURE) { main } else { 0 }
    }

    /// Whether the request line was found.
    #[inline(always)]
    pub fn has_line(&self) -> bool {
        self.line_at != u64::from(ABSENT)
    }

    /// Whether `r->upstream` is set.
    #[inline(always)]
    pub fn has_upstream(&self, layout: &NginxLayout) -> bool {
        self.request.word(layout.upstream) != 0
    }

    /// Whether `r->cache` is set.
    #[inline(always)]
    pub fn has_cache(&self, layout: &NginxLayout) -> bool {
        layout.cache != ABSENT && self.request.word(layout.cache) != 0
    }

    /// Copies the last upstream states into a record.
    #[inline(always)]
    pub fn copy_states(&mut self, record: &mut Request, layout: &NginxLayout) {
        let array = self.request.word(layout.upstream_states);
        upstream_states::copy_last(record, array, &mut self.state, layout);
    }

    /// `log->action`.
    #[inline(always)]
    pub fn action(&self, layout: &NginxLayout) -> u64 {
        self.log.word(layout.log_action)
    }

    /// Copies the Host header.
    #[inline(always)]
    pub fn host<const N: usize>(&self, to: &mut [u8; N], layout: &NginxLayout) -> u16 {
        let header = self.request.word(layout.host);
        if header == 0 { 0 } else { user::copy_ngx_str(to, header + HEADER_VALUE) }
    }

    /// Copies the client's address.
    #[inline(always)]
    pub fn address<const N: usize>(&self, to: &mut [u8; N], layout: &NginxLayout) -> u16 {
        let text = layout.connection_addr_text;
        user::copy_text(to, self.client.word(text), self.client.word(text + 8))
    }

    /// Copies the request line.
    #[inline(always)]
    pub fn line<const N: usize>(&self, to: &mut [u8; N]) -> u16 {
        if !self.has_line() {
            return 0;
        }
        user::copy_text(to, self.line.word(METHOD), self.line.word(METHOD + 8))
    }

    /// Copies `u->peer.name`; see [`user::copy_peer_name`].
    #[inline(always)]
    pub fn peer<const N: usize>(&self, to: &mut [u8; N], layout: &NginxLayout) -> (u16, u32) {
        if self.upstream_at == 0 {
            return (0, 0);
        }
        user::copy_peer_name(to, self.upstream.word(layout.peer_name))
    }

    /// `r->headers_out.status`; 0 when the layout is not known.
    #[inline(always)]
    pub fn status(&self, layout: &NginxLayout) -> u16 {
        status(self.who.request, self.line_at as u16, layout)
    }

    /// The upstream's `struct sock *` while nginx still holds it; 0 otherwise.
    #[inline(always)]
    pub fn upstream_sock(&self, layout: &NginxLayout) -> u64 {
        let connection = self.upstream.word(layout.peer_connection);
        if connection == 0 { 0 } else { sock_of_connection(connection, layout) }
    }

    /// How many upstream states there are.
    #[inline(always)]
    pub fn state_count(&self, layout: &NginxLayout) -> u32 {
        let array = self.request.word(layout.upstream_states);
        upstream_states::of_array(array).map_or(0, |(_, count, _)| count as u32)
    }
}

/// Whether a request that was found valid before still is one, and of the same connection.
#[inline(always)]
pub fn is_still(request: u64, client: u64, log: u64, number: u64) -> bool {
    let Some([signature, connection]) = user::read::<[u64; 2]>(request) else { return false };
    signature as u32 == SIGNATURE
        && connection == client
        && user::word(log + u64::from(LOG_CONNECTION)) == number
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

/// The nginx of the current process; `None` for others.
#[inline(always)]
pub fn build<'a>() -> Option<TracedBinary<'a>> {
    // SAFETY: map memory stays valid while a program runs; entries change only in `log_hides`.
    let traced = unsafe { TRACED.get(&task::tgid()) }?;
    Some(TracedBinary { traced, layout: layout(traced.layout)? })
}

/// The layout of a binary, to be completed in place.
#[inline(always)]
pub fn layout<'a>(index: u32) -> Option<&'a mut NginxLayout> {
    // SAFETY: array memory lives as long as the program; workers of one binary write the same value.
    LAYOUTS.get_ptr_mut(index).map(|layout| unsafe { &mut *layout })
}
