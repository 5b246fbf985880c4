//! Reads what the processes that serve nginx connected to themselves.

use anyhow::Result;
use aya::maps::{HashMap, MapData};
use ngx502_common::{
    event::RefusalFacts,
    onward::{Onward, Recent},
};

use super::load::Kernel;
use crate::decode;
use crate::event::{self, OnwardAttempt, Pid};

/// The kernel's memory of such connections.
pub struct OnwardReader {
    recent: HashMap<MapData, u32, Recent>,
    onward: HashMap<MapData, u64, Onward>,
    refusals: HashMap<MapData, u32, RefusalFacts>,
}

impl std::fmt::Debug for OnwardReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnwardReader").finish_non_exhaustive()
    }
}

impl OnwardReader {
    /// Takes the maps over.
    ///
    /// # Errors
    /// When they were taken before.
    pub fn take(kernel: &mut Kernel) -> Result<Self> {
        Ok(Self {
            recent: kernel.take("RECENT")?,
            onward: kernel.take("ONWARD")?,
            refusals: kernel.take("REFUSALS")?,
        })
    }

    /// The latest connections of a process, which may have ended by now; `None` when none was seen. Those of which `done`
    /// says by their id that all is known are not read again.
    pub fn of(&self, pid: Pid, done: impl Fn(u64) -> bool) -> Option<event::Onward> {
        let recent = self.recent.get(&pid.0, 0).ok()?;
        let keys = recent.keys.iter().filter(|key| **key != 0 && !done(**key));
        let found = keys.filter_map(|key| self.onward.get(key, 0).ok());
        let mut attempts: Vec<_> = found
            .filter(|onward| onward.connection.worker == pid.0)
            .filter_map(|one| self.attempt(&one))
            .collect();
        attempts.sort_by_key(|attempt| attempt.socket.connect_at);
        Some(event::Onward { process: decode::process(&recent.process), attempts })
    }

    fn attempt(&self, onward: &Onward) -> Option<OnwardAttempt> {
        let facts = &onward.connection.facts;
        let mut socket = decode::socket(facts)?;
        // The RST may have arrived before whoever sent it was seen to.
        if socket.refusal.is_none() && onward.ended_at != 0 && socket.established_at.is_none() {
            let refusal = self.refusals.get(&facts.first_unacked, 0).ok();
            socket.refusal = refusal.and_then(|refusal| decode::refusal(&refusal));
        }
        let (ended_at, closed_at) = (decode::time(onward.ended_at), decode::time(onward.closed_at));
        Some(OnwardAttempt { socket, ended_at, closed_at })
    }
}
