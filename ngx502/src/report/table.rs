//! A table of the most frequent keys in bounded memory.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use super::model::Other;

/// Counts and values by key, of which at most `LIMIT` rows are shown. Twice as many are kept; when they are full, the less
/// frequent half is dropped and only its sum remembered. So a key that matters is dropped only if it comes back after
/// that, and the sums stay exact.
#[derive(Debug, Default)]
pub(super) struct Table<V, const LIMIT: usize> {
    rows: Vec<(Arc<[u8]>, Row<V>)>,
    /// Where each key is in `rows`.
    places: HashMap<Arc<[u8]>, usize>,
    /// The row that was counted last: mostly the next one, too.
    last: usize,
    /// Reused, so that counting a known key allocates nothing.
    key: Vec<u8>,
    dropped: Other,
}

/// A row of a [`Table`].
#[derive(Debug)]
pub(super) struct Row<V> {
    /// How often the key was counted.
    pub(super) count: u64,
    /// What is known of it.
    pub(super) value: V,
}

impl<V, const LIMIT: usize> Table<V, LIMIT> {
    /// Adds `count` (may be 0) to the key that consists of `parts`.
    pub(super) fn add(&mut self, parts: &[&[u8]], count: u64, new: impl FnOnce() -> V) -> &mut V {
        self.key.clear();
        for part in parts {
            // The length keeps ("a", "bc") and ("ab", "c") apart, whatever bytes they hold.
            self.key.extend_from_slice(&part.len().to_le_bytes());
            self.key.extend_from_slice(part);
        }
        if self.rows.get(self.last).is_none_or(|(key, _)| **key != *self.key) {
            self.last = self.place(new);
        }
        let (_, row) = &mut self.rows[self.last];
        row.count = row.count.saturating_add(count);
        &mut row.value
    }

    /// Where `key` is, or is put.
    fn place(&mut self, new: impl FnOnce() -> V) -> usize {
        if let Some(known) = self.places.get(self.key.as_slice()) {
            return *known;
        }
        if self.rows.len() >= 2 * LIMIT {
            self.drop_rare();
        }
        let key: Arc<[u8]> = self.key.as_slice().into();
        self.places.insert(Arc::clone(&key), self.rows.len());
        self.rows.push((key, Row { count: 0, value: new() }));
        self.rows.len() - 1
    }

    /// Keeps the `LIMIT` most frequent rows, in that order.
    fn drop_rare(&mut self) {
        self.sort();
        for (_, row) in self.rows.drain(LIMIT..) {
            self.dropped.rows += 1;
            self.dropped.failed = self.dropped.failed.saturating_add(row.count);
        }
        self.places =
            self.rows.iter().enumerate().map(|(place, (key, _))| (Arc::clone(key), place)).collect();
    }

    fn sort(&mut self) {
        self.rows.sort_unstable_by(|a, b| (Reverse(a.1.count), &a.0).cmp(&(Reverse(b.1.count), &b.0)));
    }

    /// At most `LIMIT` rows, most frequent first, equal ones by key, and what was left out.
    pub(super) fn ranking(mut self) -> (Vec<Row<V>>, Other) {
        if self.rows.len() > LIMIT {
            self.drop_rare();
        }
        self.sort();
        (self.rows.into_iter().map(|(_, row)| row).collect(), self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_keys_keeps_the_frequent_ones_and_every_count() {
        let mut table = Table::<_, 10>::default();
        for round in 0..10_000_u32 {
            table.add(&[b"steady"], 1, || "steady".to_owned());
            table.add(&[b"flood", &round.to_le_bytes()], 1, || round.to_string());
            assert!(table.rows.len() <= 20);
        }
        let (rows, other) = table.ranking();
        assert_eq!((rows[0].value.as_str(), rows[0].count), ("steady", 10_000));
        assert_eq!(rows.len(), 10);
        let listed: u64 = rows.iter().map(|row| row.count).sum();
        assert_eq!(listed + other.failed, 20_000);
    }

    #[test]
    fn parts_are_told_apart() {
        let mut table = Table::<_, 10>::default();
        table.add(&[b"a", b"bc"], 1, || ());
        table.add(&[b"ab", b"c"], 1, || ());
        assert_eq!(table.ranking().0.len(), 2);
    }
}
