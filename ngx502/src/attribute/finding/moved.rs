//! An address that was another container's before: what was there, and where that is now.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use serde::Serialize;

use super::{Fix, On};
use crate::attribute::verdict::ProcessFacts;
use crate::event::Nanos;

/// Whose an address was and is; a process stands for the network namespace that it lives in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// The address.
    pub address: IpAddr,
    /// Who had it.
    pub before: Rc<ProcessFacts>,
    /// When that one ended; null where that was not observed.
    #[serde(skip)]
    pub until: Option<Nanos>,
    /// Who has it; null: nobody on this host.
    pub now: Option<Rc<ProcessFacts>>,
    /// Another address at which a container of the former one's name is.
    pub is_at: Option<IpAddr>,
}

impl Moved {
    /// `; 172.18.0.2 belongs to container worker now; container api, which had it until 3 s before this 502, is at
    /// 172.18.0.5`.
    pub(super) fn sentence(&self, on: &On<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, before) = (self.address, self.before.home());
        match &self.now {
            Some(now) => write!(f, "; {address} belongs to {} now", now.home())?,
            None => write!(f, "; {address} belongs to nobody on this host any more")?,
        }
        let until =
            fmt::from_fn(|f| self.until.map_or(Ok(()), |until| write!(f, " until{}", on.when(until))));
        match self.is_at {
            Some(new) => write!(f, "; {before}, which had it{until}, is at {new}"),
            None => write!(f, "; {before} had it{until}"),
        }
    }

    /// What to do where the former one is known to be elsewhere.
    pub(super) fn fix(&self, lines: &mut Vec<Fix>) {
        if self.is_at.is_some() {
            lines.push(Fix::command("nginx -s reload").remark(
                "nginx resolves names when it starts; a variable in proxy_pass with `resolver` does not wait",
            ));
        }
    }
}
