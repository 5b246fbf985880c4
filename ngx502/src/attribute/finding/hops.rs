//! The way from nginx to where the cause is: processes that forward, and addresses that are translated.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::Finding;
use crate::attribute::verdict::{ProcessFacts, Verdict};

/// One station on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// The process there: it listens, or did.
    pub process: Option<Rc<ProcessFacts>>,
    /// How the way leads there from the station before.
    pub relation: Relation,
    /// The address or path there.
    pub address: Rc<str>,
    /// The network namespace it is in; `None` where that is not known.
    pub namespace: Option<u32>,
    /// What happened there.
    pub finding: Finding,
}

/// How a way leads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// nginx connects there.
    Listens,
    /// The process at the station before connects there.
    ForwardsTo,
    /// The address at the station before is rewritten to this one.
    TranslatedTo,
    /// The process at the station before has connected there and waits for an answer.
    WaitsFor,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Relation::Listens => "connects to",
            Relation::ForwardsTo => "forwards to",
            Relation::TranslatedTo => "is translated to",
            Relation::WaitsFor => "waits for",
        })
    }
}

/// A connection on the way, whose moments are evidence as nginx's own are.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    /// Who connected; `None`: nginx.
    pub from: Option<Rc<ProcessFacts>>,
    /// Where to.
    pub to: Rc<str>,
}

/// A verdict as a sentence sees it: one about a station on the way speaks of that place.
pub(super) struct On<'a> {
    verdict: &'a Verdict,
    pub(super) target: &'a str,
    /// Who connects there; `None`: nginx.
    pub(super) from: Option<&'a ProcessFacts>,
}

impl<'a> On<'a> {
    /// As nginx sees it.
    pub(super) fn nginx(verdict: &'a Verdict) -> Self {
        Self { verdict, target: &verdict.target, from: None }
    }

    /// About the last station.
    pub(super) fn root(verdict: &'a Verdict) -> Self {
        match verdict.hops.last() {
            Some(hop) => Self::hop(verdict, hop),
            None => Self::nginx(verdict),
        }
    }

    /// About one station.
    fn hop(verdict: &'a Verdict, hop: &'a Hop) -> Self {
        Self { verdict, target: &hop.address, from: None }
    }

    /// About a connection on the way.
    pub(super) fn leg(verdict: &'a Verdict, leg: Option<&'a Leg>) -> Self {
        match leg {
            Some(leg) => Self { verdict, target: &leg.to, from: leg.from.as_deref() },
            None => Self::nginx(verdict),
        }
    }
}

impl Deref for On<'_> {
    type Target = Verdict;

    fn deref(&self) -> &Verdict {
        self.verdict
    }
}

impl Verdict {
    /// What happened at a station, without what leads there.
    pub fn happened<'a>(&'a self, hop: &'a Hop) -> impl fmt::Display + 'a {
        let on = On::hop(self, hop);
        fmt::from_fn(move |f| hop.finding.sentence(&on, f))
    }

    /// The way as lines for people: a station each.
    pub fn way(&self) -> Vec<String> {
        let mut from: (&str, Option<&ProcessFacts>) = (&self.target, None);
        let mut lines = Vec::with_capacity(self.hops.len());
        for (number, hop) in self.hops.iter().enumerate() {
            let mut line = match (hop.relation, from) {
                (Relation::TranslatedTo, (address, _)) => address.to_owned(),
                (_, (_, Some(process))) => process.name().to_string(),
                (_, (_, None)) => "nginx".to_owned(),
            };
            line += &format!(" {} {}", hop.relation, hop.address);
            // What happened at the last one is the verdict's own sentence.
            line += &match &hop.process {
                _ if number + 1 < self.hops.len() && hop.relation != Relation::TranslatedTo => {
                    format!(": {}", self.happened(hop))
                }
                Some(process) => format!(", {}", process.full()),
                None => String::new(),
            };
            lines.push(line);
            from = (&hop.address, hop.process.as_deref());
        }
        lines
    }

    /// The way as JSON's `hops`: see `docs/json.md`.
    pub fn hops(&self) -> impl Serialize {
        self.hops.iter().map(|hop| Written(self, hop)).collect::<Vec<_>>()
    }
}

/// A station as JSON shows it.
struct Written<'a>(&'a Verdict, &'a Hop);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(verdict, hop) = *self;
        let mut object = serializer.serialize_struct("hop", 8)?;
        object.serialize_field("process", &hop.process)?;
        object.serialize_field("relation", &hop.relation)?;
        object.serialize_field("address", &*hop.address)?;
        object.serialize_field("namespace", &hop.namespace)?;
        let container = hop.process.as_ref().and_then(|process| process.container.as_deref());
        object.serialize_field("container", &container)?;
        object.serialize_field("summary", &verdict.happened(hop).to_string())?;
        object.serialize_field("cause", &hop.finding.cause())?;
        object.serialize_field("certainty", &hop.finding.certainty())?;
        object.end()
    }
}
