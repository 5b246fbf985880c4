//! Verdicts for other engines: sinks that write CSV and Parquet, from one table of columns.

mod csv;
mod parquet;
mod row;
#[cfg(test)]
mod tests;

pub use csv::CsvSink;
pub use parquet::ParquetSink;
