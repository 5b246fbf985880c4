//! Verdicts for other engines: CSV and Parquet, from one table of columns. JSON lines are the JSON sink's.

pub mod csv;
pub mod parquet;
pub mod row;
#[cfg(test)]
mod tests;

pub use csv::CsvWriter;
pub use parquet::ParquetWriter;
pub use row::{COLUMNS, Cell, Column, Row, Type};
