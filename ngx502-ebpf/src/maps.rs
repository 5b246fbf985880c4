//! The maps, each with who fills it and who empties it. Two more stand beside their only user, in `log_rate` and `stack`.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use ngx502_common::{
    config::{FileKey, KnownBinary, SOCKET_SLOTS_LEN, Traced, WORKER_SLOTS_LEN, loss, seen},
    connection::{Connection, Pair},
    event::RefusalFacts,
    latency::{Durations, Series},
    layout::NginxLayout,
    onward::{Onward, Recent},
};

use crate::state::{Thread, Watch};

/// Every record. 8 MiB hold a storm of some 30,000 failed requests a second for about 100 ms.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Counts of lost records by `loss` reason. Only ever grows; user space reads the difference.
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(loss::COUNT, 0);

/// Thread-group ids of traced nginx processes. User space inserts at start, the fork hook adds workers, the exit hook
/// removes.
#[map]
pub static TRACED: HashMap<u32, Traced> = HashMap::with_max_entries(16_384, 0);

/// Struct layouts, one per nginx binary. User space fills; BPF writes back the offset that a scan found.
#[map]
pub static LAYOUTS: Array<NginxLayout> = Array::with_max_entries(256, 0);

/// nginx executables with probes, so that a process is traced from its `execve` on. User space fills.
#[map]
pub static BINARIES: HashMap<FileKey, KnownBinary> = HashMap::with_max_entries(256, 0);

/// Upstream sockets of traced workers, by `struct sock *`. The state hook inserts at connect (AF_UNIX: the first
/// send); `tcp_destroy_sock` and `unix_release_sock` remove. User space reads the requests that are not counted yet.
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> = HashMap::with_max_entries(32_768, 0);

/// The same TCP sockets once they are established, by what their other end knows them by. Lives and dies with
/// `CONNECTIONS`.
#[map]
pub static PAIRS: HashMap<Pair, u64> = HashMap::with_max_entries(32_768, 0);

/// The latest RSTs to segments that met no connection, of any socket, by the sequence number of that segment. A storm's
/// excess evicts the oldest.
#[map]
pub static REFUSALS: LruHashMap<u32, RefusalFacts> = LruHashMap::with_max_entries(4_096, 0);

/// Connections that the processes in `HOLDERS` make themselves, by a number of their own. The state hook inserts; what is in
/// excess evicts the oldest, and user space reads.
#[map]
pub static ONWARD: LruHashMap<u64, Onward> = LruHashMap::with_max_entries(4_096, 0);

/// The keys of `ONWARD` by socket. Lives as long as the socket.
#[map]
pub static ONWARD_SOCKETS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(4_096, 0);

/// The keys of `ONWARD` by what the other end knows the connection by. An entry without one of `ONWARD` is not in the way.
#[map]
pub static ONWARD_PAIRS: LruHashMap<Pair, u64> = LruHashMap::with_max_entries(4_096, 0);

/// The latest connections of each of these processes, by its id. It outlives the process.
#[map]
pub static RECENT: LruHashMap<u32, Recent> = LruHashMap::with_max_entries(4_096, 0);

/// One all-zero entry each: the initial values for `ONWARD` and `RECENT`.
#[map]
pub static BLANK_ONWARD: Array<Onward> = Array::with_max_entries(1, 0);
#[map]
pub static BLANK_RECENT: Array<Recent> = Array::with_max_entries(1, 0);

/// How many entries of `ONWARD_SOCKETS` there are, or were before they were evicted, by slot of their socket; see `filter`.
#[map]
pub static ONWARD_SLOTS: Array<[u32; SOCKET_SLOTS_LEN]> = Array::with_max_entries(1, 0);

/// Client sockets of requests with a failed attempt, until nginx writes to them: all but each thread's latest, which is
/// in `THREADS`. Inserted when a later one takes that place, removed by the first write or the socket's end; a storm's
/// excess evicts the oldest.
#[map]
pub static WATCHED: LruHashMap<u64, Watch> = LruHashMap::with_max_entries(16_384, 0);

/// How many entries of `CONNECTIONS` and `WATCHED` there are by slot of their socket, in one entry; see `filter`.
#[map]
pub static SOCKET_SLOTS: Array<[u32; SOCKET_SLOTS_LEN]> = Array::with_max_entries(1, 0);

/// Whether a process of this slot was ever in `TRACED`; see `filter`.
#[map]
pub static WORKER_SLOTS: Array<u64> = Array::with_max_entries(WORKER_SLOTS_LEN, 0);

/// Whether there ever was what the constants in `seen` name; see `filter`.
#[map]
pub static SEEN: Array<u64> = Array::with_max_entries(seen::COUNT, 0);

/// What the threads of traced workers are in the middle of. Inserted by uprobes and at the close of an upstream socket,
/// removed at the thread's end; an entry is only ever used by its own thread.
#[map]
pub static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(1_024, 0);

/// One all-zero entry: the initial value for `THREADS`, too large for the stack.
#[map]
pub static BLANK: Array<Thread> = Array::with_max_entries(1, 0);

/// Processes that may hold a listening socket. User space inserts the start snapshot, listen and fork add, exit
/// removes.
#[map]
pub static HOLDERS: LruHashMap<u32, u8> = LruHashMap::with_max_entries(65_536, 0);

/// One all-zero entry: the initial value for `CONNECTIONS`.
#[map]
pub static BLANK_CONNECTION: Array<Connection> = Array::with_max_entries(1, 0);

/// The upstreams whose durations are counted, by their place; place 0 stands for those that found none. Only ever
/// filled, by the first response of each; how many there is room for depends on the number of CPUs (see
/// `kernel::load`).
#[map]
pub static SERIES: HashMap<u32, Series> = HashMap::with_max_entries(256, 0);

/// The paths of AF_UNIX series, by their place. Lives with `SERIES`.
#[map]
pub static PATHS: HashMap<u32, [u8; 112]> = HashMap::with_max_entries(256, 0);

/// Durations of upstream requests, two entries a place of `SERIES`: see `latency::durations_at`. User space reads and
/// never empties it.
#[map]
pub static DURATIONS: PerCpuArray<Durations> = PerCpuArray::with_max_entries(512, 0);

/// When the reader was last woken, in one entry.
#[map]
pub static WAKEUP: Array<u64> = Array::with_max_entries(1, 0);
