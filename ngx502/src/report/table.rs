//! A table of the most frequent keys in bounded memory.

use std::cmp::Reverse;
use std::collections::HashMap;

/// Counts and values by key. Twice as many rows as asked for are kept; when they are full, the less frequent half is
/// dropped and only its sum remembered. So a key that matters is dropped only if it comes back after that, and the sums
/// stay exact.
#[derive(Debug)]
pub(super) struct Table<V> {
    limit: usize,
    rows: HashMap<Box<[u8]>, Row<V>>,
    /// Reused, so that counting a known key allocates nothing.
    key: Vec<u8>,
    dropped_rows: u64,
    dropped_count: u64,
}

/// A row of a [`Table`].
#[derive(Debug)]
pub(super) struct Row<V> {
    /// How often the key was counted.
    pub(super) count: u64,
    /// What is known of it.
    pub(super) value: V,
}

/// The end of a [`Table`].
#[derive(Debug)]
pub(super) struct Ranking<V> {
    /// At most `limit` rows, most frequent first, equal ones by key.
    pub(super) rows: Vec<Row<V>>,
    /// How many rows were left out.
    pub(super) other_rows: u64,
    /// The sum of their counts.
    pub(super) other_count: u64,
}

impl<V> Table<V> {
    /// Shows at most `limit` rows.
    pub(super) fn new(limit: usize) -> Self {
        Table { limit, rows: HashMap::new(), key: Vec::new(), dropped_rows: 0, dropped_count: 0 }
    }

    /// Adds `count` (may be 0) to the key that consists of `parts`.
    pub(super) fn add(&mut self, parts: &[&[u8]], count: u64, new: impl FnOnce() -> V) -> &mut V {
        self.key.clear();
        for part in parts {
            // The length keeps ("a", "bc") and ("ab", "c") apart, whatever bytes they hold.
            self.key.extend_from_slice(&part.len().to_le_bytes());
            self.key.extend_from_slice(part);
        }
        if !self.rows.contains_key(self.key.as_slice()) {
            if self.rows.len() >= 2 * self.limit {
                self.drop_rare();
            }
            self.rows.insert(self.key.as_slice().into(), Row { count: 0, value: new() });
        }
        let row = self.rows.get_mut(self.key.as_slice()).expect("the row was there or inserted above");
        row.count = row.count.saturating_add(count);
        &mut row.value
    }

    fn drop_rare(&mut self) {
        let mut rows: Vec<_> = self.rows.drain().collect();
        rows.sort_unstable_by(|a, b| (Reverse(a.1.count), &a.0).cmp(&(Reverse(b.1.count), &b.0)));
        for (_, row) in rows.drain(self.limit..) {
            self.dropped_rows += 1;
            self.dropped_count = self.dropped_count.saturating_add(row.count);
        }
        self.rows.extend(rows);
    }

    /// The most frequent rows.
    pub(super) fn ranking(mut self) -> Ranking<V> {
        if self.rows.len() > self.limit {
            self.drop_rare();
        }
        let mut rows: Vec<_> = self.rows.into_iter().collect();
        rows.sort_unstable_by(|a, b| (Reverse(a.1.count), &a.0).cmp(&(Reverse(b.1.count), &b.0)));
        Ranking {
            rows: rows.into_iter().map(|(_, row)| row).collect(),
            other_rows: self.dropped_rows,
            other_count: self.dropped_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_keys_keeps_the_frequent_ones_and_every_count() {
        let mut table = Table::new(10);
        for round in 0..10_000_u32 {
            table.add(&[b"steady"], 1, || "steady".to_owned());
            table.add(&[b"flood", &round.to_le_bytes()], 1, || round.to_string());
            assert!(table.rows.len() <= 20);
        }
        let ranking = table.ranking();
        assert_eq!((ranking.rows[0].value.as_str(), ranking.rows[0].count), ("steady", 10_000));
        assert_eq!(ranking.rows.len(), 10);
        let listed: u64 = ranking.rows.iter().map(|row| row.count).sum();
        assert_eq!(listed + ranking.other_count, 20_000);
    }

    #[test]
    fn parts_are_told_apart() {
        let mut table = Table::new(10);
        table.add(&[b"a", b"bc"], 1, || ());
        table.add(&[b"ab", b"c"], 1, || ());
        assert_eq!(table.ranking().rows.len(), 2);
    }
}
