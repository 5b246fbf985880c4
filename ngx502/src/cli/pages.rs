//! The manual page and the shell completions, both generated from the command tree, so that help is written once.

use std::io::{self, Write};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// Writes the manual page in roff: `ngx502(1)`, or with the name of a subcommand `ngx502-NAME(1)`.
///
/// # Errors
/// A name that is not a subcommand, or what `out` failed with.
pub(crate) fn man(name: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    let mut tree = Cli::command().disable_help_subcommand(true);
    tree.build();
    let page = name.map_or(Some(&tree), |name| tree.find_subcommand(name));
    let page = page.cloned().ok_or_else(|| {
        let names: Vec<_> = tree.get_subcommands().map(Command::get_name).collect();
        let name = name.unwrap_or_default();
        io::Error::other(format!("unknown command `{name}`: expected one of {}", names.join(", ")))
    })?;
    Man::new(page).render(out)
}

/// Writes a completion script for `shell`.
///
/// # Errors
/// What `out` failed with; a closed pipe among it.
pub(crate) fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // Rendered first, since the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ngx502", &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(name: Option<&str>) -> String {
        let mut out = Vec::new();
        man(name, &mut out).expect("a page");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn the_manual_page_has_every_subcommand_and_each_has_a_page() {
        let overview = page(None);
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(overview.contains(&format!("ngx502\\-{name}(1)")), "{name} in {overview}");
            assert!(page(Some(name)).contains(&format!(".TH ngx502-{name} 1")), "{name}");
        }
        assert!(page(Some("trace")).contains("\\-\\-passthrough"));
        assert!(man(Some("tarce"), &mut Vec::new()).is_err());
    }

    #[test]
    fn bash_zsh_and_fish_complete_every_subcommand() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completions(shell, &mut script).expect("a script");
            let script = String::from_utf8(script).expect("UTF-8");
            assert!(
                Cli::command().get_subcommands().all(|command| script.contains(command.get_name())),
                "{shell}"
            );
        }
    }
}
