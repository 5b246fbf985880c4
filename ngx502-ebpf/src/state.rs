//! What the programs remember, as data: the values of maps that BPF alone reads, and the room for what does not fit on the
//! stack of 512 bytes. Everything else builds on it and it on nothing; what can be done with a type is in the file named
//! after its subject (`thread`, `answer`, `request`, `sock_common`, `user_block`).

use ngx502_common::event::{Answer, Request, SocketFacts};

/// What a thread is in the middle of, see `thread`: the value of the map `THREADS`.
#[repr(C, align(8))]
pub struct Thread {
    /// Text of the `ngx_connection_error` call that is under way: its own `ngx_log_error_core` call says nothing new.
    pub reported_text: u64,
    pub reported_errno: i32,
    /// The arguments of the connect(2) that is under way.
    pub connect_fd: u32,
    /// When it began; 0 outside of connect(2).
    pub connect_at: u64,
    /// The request that got an error page of nginx's own last.
    pub error_page: u64,
    /// The request of which an attempt was sent last; its address is 0 for none.
    pub reported: Identity,
    /// The client that waits for its answer since last; `sk` 0 for none.
    pub watch: Watch,
    /// The upstream socket that it closed last, unless an attempt has reported it; `id` 0 for none.
    pub closed: SocketFacts,
    /// Room for an answer with a state, which may be sent while `record` is in the making.
    pub answer: AnswerScratch,
    /// Room for the addresses of a socket.
    pub head: SockCommon,
    /// The request that is read, or was read last.
    pub found: Found,
    /// Room for the largest record.
    pub record: [u8; size_of::<Request>()],
}

/// A thread's entry without the request.
pub struct ThreadScratch<'a> {
    pub reported: &'a mut Identity,
    pub watch: &'a mut Watch,
    pub closed: &'a mut SocketFacts,
    pub head: &'a mut SockCommon,
    pub record: &'a mut [u8; size_of::<Request>()],
}

/// A client that waits for an answer after a failed attempt.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Watch {
    /// Its socket; 0 for none.
    pub sk: u64,
    /// The main request, or the subrequest where the layout is not known.
    pub request: u64,
    /// The client's `ngx_connection_t`, its log, and its number.
    pub client: u64,
    pub log: u64,
    pub connection: u64,
    pub worker: u32,
    pub layout: u32,
    /// How many upstream states were reported to user space.
    pub states: u32,
    pub reserved: u32,
}

/// Where a long answer is built.
#[repr(C)]
pub struct AnswerScratch {
    pub record: Answer,
    pub block: StateBlock,
}

/// A request, and nginx's structs of it as far as they are read at once. In the thread's entry and not on the stack,
/// where there is no room for it.
#[repr(C)]
pub struct Found {
    /// Which request it is.
    pub who: Identity,
    /// `r->upstream`.
    pub upstream_at: u64,
    /// Distance of `request_line`, [`ABSENT`] when not known.
    pub line_at: u64,
    /// The beginning of `ngx_http_request_t`.
    pub request: UserBlock<256>,
    /// `r->method` and what follows: `http_version`, `request_line`, …, `main`.
    pub line: LineBlock,
    /// The client's `ngx_connection_t`.
    pub client: UserBlock<192>,
    /// Its `ngx_log_t`.
    pub log: UserBlock<80>,
    /// The beginning of `ngx_http_upstream_t`.
    pub upstream: UserBlock<96>,
    /// One `ngx_http_upstream_state_t`.
    pub state: StateBlock,
}

/// Which request it is, and what leads to it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Identity {
    pub request: u64,
    /// Its main request's address; 0 when the layout is not known.
    pub main: u64,
    /// The client's `ngx_connection_t`.
    pub client: u64,
    /// Its `ngx_log_t`.
    pub log: u64,
    /// `log->connection`.
    pub connection: u64,
    /// `log->log_level`.
    pub log_level: u64,
}

/// Room for an `ngx_http_upstream_state_t` of any release (64 to 112 bytes).
pub type StateBlock = UserBlock<128>;

/// `r->method` and what follows: `http_version`, `request_line`, …, `main`.
pub type LineBlock = UserBlock<168>;

/// `N` bytes of nginx's memory.
#[repr(C)]
pub struct UserBlock<const N: usize> {
    pub bytes: [u8; N],
    /// Where they are from.
    pub address: u64,
}

/// The beginning of a socket, where `struct sock_common` holds its addresses: one read costs as much as each of seven.
#[repr(C, align(8))]
pub struct SockCommon(pub [u8; SOCK_COMMON]);

/// Up to `skc_v6_rcv_saddr`, the last of what is wanted, which ends at 88 in Linux 5.10 to 7.2.
pub const SOCK_COMMON: usize = 96;
