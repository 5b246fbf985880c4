//! What processes wait for that did not answer nginx in time: they are still stuck as nginx gives up, so they can be asked.
//!
//! Looking takes a part of a second and may block (a path on a hung file system), so that it is done on a thread of its own:
//! [`Looker::ask`] never waits, and answers come as [`Body::Waits`] records a moment later.

mod descriptors;
mod process;
mod thread;

use std::collections::HashSet;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::descriptors::Tables;
use self::process::Sample;
use super::holders::SocketOwners;
use super::rate_limit::RateLimit;
use crate::event::{Body, Nanos, Pid, ProcessRef, ProcessWaits, Record, Waits};
use crate::proc::{self, clock};

/// Looks a second, all together.
const PER_SECOND: u32 = 8;
/// Questions that wait for the thread; more are dropped, since their answers would come too late.
const WAITING: usize = 8;
/// Processes of one question: an accept queue may have as many workers.
const PROCESSES: usize = 64;
/// Processes that those wait for, at each step.
const PEERS: usize = 8;
/// How far the chain of waits is followed, the processes asked about included.
const DEPTH: usize = 3;
/// Between the two samples of a look: long enough to tell computing from a moment's work.
const APART: Duration = Duration::from_millis(150);

/// Asks what processes wait for.
#[derive(Debug)]
pub struct Looker {
    questions: SyncSender<Vec<ProcessRef>>,
    limit: RateLimit<Pid>,
}

impl Looker {
    /// Starts the thread; answers come over the channel.
    ///
    /// # Errors
    /// When the system allows no thread.
    pub fn start() -> io::Result<(Self, UnboundedReceiver<Record>)> {
        let (questions, asked) = sync_channel(WAITING);
        let (answers, receiver) = unbounded_channel();
        std::thread::Builder::new().name("ngx502-waits".into()).spawn(move || serve(&asked, &answers))?;
        Ok((Self { questions, limit: RateLimit::new(PER_SECOND) }, receiver))
    }

    /// Asks about the processes that could have answered; at most once a second about the same.
    pub(super) fn ask(&mut self, mut processes: Vec<ProcessRef>, at: Nanos) {
        let mut met = HashSet::new();
        processes.retain(|process| process.pid.0 != 0 && met.insert(process.pid));
        processes.truncate(PROCESSES);
        let Some(first) = processes.first() else { return };
        if self.limit.allow(&first.pid, at) && self.questions.try_send(processes).is_err() {
            log::debug!("too many processes are to be looked at: some are not");
        }
    }
}

fn serve(asked: &Receiver<Vec<ProcessRef>>, answers: &UnboundedSender<Record>) {
    let mut owners = SocketOwners::default();
    while let Ok(processes) = asked.recv() {
        let body = Body::Waits(Box::new(look(&mut owners, processes)));
        if answers.send(Record { at: clock::now(), body }).is_err() {
            return;
        }
    }
}

/// Looks at processes, and at those that they wait for.
fn look(owners: &mut SocketOwners, processes: Vec<ProcessRef>) -> Waits {
    let (mut found, mut met) = (Vec::new(), HashSet::new());
    let mut next = processes;
    for _ in 0..DEPTH {
        next.retain(|process| met.insert(process.pid) && proc::runs(process));
        if next.is_empty() {
            break;
        }
        let before: Vec<_> = next.iter().map(Sample::of).collect();
        std::thread::sleep(APART);
        let mut tables = Tables::new(owners);
        let looked: Vec<_> = next
            .iter()
            .zip(before)
            .map(|(process, before)| process::look(process, &before, &mut tables))
            .collect();
        next = looked.iter().flat_map(behind).take(PEERS).collect();
        found.extend(looked);
    }
    Waits { processes: found }
}

/// Who is at the other end of what a process waits for.
fn behind(waits: &ProcessWaits) -> Vec<ProcessRef> {
    waits.threads.iter().flat_map(|thread| thread.doing.named()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::event::{Doing, Endpoint, SocketKind};

    /// A thread of this very process, blocked on a connection that owes an answer.
    #[test]
    fn a_thread_that_waits_for_an_answer_is_found_with_its_peer() {
        use std::io::Write as _;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut asking = TcpStream::connect(address).expect("a connection");
        let (silent, _) = listener.accept().expect("a connection");
        asking.write_all(b"SELECT 1").expect("room");
        let ending = asking.try_clone().expect("a descriptor");
        let reader = std::thread::spawn(move || asking.read(&mut [0; 8]).ok());
        let own = proc::process_ref(Pid(std::process::id())).expect("own identity");
        let wanted = |waits: &Waits| {
            waits.processes[0].threads.iter().any(|thread| match &thread.doing {
                Doing::Socket(socket) => {
                    let known = socket.kind == SocketKind::Tcp
                        && socket.sent_ms.is_some()
                        && socket.received_ms.is_none();
                    let there = socket.remote == Some(Endpoint::Tcp(address));
                    known && there && socket.peers.iter().any(|peer| peer.pid == own.pid)
                }
                _ => false,
            })
        };
        let mut owners = SocketOwners::default();
        owners.refresh();
        // The reader may not have begun to read at the first try.
        let found = (0..20).any(|_| wanted(&look(&mut owners, vec![own.clone()])));
        drop((silent, ending.shutdown(std::net::Shutdown::Both)));
        reader.join().expect("an end");
        assert!(found);
    }
}
