//! The kernel's numbers by which both sides know sockets; the same on every architecture.

/// `AF_UNIX`.
pub const AF_UNIX: u16 = 1;
/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;

/// `TCP_ESTABLISHED`. AF_UNIX sockets have this state, `CLOSE` and `LISTEN` as well.
pub const ESTABLISHED: u8 = 1;
/// `TCP_SYN_SENT`.
pub const SYN_SENT: u8 = 2;
/// `TCP_SYN_RECV`.
pub const SYN_RECV: u8 = 3;
/// `TCP_FIN_WAIT1`.
pub const FIN_WAIT1: u8 = 4;
/// `TCP_FIN_WAIT2`.
pub const FIN_WAIT2: u8 = 5;
/// `TCP_CLOSE`.
pub const CLOSE: u8 = 7;
/// `TCP_CLOSE_WAIT`.
pub const CLOSE_WAIT: u8 = 8;
/// `TCP_LAST_ACK`.
pub const LAST_ACK: u8 = 9;
/// `TCP_LISTEN`.
pub const LISTEN: u8 = 10;
/// `TCP_CLOSING`.
pub const CLOSING: u8 = 11;
