//! No peer was left to try.

use std::fmt;

use bstr::BString;
use serde::{Serialize, Serializer};

use super::{Fix, On, Page, lossy};
use crate::attribute::verdict::{Cause, Symptom};

/// Every peer of the group was marked down by failures of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeersDown {
    /// Each with its last failure.
    pub peers: Vec<DownPeer>,
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

impl Page for PeersDown {
    fn cause(&self) -> Cause {
        Cause::AllPeersDown
    }

    fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every peer of {} is marked down: ", on.target)?;
        self.peers.iter().enumerate().try_for_each(|(number, DownPeer { address, symptom, cause })| {
            write!(f, "{}{address} {symptom} ({cause})", if number == 0 { "" } else { ", " })
        })
    }

    fn fix(&self, _on: &On<'_>, lines: &mut Vec<Fix>) {
        lines.push(Fix::advice(
            "repair the peers; fail_timeout and max_fails in the upstream block decide how long they stay out",
        ));
    }
}
