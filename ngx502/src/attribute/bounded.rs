//! A map that forgets its oldest entries: the bound on every table of attribution.
//!
//! Iteration and eviction order depend only on the sequence of calls, so that a replay decides as the live trace did.

use std::collections::BTreeMap;

/// A map of at most `capacity` entries; writing an entry makes it the youngest.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    ages: BTreeMap<u64, K>,
    next: u64,
    capacity: usize,
    evicted: u64,
}

impl<K: Ord + Clone, V> Bounded<K, V> {
    /// An empty map for `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: BTreeMap::new(), ages: BTreeMap::new(), next: 0, capacity, evicted: 0 }
    }

    /// Sets an entry and returns what had to go to make room.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        let age = self.next;
        self.next += 1;
        if let Some((known, there)) = self.entries.get_mut(&key) {
            // The commonest case: the same peer fails again, and no other has failed since.
            if *known + 1 == age {
                (self.next, *there) = (age, value);
                return None;
            }
            let key = self.ages.remove(known).unwrap_or(key);
            (*known, *there) = (age, value);
            self.ages.insert(age, key);
            return None;
        }
        self.ages.insert(age, key.clone());
        self.entries.insert(key, (age, value));
        if self.entries.len() <= self.capacity {
            return None;
        }
        let (_, oldest) = self.ages.pop_first()?;
        let (_, value) = self.entries.remove(&oldest)?;
        self.evicted += 1;
        Some((oldest, value))
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (age, value) = self.entries.remove(key)?;
        self.ages.remove(&age);
        Some(value)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Entries with keys from `first` on, in the order of their keys.
    pub(super) fn from<'a>(&'a self, first: &K) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        self.entries.range(first..).map(|(key, (_, value))| (key, value))
    }

    /// The same, to be changed; no entry becomes younger by that.
    pub(super) fn range_mut<'a>(
        &'a mut self,
        first: &K,
    ) -> impl Iterator<Item = (&'a K, &'a mut V)> + use<'a, K, V> {
        self.entries.range_mut(first..).map(|(key, (_, value))| (key, value))
    }

    /// How many entries were forgotten for lack of room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_goes_first_and_is_counted() {
        let mut map = Bounded::new(2);
        assert_eq!(map.insert(1, 'a'), None);
        assert_eq!(map.insert(2, 'b'), None);
        assert_eq!(map.insert(1, 'c'), None, "a rewritten entry is young again");
        assert_eq!(map.insert(3, 'd'), Some((2, 'b')));
        assert_eq!((map.get(&1), map.evicted()), (Some(&'c'), 1));
        assert_eq!(map.remove(&1), Some('c'));
        assert_eq!(map.insert(4, 'e'), None);
    }
}
