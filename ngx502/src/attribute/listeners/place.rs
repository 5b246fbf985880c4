//! Where a socket listens, what a connect may reach, and the lists that are filed by it.

use bstr::BString;

use crate::attribute::bounded::Bounded;
use crate::event::Endpoint;

/// Spots remembered in each list.
const SPOTS: usize = 8_192;
/// Listeners remembered at each: more than one where they share a port (SO_REUSEPORT), or come and go.
pub(super) const PER_SPOT: usize = 64;

/// What a connect to an endpoint may reach, whatever namespace it is in: wildcards make addresses useless as a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Port(u16),
    Path(BString),
}

/// Where a listener that is bound to `endpoint` is, and what a connect to `endpoint` may reach.
pub(super) fn place(endpoint: &Endpoint) -> Place {
    match endpoint {
        Endpoint::Tcp(address) => Place::Port(address.port()),
        Endpoint::Unix(path) => Place::Path(path.clone()),
    }
}

/// What listeners are filed under. Whoever opens and closes others of the same port, at another address or in another
/// namespace, does not push out what was here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    place: Place,
    netns: u32,
    bound: Endpoint,
}

impl Spot {
    pub(super) fn of(bound: &Endpoint, netns: u32) -> Self {
        Self { place: place(bound), netns, bound: bound.clone() }
    }

    pub(super) fn bound(&self) -> &Endpoint {
        &self.bound
    }

    pub(super) fn is_at(&self, place: &Place) -> bool {
        self.place == *place
    }

    /// The first one of a place, in their order.
    fn first(place: &Place) -> Self {
        let any = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        Self { place: place.clone(), netns: 0, bound: Endpoint::Tcp(any) }
    }
}

/// Listeners by spot.
#[derive(Debug)]
pub(super) struct Filed<T> {
    spots: Bounded<Spot, Vec<T>>,
    /// Where a spot had more than there is room for, and how many those were.
    overflown: Bounded<Place, u64>,
}

impl<T> Filed<T> {
    pub(super) fn new() -> Self {
        Self { spots: Bounded::new(SPOTS), overflown: Bounded::new(SPOTS) }
    }

    /// How many were forgotten for lack of room: spots, and listeners at one.
    pub(super) fn evicted(&self) -> u64 {
        let overflown: u64 = self.overflown.from(&Place::Port(0)).map(|(_, count)| count).sum();
        self.spots.evicted() + self.overflown.evicted() + overflown
    }

    /// Whether something was forgotten that may have been at a place.
    pub(super) fn forgot(&self, place: &Place) -> bool {
        self.spots.evicted() + self.overflown.evicted() > 0 || self.overflown.get(place).is_some()
    }

    /// All at a place, whatever address and namespace.
    pub(super) fn at<'a>(&'a self, place: &Place) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let place = place.clone();
        let spots = self.spots.from(&Spot::first(&place));
        spots.take_while(move |(spot, _)| spot.is_at(&place)).flat_map(|(_, list)| list)
    }

    /// The lists of a place.
    pub(super) fn lists_at<'a>(
        &'a mut self,
        place: &Place,
    ) -> impl Iterator<Item = &'a mut Vec<T>> + use<'a, T> {
        let place = place.clone();
        let spots = self.spots.range_mut(&Spot::first(&place));
        spots.take_while(move |(spot, _)| spot.is_at(&place)).map(|(_, list)| list)
    }

    /// The list of one spot.
    pub(super) fn list(&mut self, spot: &Spot) -> Option<&mut Vec<T>> {
        self.spots.get_mut(spot)
    }

    pub(super) fn holds(&self, spot: &Spot) -> bool {
        self.spots.get(spot).is_some()
    }

    /// Adds one as the youngest of its spot, which is the youngest of all then.
    pub(super) fn push(&mut self, spot: Spot, item: T) {
        let mut list = self.spots.remove(&spot).unwrap_or_default();
        if list.len() == PER_SPOT {
            list.remove(0);
            let before = self.overflown.get(&spot.place).copied().unwrap_or(0);
            self.overflown.insert(spot.place.clone(), before + 1);
        }
        list.push(item);
        self.spots.insert(spot, list);
    }

    /// Forgets the spots of a place where nothing is any more.
    pub(super) fn tidy(&mut self, place: &Place) {
        let spots = self.spots.from(&Spot::first(place)).take_while(|(spot, _)| spot.is_at(place));
        let empty: Vec<_> = spots.filter(|(_, list)| list.is_empty()).map(|(spot, _)| spot.clone()).collect();
        for spot in empty {
            self.spots.remove(&spot);
        }
    }
}
