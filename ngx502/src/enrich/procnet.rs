//! Listeners from `/proc/PID/net`, for kernels and sandboxes without sock_diag: no queue limits, no bound files.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bstr::{BString, ByteSlice as _};

use super::sockets::Listening;
use crate::event::{Endpoint, Pid};
use crate::proc;

/// How much of a table is read: some 100,000 sockets.
const TABLE_BYTES: u64 = 16 * 1024 * 1024;

/// Every TCP and AF_UNIX stream listener of the namespace in which `pid` lives.
pub(super) fn listening(pid: Pid) -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        match proc::read_at_most(TABLE_BYTES, &format!("/proc/{pid}/net/{table}")) {
            Ok(text) => found.extend(text.lines().filter_map(tcp_line)),
            // A kernel without IPv6 has no tcp6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table == "tcp6" => {}
            Err(error) => return Err(error),
        }
    }
    let text = proc::read_at_most(TABLE_BYTES, &format!("/proc/{pid}/net/unix"))?;
    found.extend(text.lines().filter_map(unix_line));
    Ok(found)
}

/// A line of `/proc/net/tcp` or `tcp6`; `None` unless it is a listener.
fn tcp_line(line: &[u8]) -> Option<Listening> {
    let mut fields = line.to_str().ok()?.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    (state == "0A").then_some(())?;
    Some(Listening::at(Endpoint::Tcp(address(local)?), inode.parse().ok()?))
}

/// `0100007F:1F90`: the address as host-order words, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let (words, []) = ip.as_bytes().as_chunks::<8>() else { return None };
    let word = |digits: &[u8; 8]| Some(u32::from_str_radix(digits.to_str().ok()?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match *words.iter().map(word).collect::<Option<Vec<_>>>()?.as_flattened() {
        [a, b, c, d] => [a, b, c, d].into(),
        ref sixteen => <[u8; 16]>::try_from(sixteen).ok()?.into(),
    };
    Some(SocketAddr::new(ip, port))
}

/// A line of `/proc/net/unix`; `None` unless it is a named stream listener (flag `SO_ACCEPTCON`).
fn unix_line(line: &[u8]) -> Option<Listening> {
    // Num RefCount Protocol Flags Type St Inode Path; blanks may pad the inode, and be in the path.
    let mut fields = line.splitn_str(7, " ");
    let flags = u32::from_str_radix(fields.nth(3)?.to_str().ok()?, 16).ok()?;
    (flags & 0x1_0000 != 0 && fields.next()? == b"0001").then_some(())?;
    let (inode, path) = fields.nth(1)?.trim_start().split_once_str(" ")?;
    let mut name = BString::from(path);
    if let mark @ b'@' = name.first_mut()? {
        *mark = 0;
    }
    Some(Listening::at(Endpoint::Unix(name), inode.to_str().ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_line_is_a_listener_only_in_state_0a() {
        let line = b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let listener = tcp_line(line).expect("a listener");
        assert_eq!(listener.inode, 4711);
        assert_eq!(listener.bound, Endpoint::Tcp("127.0.0.1:8080".parse().expect("an address")));
        let connected = line.replacen(" 0A ", " 01 ", 1);
        assert_eq!(tcp_line(&connected), None);
        assert_eq!(tcp_line(b"  sl  local_address rem_address   st tx_queue rx_queue"), None);
    }

    #[test]
    fn an_ipv6_address_is_four_words_in_host_order() {
        let loopback = address("00000000000000000000000001000000:0050");
        assert_eq!(loopback, Some("[::1]:80".parse().expect("an address")));
        for hostile in
            ["", ":", "0100007F", "0100007:50", "0100007F:99999", "zz00007F:0050", "0100007F0100007F:1"]
        {
            assert_eq!(address(hostile), None, "{hostile}");
        }
    }

    #[test]
    fn a_unix_line_keeps_blanks_and_marks_abstract_names() {
        let line = b"ffff8880: 00000002 00000000 00010000 0001 01 21343 /run/a b.sock";
        let listener = unix_line(line).expect("a listener");
        assert_eq!((listener.bound, listener.inode), (Endpoint::Unix("/run/a b.sock".into()), 21343));
        let named = unix_line(b"ffff8880: 00000002 00000000 00010000 0001 01 7 @x").expect("a listener");
        assert_eq!(named.bound, Endpoint::Unix("\0x".into()));
        assert_eq!(unix_line(b"ffff8880: 00000003 00000000 00000000 0001 03 7 /run/x"), None);
        assert_eq!(unix_line(b"Num       RefCount Protocol Flags    Type St Inode Path"), None);
        assert_eq!(unix_line(b""), None);
    }
}
