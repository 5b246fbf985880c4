//! How processes end, as the kernel reports it.

use serde::{Deserialize, Serialize};

use super::{Pid, ProcessRef};

/// A process ended: all its threads are gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// Who.
    pub process: ProcessRef,
    /// Its parent.
    pub parent: Pid,
    /// `exit_code` as wait(2) returns it: signal in the low 7 bits, 0x80 core dumped, status in bits 8–15.
    pub code: i32,
    /// Cgroup v2 id; 0 or 1 when the host has no unified hierarchy.
    pub cgroup: u64,
    /// It was marked as an OOM victim.
    pub oom_victim: bool,
}

/// A signal was generated for a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// 1 to 64.
    pub signal: i32,
    /// `si_code`: 0 SI_USER, -6 SI_TKILL, 0x80 SI_KERNEL, > 0 a fault's own code.
    pub code: i32,
    /// To whom.
    pub target: ProcessRef,
    /// In whose context; the sender when `from_user`, else merely who ran (a fault's own process, an OOM's trigger).
    pub sender: ProcessRef,
    /// Cgroup v2 id of the sender.
    pub sender_cgroup: u64,
    /// kill(2), tgkill(2), sigqueue(2): a process sent it.
    pub from_user: bool,
    /// `si_addr` of a fault.
    pub fault_address: Option<u64>,
}

/// The OOM killer chose a victim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Oom {
    /// Who must die.
    pub victim: ProcessRef,
    /// In whose context memory ran out; not the culprit, not the victim.
    pub trigger: ProcessRef,
    /// True: a memory cgroup's limit; false: the whole system; `None`: not known.
    pub memcg: Option<bool>,
    /// The last component of the limiting cgroup's path.
    pub limit_cgroup: Option<String>,
    /// Its limit in bytes.
    pub limit_bytes: Option<u64>,
    /// The same of the victim's own.
    pub victim_cgroup: Option<String>,
    /// Victim's anonymous + file + shmem resident set in bytes.
    pub rss_bytes: Option<u64>,
}
