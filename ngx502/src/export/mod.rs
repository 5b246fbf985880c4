//! Verdicts for other engines: sinks that write CSV and Parquet, from one table of columns.

pub mod csv;
pub mod parquet;
pub mod row;
#[cfg(test)]
mod tests;

pub use csv::CsvSink;
pub use parquet::ParquetSink;
pub use row::{COLUMNS, Cell, Column, Row, Type};
