//! What of a finding is concluded and not observed: each makes the cause an inferred one, and says which link it is.

use std::fmt;

use bstr::BString;

use crate::units::Micros;

/// One link that was not observed. Prints as the words behind "inferred: ".
#[derive(Clone, Debug, PartialEq)]
pub enum Doubt {
    /// The connect's errno follows from a look-up; true when nginx's message was missed, false when its log hides it.
    ErrnoFromLookup(bool),
    /// error_log's level hides whether nginx had rejected the response before the connection ended.
    RejectionHidden,
    /// This process read from the connection last; on this kernel nothing shows who closes one.
    LastReader,
    /// It is the only process that listens there; on this kernel nothing shows who closes a connection.
    OnlyServer,
    /// It read from the connection last and died before that ended.
    LastReaderDied,
    /// It closed the connection, and ended so much later.
    ClosedFirst(Micros),
    /// It died as the connection ended.
    DiedMeanwhile,
    /// The times of the close and of the request are all that tells.
    CloseAndRequestCrossed,
    /// What was sent before may have been a handshake: nothing else says that the connection was reused.
    PerhapsFresh,
    /// Neither a FIN nor a RST was observed.
    EndUnseen,
    /// No signal of the kernel's was observed for a fatal fault.
    FaultUnseen,
    /// Nobody was seen to send the signal.
    SenderUnseen,
    /// The exit code is that of a process that ends upon that signal.
    ExitCode(i32),
    /// The process closed the connection upon a signal.
    ClosedUponSignal,
    /// The listener lives, so that something else must have refused.
    ListenerLives,
    /// The listening socket is gone, and its holder lives.
    CloseUnseen,
    /// Other processes shared the socket, and their end was not observed.
    Shared,
    /// It listened in another namespace than nginx's.
    OtherNamespace,
    /// It listens in other mounts than nginx's.
    OtherMounts,
    /// The address is that of another namespace of this host; that the connect led there was not observed.
    AddressOnly,
    /// The process that only forwards had one failed connection of its own in that time.
    ForwardedThen,
    /// The process that only forwards had several such connections, to different places.
    SeveralOnward(usize),
    /// A program that only forwards; no connection of its own was seen to fail.
    OnwardUnseen,
    /// The process that only forwards was ended when the one that it last led to had ended.
    EndedWithServer,
    /// Several threads of the process, or several processes, did different things.
    OneOfSeveral,
    /// It is the only process that listens there; who had the connection was not observed.
    SoleListener,
    /// The process has several threads, and which of them served the request is not known.
    WhichThread,
    /// Not all periods of the quota were used up, or nothing was seen to want to run.
    HeldNowAndThen,
    /// An event loop watches a connection that owes an answer.
    EventLoop,
    /// The child that the process waits for is stuck so.
    ItsChild,
    /// The cgroup is over its high mark, which slows down whoever asks for memory.
    SlowedByHighMark,
    /// A listener on this path ended, perhaps the same socket by another name.
    SimilarPath(BString),
    /// Listeners may have come and gone unobserved.
    Unwatched,
    /// No look-up confirmed it.
    NotLookedUp,
    /// As far as the tracer saw, the address is none of this host's.
    NotThisHost,
    /// The listener's accept queue was empty.
    QueueEmpty,
    /// Nobody listens there, and a closed port refuses at once.
    ClosedPortRefuses,
    /// Nothing waited in the accept queue, so that the connection had been accepted.
    NothingWaited,
    /// The server never acknowledged the request.
    NeverAcknowledged,
    /// Retransmissions went unanswered: the host or the path is down.
    NoAcknowledgement,
    /// Another host acknowledged the request; whether a process took it cannot be observed.
    AcknowledgedOnly,
    /// Both ends are on this host, and one never acknowledged what the other sent.
    BothEndsHere,
    /// Nothing else that answers so guards the worker.
    OnlySuspect,
    /// The errno alone tells; the port range was not looked up.
    RangeNotLookedUp,
    /// Ports were free when they were counted, a little later.
    CountedLater,
    /// The errno means a lack of ports or of an address, and ports were free.
    PortsFree,
    /// error_log's level hides the resolver's message.
    ResolverHidden,
    /// error_log's level hides OpenSSL's message.
    OpensslHidden,
    /// Servers without TLS do so.
    AsWithoutTls,
    /// error_log's level hides nginx's reason.
    ReasonHidden,
    /// The number of bytes tells.
    BySize,
    /// The group's members are not known: these peers failed lately.
    FailedLately,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doubt::ErrnoFromLookup(false) => {
                "error_log's level hides nginx's message; the connect error follows from a look-up"
            }
            Doubt::ErrnoFromLookup(true) => {
                "nginx's message was not observed; the connect error follows from a look-up"
            }
            Doubt::RejectionHidden => "error_log's level hides whether nginx had already rejected the response",
            Doubt::LastReader => {
                "last process seen reading; the close itself cannot be observed on this kernel"
            }
            Doubt::OnlyServer => {
                "only process listening there; the close itself cannot be observed on this kernel"
            }
            Doubt::LastReaderDied => "last process seen reading; it died before the connection ended",
            Doubt::ClosedFirst(before) => {
                return write!(f, "it closed the connection {before} before it ended");
            }
            Doubt::DiedMeanwhile => "it died as the connection ended",
            Doubt::CloseAndRequestCrossed => "close and request crossed, by their times",
            Doubt::PerhapsFresh => {
                "from the turns that were sent on it before, which may have been those of a handshake"
            }
            Doubt::EndUnseen => "neither FIN nor RST was observed",
            Doubt::FaultUnseen => "the fault itself was not observed",
            Doubt::SenderUnseen => "the sender was not observed",
            Doubt::ExitCode(code) => return write!(f, "exit code {code} corresponds to that signal"),
            Doubt::ClosedUponSignal => "the close followed that signal",
            Doubt::ListenerLives => "the listener is still there",
            Doubt::CloseUnseen => "the close itself was not observed",
            Doubt::Shared => "other processes shared the socket; their end was not observed",
            Doubt::OtherNamespace => {
                "it listened in another namespace than nginx, where the same name can mean another socket"
            }
            Doubt::OtherMounts => {
                "in its own mounts the same name leads to it; that it is the one which nginx means is concluded from the name"
            }
            Doubt::AddressOnly => "by its address; that the connect led there was not observed",
            Doubt::ForwardedThen => "the forwarder's own connection is matched by time",
            Doubt::SeveralOnward(count) => {
                return write!(f, "{count} connections of its own failed in that time, to different places");
            }
            Doubt::OnwardUnseen => "it only forwards, and no connection of its own was seen to fail",
            Doubt::EndedWithServer => "the forwarder was ended after that, which is matched by time",
            Doubt::OneOfSeveral => "its threads and processes were found in different states",
            Doubt::WhichThread => "which of its threads served the request is not known",
            Doubt::HeldNowAndThen => "not all the time, and the quota is its whole cgroup's",
            Doubt::SoleListener => "it is the only process that listens there",
            Doubt::EventLoop => {
                "its event loop watches a connection that owes an answer; which request that is for cannot be seen"
            }
            Doubt::ItsChild => "its child is, for which it waits",
            Doubt::SlowedByHighMark => "whoever asks for memory there is slowed down",
            Doubt::SimilarPath(path) => {
                return write!(f, "a listener on {path} ended; it may have been the same socket by another name");
            }
            Doubt::Unwatched => {
                "no listener at the start of tracing and none now; one in between would not have been observed"
            }
            Doubt::NotLookedUp => "from the refusal; no look-up confirmed it",
            Doubt::NotThisHost => "not an address of this host, as far as ngx502 can see",
            Doubt::QueueEmpty => "the listener's queue was empty",
            Doubt::ClosedPortRefuses => "nothing listens there, and a closed port refuses at once",
            Doubt::NothingWaited => "its accept queue was empty",
            Doubt::NeverAcknowledged => "the request was never acknowledged",
            Doubt::NoAcknowledgement => "host or path down",
            Doubt::AcknowledgedOnly => "whether a process accepted it was not observed",
            Doubt::BothEndsHere => "both ends are on this host, so that it is dropped here",
            Doubt::OnlySuspect => "nothing else that answers with this errno confines the worker",
            Doubt::RangeNotLookedUp => "from the errno; the port range was not looked up",
            Doubt::PortsFree => "from the errno, which means no address or no port, and ports were free",
            Doubt::CountedLater => "from the errno; ports were free again when counted",
            Doubt::ResolverHidden => "name resolution; error_log's level hides the message",
            Doubt::OpensslHidden => "not TLS; error_log's level hides OpenSSL's message",
            Doubt::AsWithoutTls => "as servers without TLS do",
            Doubt::ReasonHidden => "its bytes are invalid; error_log's level hides the reason",
            Doubt::BySize => "from its size",
            Doubt::FailedLately => "these peers failed lately; the group's members are not known",
        })
    }
}
