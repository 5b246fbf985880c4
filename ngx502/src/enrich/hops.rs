//! From the process at the other end to what that one connected to itself, and on: whoever merely forwards is not the
//! cause.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::{Enricher, lookup, sockets};
use crate::event::{Body, Endpoint, Ends, Nanos, Onward, OnwardAttempt, Pid, ProcessRef, Socket};
use crate::proc;

/// Processes that are followed one after the other, at most.
const DEPTH: usize = 4;
/// Processes that are followed from one failure, at most: an accept queue may have as many holders.
const BREADTH: usize = 8;
/// Connections that are remembered as told; beyond, all are forgotten and told anew.
const MAX_TOLD: usize = 16 * 1024;

/// What was last told of each connection, by its id: whether it had ended.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<u64, bool>);

impl Told {
    /// Whether all is told of a connection: it had ended.
    fn is_done(&self, id: u64) -> bool {
        self.0.get(&id) == Some(&true)
    }

    fn tell(&mut self, attempt: &OnwardAttempt) {
        if self.0.len() >= MAX_TOLD {
            self.0.clear();
        }
        self.0.insert(attempt.socket.id, attempt.ended_at.is_some());
    }
}

impl Enricher {
    /// Adds what the processes behind nginx's failed attempt connected to, and what became of it.
    pub(super) fn follow(&mut self, socket: Option<&Socket>, worker: Pid, at: Nanos, bodies: &mut Vec<Body>) {
        if self.onward.is_none() {
            return;
        }
        for process in self.behind(socket, bodies) {
            self.follow_process(&process, worker, at, DEPTH, bodies);
        }
    }

    /// The processes that a failure may be due to: who closed or read the other end, who holds it, who listens, who did.
    fn behind(&self, socket: Option<&Socket>, answers: &[Body]) -> Vec<ProcessRef> {
        let ends = socket.into_iter().flat_map(|socket| {
            let closer = socket.closer.as_ref().map(|closer| closer.process.clone());
            closer.into_iter().chain(socket.owner.clone())
        });
        let mut found: Vec<ProcessRef> = ends.collect();
        for answer in answers {
            match answer {
                // Its holder let it go before it was looked for: a single one that listens there has had it, most likely.
                Body::PeerSocket(peer) if peer.holders.is_empty() && peer.accepted == Some(true) => {
                    let place = socket.and_then(|socket| self.last_holders(&socket.ends));
                    if let Some([only]) = place {
                        found.push(only.clone());
                    }
                }
                Body::PeerSocket(peer) => found.extend(peer.holders.iter().take(BREADTH).cloned()),
                Body::Endpoint(info) if info.asked && info.listeners.is_empty() => {
                    let former = self.holders.get(&info.endpoint);
                    found.extend(former.into_iter().flatten().take(BREADTH).cloned());
                }
                // A single one has accepted it, most likely.
                Body::Endpoint(info) if info.asked => {
                    let mut holders = info.listeners.iter().flat_map(|one| &one.holders);
                    if let (Some(only), None) = (holders.next(), holders.next()) {
                        found.push(only.clone());
                    }
                }
                _ => {}
            }
        }
        let mut met = HashSet::new();
        found.retain(|process| process.pid.0 != 0 && met.insert(process.pid));
        found.truncate(BREADTH);
        found
    }

    /// Who was last found to hold the listener that a connection leads to, wherever it is bound.
    fn last_holders(&self, ends: &Ends) -> Option<&[ProcessRef]> {
        let places = match ends {
            Ends::Tcp { remote, .. } => {
                let any =
                    [SocketAddr::from(([0; 4], remote.port())), SocketAddr::from(([0; 16], remote.port()))];
                [*remote, any[0], any[1]].map(Endpoint::Tcp).to_vec()
            }
            Ends::Unix { path } => vec![Endpoint::Unix(path.clone())],
        };
        places.iter().find_map(|place| self.holders.get(place)).map(Vec::as_slice)
    }

    /// Adds what the socket of an open connection has sent and received so far.
    fn measure(&mut self, attempt: &mut OnwardAttempt) {
        let OnwardAttempt { socket, ended_at: None, .. } = attempt else { return };
        let (Ends::Tcp { local, remote }, Some(_)) = (&socket.ends, socket.established_at) else { return };
        let (local, remote) = (*local, *remote);
        let Some(netns) = self.owners.namespace(socket.netns) else { return };
        match netns.run(|| sockets::exact(local, remote)) {
            Ok(Some(found)) => (socket.bytes_acked, socket.bytes_received) = (found.sent, found.received),
            Ok(None) => {}
            Err(error) => log::debug!("a socket table cannot be read: {error}"),
        }
    }

    fn follow_process(
        &mut self,
        process: &ProcessRef,
        viewer: Pid,
        at: Nanos,
        left: usize,
        bodies: &mut Vec<Body>,
    ) {
        let Some(left) = left.checked_sub(1) else { return };
        let reader = self.onward.as_ref();
        let Some(Onward { process, attempts: mut news }) =
            reader.and_then(|reader| reader.of(process.pid, |id| self.told.is_done(id)))
        else {
            return;
        };
        news.iter().for_each(|attempt| self.told.tell(attempt));
        // A process that is gone cannot look up anything; whoever looked before it sees mostly the same network.
        let viewer = if proc::runs(&process) { process.pid } else { viewer };
        news.iter_mut().for_each(|attempt| self.measure(attempt));
        for attempt in &news {
            self.report_other_end(Some(&attempt.socket), bodies);
            let before = bodies.len();
            self.answer(lookup::of_onward(viewer, attempt, at), at, bodies);
            for behind in self.behind(Some(&attempt.socket), &bodies[before..]) {
                self.follow_process(&behind, viewer, at, left, bodies);
            }
        }
        if !news.is_empty() {
            bodies.push(Body::Onward(Box::new(Onward { process, attempts: news })));
        }
    }
}
