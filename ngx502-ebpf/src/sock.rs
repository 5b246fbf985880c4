//! How a socket's members are read: by a helper call each, or, where the verifier knows the type of the pointer, by a
//! plain load. A helper's way there and back takes some 20 ns, a load one or two, and the hooks on the success path run for
//! every socket of the machine.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    helpers::generated::{bpf_skc_to_tcp_sock, bpf_skc_to_unix_sock},
    programs::BtfTracePointContext,
};

use ngx502_common::{
    connection::Origins,
    net::{AF_INET, AF_INET6},
};

use crate::{
    kernel::{self, offset},
    sock_common,
    state::SockCommon,
};

/// A `struct sock *`.
pub trait Sock: Copy {
    /// Where it is, as a number.
    fn address(self) -> u64;

    /// `sk->sk_family`.
    fn family(self) -> u16;

    /// `sk->sk_err`.
    fn error(self) -> i32;

    /// The inode number of the socket that a process holds; 0 for an orphan.
    fn inode(self) -> u64;

    /// `unix_sk(sk)->addr`, of an AF_UNIX socket: 0 unless it is bound.
    fn unix_addr(self) -> u64;

    /// `unix_sk(sk)->peer`, of an AF_UNIX socket; where there is none, its address may also be 0.
    fn unix_peer(self) -> Option<Self>;

    /// Both ends' addresses; `None` for other families than IPv4 and IPv6.
    fn ends(self) -> Option<Ends>;

    /// Where TCP began to count; `None` for other protocols.
    fn origins(self) -> Option<Origins>;

    /// How far TCP has come; `None` for other protocols.
    fn progress(self) -> Option<Progress>;
}

/// The addresses of both ends; IPv4 in the first four bytes, also where it is mapped into IPv6. Ports in network byte order.
pub struct Ends {
    pub local: [u8; 16],
    pub remote: [u8; 16],
    pub local_port: u16,
    pub remote_port: u16,
    /// `struct net *`.
    pub net: u64,
}

/// How far a TCP socket has come: sequence numbers.
pub struct Progress {
    /// The first byte that is not acknowledged.
    pub snd_una: u32,
    /// The end of what was written.
    pub write_seq: u32,
    /// The end of what arrived, a FIN included.
    pub rcv_nxt: u32,
    /// The end of what was read.
    pub copied_seq: u32,
}

/// Any address: each member is read by the helper that checks it.
impl Sock for u64 {
    #[inline(always)]
    fn address(self) -> u64 {
        self
    }

    #[inline(always)]
    fn family(self) -> u16 {
        kernel::read_or(self, offset!(skc_family), 0)
    }

    #[inline(always)]
    fn error(self) -> i32 {
        kernel::read_or(self, offset!(sk_err), 0)
    }

    #[inline(always)]
    fn inode(self) -> u64 {
        kernel::read_or(socket_of(self), offset!(socket_inode), 0)
    }

    #[inline(always)]
    fn unix_addr(self) -> u64 {
        kernel::read_or(self, offset!(unix_addr), 0)
    }

    #[inline(always)]
    fn unix_peer(self) -> Option<Self> {
        kernel::read(self, offset!(unix_peer))
    }

    #[inline(always)]
    fn ends(self) -> Option<Ends> {
        let mut head = SockCommon::EMPTY;
        if !head.load(self) {
            return None;
        }
        let (local, remote) = head.addresses()?;
        Some(Ends {
            local,
            remote,
            local_port: kernel::read(self, offset!(inet_sport))?,
            remote_port: head.get(offset!(skc_dport))?,
            net: head.get(offset!(skc_net)).unwrap_or(0),
        })
    }

    #[inline(always)]
    fn origins(self) -> Option<Origins> {
        let acked: u64 = kernel::read(self, offset!(tcp_bytes_acked))?;
        let received: u64 = kernel::read(self, offset!(tcp_bytes_received))?;
        Some(Origins {
            sent: kernel::read::<u32>(self, offset!(tcp_snd_una))?.wrapping_sub(acked as u32),
            received: kernel::read::<u32>(self, offset!(tcp_rcv_nxt))?.wrapping_sub(received as u32),
        })
    }

    #[inline(always)]
    fn progress(self) -> Option<Progress> {
        Some(Progress {
            snd_una: kernel::read(self, offset!(tcp_snd_una))?,
            write_seq: kernel::read(self, offset!(tcp_write_seq))?,
            rcv_nxt: kernel::read(self, offset!(tcp_rcv_nxt))?,
            copied_seq: kernel::read(self, offset!(tcp_copied_seq))?,
        })
    }
}

/// An argument of a BTF tracepoint that is declared as `struct sock *`.
#[derive(Clone, Copy)]
pub struct TypedSock {
    typed: Typed,
    address: u64,
}

impl TypedSock {
    /// The argument at `index`.
    #[inline(always)]
    pub fn argument(ctx: &BtfTracePointContext, index: usize) -> Self {
        Self::new(Typed(ctx.arg::<*const c_void>(index) as u64))
    }

    #[inline(always)]
    fn new(typed: Typed) -> Self {
        Self { typed, address: typed.address() }
    }

    /// A pointer of `unix_sk(sk)`; `None` for a socket of another family, which the helper finds out.
    #[inline(always)]
    fn unix(self, member: u16) -> Option<Typed> {
        // SAFETY: the helper takes any socket.
        let typed = Typed(unsafe { bpf_skc_to_unix_sock(self.typed.0 as *mut c_void) } as u64);
        if typed.0 == 0 { None } else { typed.follow(member) }
    }

    /// The local port in network byte order.
    #[inline(always)]
    fn local_port(self) -> Option<u16> {
        let number: u16 = self.typed.load(offset!(skc_num))?;
        if number != 0 {
            return Some(number.to_be());
        }
        // A socket that is being closed has given its port back; this copy stays.
        self.tcp()?.load(offset!(inet_sport))
    }

    /// `tcp_sk(sk)`; `None` for a socket of another protocol, which the helper finds out.
    #[inline(always)]
    fn tcp(self) -> Option<Typed> {
        // SAFETY: the helper takes any socket.
        let tcp = Typed(unsafe { bpf_skc_to_tcp_sock(self.typed.0 as *mut c_void) } as u64);
        if tcp.0 == 0 { None } else { Some(tcp) }
    }
}

impl Sock for TypedSock {
    #[inline(always)]
    fn address(self) -> u64 {
        self.address
    }

    #[inline(always)]
    fn family(self) -> u16 {
        self.typed.load(offset!(skc_family)).unwrap_or(0)
    }

    #[inline(always)]
    fn error(self) -> i32 {
        self.typed.load(offset!(sk_err)).unwrap_or(0)
    }

    #[inline(always)]
    fn inode(self) -> u64 {
        // By the file, since the verifier does not know that the inode stands behind the socket.
        let inode = self
            .typed
            .follow(offset!(sk_socket))
            .and_then(|socket| socket.follow(offset!(socket_file)))
            .and_then(|file| file.follow(offset!(file_inode)));
        inode.and_then(|inode| inode.load(offset!(inode_number))).unwrap_or(0)
    }

    #[inline(always)]
    fn unix_addr(self) -> u64 {
        self.unix(offset!(unix_addr)).map_or(0, Typed::address)
    }

    #[inline(always)]
    fn unix_peer(self) -> Option<Self> {
        self.unix(offset!(unix_peer)).map(Self::new)
    }

    #[inline(always)]
    fn ends(self) -> Option<Ends> {
        let (local, remote) = match self.family() {
            AF_INET => (
                sock_common::widen(self.typed.load(offset!(skc_rcv_saddr))?),
                sock_common::widen(self.typed.load(offset!(skc_daddr))?),
            ),
            AF_INET6 => (
                sock_common::unmapped(self.typed.load_words(offset!(skc_v6_rcv_saddr))?),
                sock_common::unmapped(self.typed.load_words(offset!(skc_v6_daddr))?),
            ),
            _ => return None,
        };
        Some(Ends {
            local,
            remote,
            local_port: self.local_port()?,
            remote_port: self.typed.load(offset!(skc_dport))?,
            net: self.typed.follow(offset!(skc_net)).map_or(0, Typed::address),
        })
    }

    #[inline(always)]
    fn origins(self) -> Option<Origins> {
        let tcp = self.tcp()?;
        let acked: u64 = tcp.load(offset!(tcp_bytes_acked))?;
        let received: u64 = tcp.load(offset!(tcp_bytes_received))?;
        Some(Origins {
            sent: tcp.load::<u32>(offset!(tcp_snd_una))?.wrapping_sub(acked as u32),
            received: tcp.load::<u32>(offset!(tcp_rcv_nxt))?.wrapping_sub(received as u32),
        })
    }

    #[inline(always)]
    fn progress(self) -> Option<Progress> {
        let tcp = self.tcp()?;
        Some(Progress {
            snd_una: tcp.load(offset!(tcp_snd_una))?,
            write_seq: tcp.load(offset!(tcp_write_seq))?,
            rcv_nxt: tcp.load(offset!(tcp_rcv_nxt))?,
            copied_seq: tcp.load(offset!(tcp_copied_seq))?,
        })
    }
}

/// A pointer whose type the verifier knows: it allows plain loads, and makes those that go wrong give 0.
#[derive(Clone, Copy)]
struct Typed(u64);

impl Typed {
    /// The pointer as a number, for arithmetic and for functions that the verifier checks on their own, both of which are
    /// closed to pointers. Negated twice it is the same number and no pointer any more.
    #[inline(always)]
    fn address(self) -> u64 {
        let mut number = self.0;
        // SAFETY: two register instructions.
        unsafe {
            asm!("{n} = -{n}", "{n} = -{n}", n = inout(reg) number, options(nomem, nostack, pure));
        }
        number
    }

    /// Loads a member; `None` where the kernel has none.
    #[inline(always)]
    fn load<T: Copy>(self, offset: u16) -> Option<T> {
        if offset == ngx502_common::config::ABSENT {
            return None;
        }
        // SAFETY: the verifier checks that a member of this size is there.
        Some(unsafe { ((self.0 + u64::from(offset)) as *const T).read_volatile() })
    }

    /// Loads a `struct in6_addr`, which the kernel aligns to four bytes.
    #[inline(always)]
    fn load_words(self, offset: u16) -> Option<[u32; 4]> {
        Some([self.load(offset)?, self.load(offset + 4)?, self.load(offset + 8)?, self.load(offset + 12)?])
    }

    /// Loads a pointer, which may be null: its members are 0 then.
    #[inline(always)]
    fn follow(self, offset: u16) -> Option<Self> {
        self.load(offset).map(Self)
    }
}

/// The socket's network namespace.
#[inline(always)]
pub fn netns(sk: u64) -> u32 {
    netns_of(kernel::read_or(sk, offset!(skc_net), 0u64))
}

/// The number of a `struct net *`.
#[inline(always)]
pub fn netns_of(net: u64) -> u32 {
    kernel::read_or(net, offset!(net_inum), 0)
}

/// `sk->sk_socket`: 0 for an orphan or a connection that was not accepted.
#[inline(always)]
pub fn socket_of(sk: u64) -> u64 {
    kernel::read_or(sk, offset!(sk_socket), 0)
}

/// `sockaddr_un.sun_path` follows the two bytes of the family.
const SUN_PATH: u64 = 2;
/// `UNIX_PATH_MAX`.
const SUN_PATH_MAX: usize = 108;

/// Copies the path that a unix socket is bound to, and returns its length, 0 for none; an accepted socket shares its
/// listener's.
#[inline(always)]
pub fn unix_path(to: &mut [u8; 112], sk: u64) -> u16 {
    let address = sk.unix_addr();
    if address == 0 {
        return 0;
    }
    let len = kernel::read_or(address, offset!(unix_address_len), 0u32) as u64;
    if len <= SUN_PATH {
        return 0;
    }
    let path = address + u64::from(offset!(unix_address_name)) + SUN_PATH;
    kernel::copy_bytes::<112, SUN_PATH_MAX>(to, path, len - SUN_PATH)
}
