//! No peer was left to try.

use std::fmt;

use bstr::BString;
use serde::{Serialize, Serializer};

use super::{Page, Verdict, lossy};
use crate::attribute::verdict::{Cause, Symptom};

/// What took the peers down.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Peers {
    /// Each was marked down by its own failures.
    AllDown {
        /// Each with its last failure.
        peers: Vec<DownPeer>,
    },
    /// No cause: no failure of a peer was observed.
    NoneSeen,
}

/// A peer and its last failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DownPeer {
    /// As nginx names it.
    #[serde(serialize_with = "lossy")]
    pub address: BString,
    /// What nginx saw.
    #[serde(serialize_with = "symptom")]
    pub symptom: Symptom,
    /// Why.
    pub cause: Cause,
}

fn symptom<S: Serializer>(symptom: &Symptom, serializer: S) -> Result<S::Ok, S::Error> {
    symptom.fact().serialize(serializer)
}

impl Page for Peers {
    fn cause(&self) -> Cause {
        match self {
            Peers::AllDown { .. } => Cause::AllPeersDown,
            Peers::NoneSeen => Cause::Unknown,
        }
    }

    fn sentence(&self, on: &Verdict, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = &*on.target;
        match self {
            Peers::AllDown { peers } => {
                write!(f, "every peer of {group} is marked down: ")?;
                peers.iter().enumerate().try_for_each(|(number, DownPeer { address, symptom, cause })| {
                    write!(f, "{}{address} {symptom} ({cause})", if number == 0 { "" } else { ", " })
                })
            }
            Peers::NoneSeen => write!(
                f,
                "nginx found no live peer in {group}, and no failure of one was observed: max_conns, `down` in the \
                 configuration, or failures before tracing began"
            ),
        }
    }

    fn fix(&self, _on: &Verdict, lines: &mut Vec<String>) {
        if let Peers::AllDown { .. } = self {
            lines.push(
                "repair the peers; fail_timeout and max_fails in the upstream block decide how long they stay out"
                    .into(),
            );
        }
    }
}
