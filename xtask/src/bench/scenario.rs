//! What is asked of nginx, and how much of it must be left while it is traced.

use std::fmt;

use clap::ValueEnum;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// TCP upstream, connections pooled, every request succeeds.
    KeepAlive,
    /// TCP upstream, a connection a request, every request succeeds.
    Short,
    /// AF_UNIX upstream, a connection a request, every request succeeds.
    Unix,
    /// Every request meets a closed port: a 502 each.
    Storm,
    /// Every other request meets a closed port, the rest succeeds on pooled connections.
    Mix,
}

impl Scenario {
    /// The path that wrk asks for; the bed has a location for it. `Mix` alternates by script.
    pub(super) fn path(self) -> &'static str {
        match self {
            Scenario::KeepAlive | Scenario::Mix => "/keep-alive",
            Scenario::Short => "/short",
            Scenario::Unix => "/unix",
            Scenario::Storm => "/storm",
        }
    }

    /// Whether some requests are to fail.
    pub(super) fn fails(self) -> bool {
        matches!(self, Scenario::Storm | Scenario::Mix)
    }

    /// The share of the untraced throughput that ngx502 has to leave; `None` where none was promised.
    pub(super) fn bar(self) -> Option<f64> {
        match self {
            Scenario::KeepAlive => Some(0.98),
            Scenario::Short => Some(0.95),
            Scenario::Unix => Some(0.97),
            Scenario::Storm => Some(0.90),
            Scenario::Mix => None,
        }
    }

    /// Its name on the command line and in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Scenario::KeepAlive => "keep-alive",
            Scenario::Short => "short",
            Scenario::Unix => "unix",
            Scenario::Storm => "storm",
            Scenario::Mix => "mix",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for scenario in Scenario::value_variants() {
            let value = scenario.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), scenario.name());
        }
    }
}
