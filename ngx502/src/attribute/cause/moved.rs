//! Whose an address was before it was somebody else's, or nobody's: containers get new ones when they start again.

use crate::attribute::attempt::FailedAttempt;
use crate::attribute::destination::Destination;
use crate::attribute::finding::Moved;
use crate::attribute::homes::Tenant;
use crate::attribute::verdict::ProcessFacts;
use crate::attribute::world::World;
use crate::event::{ContainerNames, Endpoint};

/// Who had the address of a place before; `None` where it is still the same one's, by the container's name.
pub(super) fn of(world: &World, failure: &FailedAttempt, there: &Destination) -> Option<Moved> {
    let Endpoint::Tcp(place) = &there.endpoint else { return None };
    let address = place.ip().to_canonical();
    let now = match there.is_former() {
        true => None,
        false => Some(there.namespace().filter(|netns| *netns != failure.netns())?),
    };
    let facts = |tenant: &Tenant| world.processes.facts(&tenant.process);
    let before =
        world.homes.having(address, failure.netns()).filter(|tenant| Some(tenant.netns) != now).last()?;
    let now_facts = match now {
        Some(netns) => Some(facts(world.homes.tenant(netns)?)),
        None => None,
    };
    let before_facts = facts(before);
    let name = name(&before_facts);
    if name.is_some() && now_facts.as_deref().and_then(self::name) == name {
        return None;
    }
    let again = world.homes.tenants().filter(|other| {
        let alive = !world.processes.died_by(&other.process, failure.at);
        (other.netns, &other.process) != (before.netns, &before.process)
            && alive
            && name.is_some()
            && self::name(&facts(other)) == name
    });
    let is_at = again
        .last()
        .and_then(|other| other.addresses.iter().find(|found| found.is_ipv4() == address.is_ipv4()).copied());
    let exit = world.processes.find(&before.process).and_then(|life| life.exit.as_ref());
    let until = exit.map(|(at, _)| *at).filter(|at| *at <= failure.at);
    Some(Moved { address, before: before_facts, until, now: now_facts, is_at })
}

/// The name of a process's container.
fn name(process: &ProcessFacts) -> Option<String> {
    process.container_names.as_ref().and_then(ContainerNames::label)
}
