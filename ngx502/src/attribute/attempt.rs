//! A failed attempt: what nginx said about it and what the kernel saw, as one thing that a cause can be found for.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bstr::{BStr, BString, ByteSlice};

use super::finding::{LogWords, NginxWords, place};
use super::symptom::ETIMEDOUT;
use super::verdict::{Symptom, Times};
use crate::event::{Attempt, Endpoint, Ends, Nanos, Pid, Socket, State};

/// The prefix nginx gives to AF_UNIX peers.
const UNIX_PREFIX: &[u8] = b"unix:";

/// One failed attempt.
#[derive(Clone, Debug)]
pub(super) struct FailedAttempt {
    /// When nginx reported it.
    pub(super) at: Nanos,
    pub(super) worker: Pid,
    /// What the verdict shows.
    pub(super) symptom: Symptom,
    /// What failed: differs from `symptom` only for a truncated response.
    pub(super) underlying: Symptom,
    pub(super) errno: Option<i32>,
    /// What nginx said of it.
    pub(super) nginx: NginxWords,
    pub(super) peer: Option<BString>,
    pub(super) socket: Option<Box<Socket>>,
    /// nginx's own account, where the request carried it.
    pub(super) state: Option<State>,
    /// Nobody saw connect(2) fail with this errno: it follows from a look-up of the place.
    pub(super) concluded: bool,
}

impl FailedAttempt {
    /// The failure that one message reports.
    pub(super) fn reported(attempt: Attempt, at: Nanos, symptom: Symptom, underlying: Symptom) -> Self {
        let errno = attempt.errno.or(underlying.errno_of(attempt.socket.as_deref()));
        Self {
            at,
            worker: attempt.key.worker,
            symptom,
            underlying,
            // nginx's timer passes ETIMEDOUT although no call returned it; the contract shows it all the same.
            errno: errno.or(attempt.text.starts_with(b"upstream timed out").then_some(ETIMEDOUT)),
            concluded: false,
            peer: peer_name(&attempt).map(ToOwned::to_owned),
            nginx: NginxWords {
                words: if attempt.text.is_empty() { LogWords::Hidden } else { LogWords::Read },
                text: attempt.text,
                detail: attempt.detail,
                number: attempt.number,
                action: attempt.action,
                ..NginxWords::default()
            },
            socket: attempt.socket,
            state: None,
        }
    }

    /// Takes over what a second message about the same attempt adds.
    pub(super) fn complete(&mut self, attempt: Attempt) {
        self.peer = self.peer.take().or_else(|| peer_name(&attempt).map(ToOwned::to_owned));
        let NginxWords { detail, number, action, .. } = &mut self.nginx;
        if detail.is_none() || attempt.text.starts_with(b"%*s") {
            *detail = attempt.detail.or(detail.take());
        }
        self.errno = self.errno.or(attempt.errno);
        *number = number.or(attempt.number);
        *action = action.take().or(attempt.action);
        self.socket = attempt.socket.or(self.socket.take());
    }

    /// Whether nginx's message could not be read.
    pub(super) fn is_wordless(&self) -> bool {
        self.nginx.words != LogWords::Read
    }

    /// The upstream as sentences name it.
    pub(super) fn target(&self) -> Rc<str> {
        match self.endpoint() {
            Some(endpoint) => place(&endpoint).into(),
            None => self.peer.as_ref().map_or("the upstream".into(), |peer| peer.to_str_lossy().into()),
        }
    }

    /// Whether the peer is an AF_UNIX socket.
    pub(super) fn unix(&self) -> bool {
        is_unix(self.peer.as_deref().map(BStr::new), self.socket.as_deref())
    }

    /// The place nginx connected to.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        let named = || self.peer.as_ref().and_then(|peer| parse_peer(peer.as_bstr()));
        match self.socket.as_ref().map(|socket| &socket.ends) {
            // A connect that was refused before it had a route left the socket without addresses.
            Some(Ends::Tcp { remote, .. }) if remote.port() != 0 => Some(Endpoint::Tcp(*remote)),
            Some(Ends::Unix { path }) if !path.is_empty() => {
                named().or_else(|| Some(Endpoint::Unix(path.clone())))
            }
            _ => named(),
        }
    }

    /// The network namespace nginx connected in; 0 when unknown.
    pub(super) fn netns(&self) -> u32 {
        self.socket.as_ref().map_or(0, |socket| socket.netns)
    }

    /// When the request went to the upstream, or not long before.
    pub(super) fn began_at(&self) -> Nanos {
        let seen = self.socket.as_ref().and_then(|socket| socket.sent_at.or(socket.connect_at));
        let took = self.state.as_ref().and_then(|state| state.response_ms).unwrap_or(0);
        // nginx's clock has milliseconds.
        seen.unwrap_or(Nanos(self.at.0.saturating_sub((u64::from(took) + 1) * 1_000_000)))
    }

    /// The remote TCP address.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        match self.endpoint()? {
            Endpoint::Tcp(remote) => Some(remote),
            Endpoint::Unix(_) => None,
        }
    }

    /// Whether the address itself says that the upstream is on this host.
    pub(super) fn own_address(&self) -> bool {
        let local = self.socket.as_ref().and_then(|socket| match &socket.ends {
            Ends::Tcp { local, .. } => Some(local.ip().to_canonical()),
            Ends::Unix { .. } => None,
        });
        match self.remote().map(|remote| remote.ip().to_canonical()) {
            Some(ip) => ip.is_loopback() || is_any(ip) || local == Some(ip),
            None => self.unix(),
        }
    }

    /// The attempt's times: the kernel's where it saw them, else nginx's milliseconds.
    pub(super) fn times(&self) -> Times {
        let mut times = Times::default();
        if let Some(socket) = &self.socket {
            let reused = socket.requests > 1;
            let span = |from: Option<Nanos>, to: Option<Nanos>| Some(to?.micros_since(from?));
            if !reused {
                times.connect_us = span(socket.connect_at, socket.established_at);
            }
            times.first_byte_us =
                span(socket.sent_at, socket.first_byte_at.filter(|at| Some(*at) >= socket.sent_at));
            let began = if reused { socket.sent_at } else { socket.connect_at };
            times.total_us = span(began, Some(self.at));
        }
        match &self.state {
            Some(state) => or_nginx(times, state),
            None => times,
        }
    }
}

/// Fills what the kernel did not see from nginx's own clock, which has milliseconds.
pub(super) fn or_nginx(times: Times, state: &State) -> Times {
    let micros = |ms: Option<u32>| ms.map(|ms| u64::from(ms) * 1_000);
    Times {
        connect_us: times.connect_us.or(micros(state.connect_ms)),
        first_byte_us: times.first_byte_us.or(micros(state.header_ms)),
        total_us: times.total_us.or(micros(state.response_ms)),
    }
}

fn is_any(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

/// The peer's name: nginx's own, or the argument of `connect() to %V failed`.
fn peer_name(attempt: &Attempt) -> Option<&BString> {
    let from_text = attempt.text.starts_with(b"connect() to ").then_some(attempt.detail.as_ref()).flatten();
    attempt.peer.as_ref().or(from_text)
}

/// Whether a message concerns an AF_UNIX peer.
pub(super) fn concerns_unix(attempt: &Attempt) -> bool {
    is_unix(peer_name(attempt).map(|peer| peer.as_bstr()), attempt.socket.as_deref())
}

fn is_unix(peer: Option<&BStr>, socket: Option<&Socket>) -> bool {
    match socket.map(|socket| &socket.ends) {
        Some(Ends::Unix { .. }) => true,
        Some(Ends::Tcp { .. }) => false,
        None => peer.is_some_and(|peer| peer.starts_with(UNIX_PREFIX)),
    }
}

/// The place that nginx's name of a peer stands for; `None` for the name of a group.
pub(super) fn parse_peer(peer: &BStr) -> Option<Endpoint> {
    match peer.strip_prefix(UNIX_PREFIX) {
        Some(path) => Some(Endpoint::Unix(path.into())),
        None => peer.to_str().ok()?.parse().ok().map(Endpoint::Tcp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_addresses_paths_or_groups() {
        let tcp = |text: &str| Some(Endpoint::Tcp(text.parse().expect("an address")));
        assert_eq!(parse_peer("127.0.0.1:9000".into()), tcp("127.0.0.1:9000"));
        assert_eq!(parse_peer("[::1]:80".into()), tcp("[::1]:80"));
        assert_eq!(parse_peer("unix:/run/x.sock".into()), Some(Endpoint::Unix("/run/x.sock".into())));
        assert_eq!(parse_peer("backend".into()), None);
        assert_eq!(parse_peer(b"\xff:80".as_bstr()), None);
    }
}
